#!/usr/bin/env bash
# Install podbridge as a service, or upgrade it, or take it away again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=contrib/lib.sh disable=SC1091
source "$root/contrib/lib.sh"
# shellcheck source=contrib/layout.sh disable=SC1091
source "$root/contrib/layout.sh"

usage() {
    cat <<END
Usage: contrib/install.sh [OPTION]...

Installs podbridge as a service and starts it; started again from a newer checkout, upgrades it.
As root: the program in /opt/podbridge, /usr/bin/podbridge, units for systemd, a manual page,
completion for bash, zsh and fish. What is missing (podman, skopeo, python3 with venv) comes by apt-get.
A configuration that is there is never touched.

  --user        for this user and his own podman: below ~/.local and ~/.config, without root
  --confined    as a user of its own who reaches podman only through its socket; an installation that
                is confined stays so without it
  --no-start    enable and start nothing; an upgrade leaves that so
  --uninstall   stop it, and remove what was installed; configuration and published images stay
  --purge       with --uninstall: also configuration, published images, and the user podbridge
  --dry-run     say what would be done, and do nothing
  --help        this
END
}

user='' confined='' uninstall='' purge='' dry='' start=1
while (($#)); do
    case $1 in
        --user) user=1 ;;
        --confined) confined=1 ;;
        --no-start) start='' ;;
        --uninstall) uninstall=1 ;;
        --purge) purge=1 ;;
        --dry-run) dry=1 ;;
        --help | -h) usage && exit ;;
        *) die "unknown option $1; --help shows which there are" ;;
    esac
    shift
done
[[ ! $purge || $uninstall ]] || die "--purge goes with --uninstall"
[[ ! $user || ! $confined ]] || die "--confined is a form of root's installation, not of a user's"
if [[ $user ]]; then
    ((EUID)) || die "--user is for a user; root's own podman gets root's installation, without --user"
    config=${XDG_CONFIG_HOME:-$HOME/.config} share=${XDG_DATA_HOME:-$HOME/.local/share}
    home=$share/podbridge-program program=$HOME/.local/bin/podbridge tree=$share/podbridge
    hooks=$home/hooks systemctl=(systemctl --user) runs=${XDG_RUNTIME_DIR:-/nowhere}/systemd/private
else
    ((EUID == 0 || ${dry:-0})) || die "root installs for the whole machine (sudo $0); --user installs for you alone"
    config=/etc share=/usr/local/share
    home=/opt/podbridge program=/usr/bin/podbridge tree=/var/lib/podbridge
    hooks=/usr/local/lib/podbridge/hooks systemctl=(systemctl) runs=/run/systemd/system
fi
confined_now=/etc/systemd/system/podbridge.service.d/confined.conf
[[ $user || ! -e $confined_now ]] || confined=1
units=(podbridge-registry.socket podbridge-control.socket podbridge.service)
others=(podbridge-api.socket podbridge-sync.path podbridge-sync.timer podbridge-sync.service podbridge-registry.service)
changed=''
# There once it was decided what is enabled: by the first installation, or by --no-start. From then on it is the administrator's.
decided=$home/enabled-once

# step WORDS COMMAND...: say it and do it; with --dry-run only say it.
step() {
    if [[ $dry ]]; then
        printf 'would %s\n' "$1"
    else
        say "${1}"
        "${@:2}"
    fi
    changed=1
}

# put FROM TO: a file, where it is not the same already.
put() {
    local mode=0644
    [[ ! -x $1 ]] || mode=0755
    cmp -s "$1" "$2" || step "write $2" install -D --mode="$mode" "$1" "$2"
}

# link FROM TO: replace a link by one rename.
link() {
    mkdir -p "${2%/*}"
    ln -s "$1" "$2.new" && mv -T "$2.new" "$2"
}

all_files() {
    files_everywhere "$root/contrib" "$home/generated" "$share" "$hooks"
    if [[ $user ]]; then
        files_of_user "$root/contrib" "$config"
    else
        files_of_root "$root/contrib" /usr/local/lib
        [[ ! $confined ]] || files_of_confined "$root/contrib"
    fi
}

# The sources' own digest: the same sources are not installed again.
stamp() {
    (cd "$root" && find bridge pyproject.toml -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum) | sha256sum | cut -c 1-12
}

install_program() {
    local stamp venv
    stamp=$(stamp)
    venv=$home/venv-$stamp
    if [[ $(readlink "$home/current" 2>/dev/null) != "$venv" || ! -x $home/current/bin/podbridge ]]; then
        # Beside the one that runs, and switched by one rename: what fails here changes nothing.
        step "install the program into $venv" install_venv "$venv" "$stamp"
        step "make $home/current lead there" link "$venv" "$home/current"
    fi
    [[ $(readlink "$program" 2>/dev/null) == "$home/current/bin/podbridge" ]] ||
        step "link $program to it" link "$home/current/bin/podbridge" "$program"
}

install_venv() {
    mkdir -p "$home"
    virtual_environment "$1" "$2" "$root"
    rm -rf "$home/generated.new"
    generate "$1/bin/python" "$home/generated.new"
    rm -rf "$home/generated"
    mv "$home/generated.new" "$home/generated"
}

remove_older_programs() {
    local old
    for old in "$home"/venv-*; do
        [[ ! -e $old || $old == "$(readlink "$home/current")" ]] || step "remove the program before, $old" rm -rf "$old"
    done
}

install_files() {
    local from to
    while IFS=$'\t' read -r from to; do
        put "$from" "$to"
    done < <(all_files)
    [[ -e $config/podbridge/podbridge.yaml ]] ||
        step "write $config/podbridge/podbridge.yaml, all of it comments" install -D --mode=0644 "$root/contrib/podbridge.yaml" "$config/podbridge/podbridge.yaml"
}

prepare_system() {
    if have systemd-sysusers && ! getent passwd podbridge >/dev/null; then
        step "make the user podbridge" systemd-sysusers /usr/local/lib/sysusers.d/podbridge.conf
    fi
    # Some of what it sets up does not exist yet on a machine that has not booted; that is said, and no failure.
    if have systemd-tmpfiles && [[ $changed ]]; then
        step "make the directories in /run" create_directories
    fi
}

create_directories() {
    local files=(/usr/local/lib/tmpfiles.d/podbridge.conf)
    [[ ! $confined ]] || files+=(/etc/tmpfiles.d/podbridge-confined.conf)
    systemd-tmpfiles --create "${files[@]}" || say "systemd-tmpfiles could not make all of it (its words are above)"
}

start_service() {
    if ! have systemctl; then
        say "there is no systemd here: start it by hand, $program serve"
        return
    fi
    if [[ ! -e $runs ]]; then
        # Without a running systemd this only makes links, for the next boot of this root file system.
        is_decided || step "enable ${units[*]} for the next boot" "${systemctl[@]}" enable --quiet "${units[@]}"
        say "systemd does not run here: until it does, start it by hand, $program serve"
        return
    fi
    [[ ! $changed ]] || step "have systemd read the units" "${systemctl[@]}" daemon-reload
    [[ ! $confined || $(stat --format=%G /run/podman/podman.sock 2>/dev/null) == podbridge ]] ||
        step "restart podman.socket, now for the group podbridge" systemctl restart podman.socket
    if is_decided; then
        # What an administrator has chosen to run stays so, without the service for one.
        [[ ! $changed ]] || step "restart what runs of it" restart_and_wait
        any_is_enabled || say "nothing of podbridge is enabled, and that stays so until: ${systemctl[*]} enable --now ${units[*]}"
    else
        step "enable and start ${units[*]}, and wait for the first look" start_and_wait
    fi
    [[ ! $user ]] || linger
}

# Say whether an upgrade finds what is enabled as somebody has left it.
is_decided() { [[ -e $decided ]] || any_is_enabled; }

any_is_enabled() {
    local unit
    for unit in "${units[@]}" "${others[@]}"; do
        [[ $("${systemctl[@]}" is-enabled "$unit" 2>/dev/null) != enabled ]] || return 0
    done
    return 1
}

start_and_wait() {
    # enable tells of links on standard error; --quiet leaves errors.
    "${systemctl[@]}" enable --quiet --now "${units[@]}" || failed_to_start
}

# Its sockets stay open meanwhile, and no pull is lost.
restart_and_wait() {
    local services=(podbridge.service)
    [[ $user ]] || services+=(podbridge-registry.service)
    "${systemctl[@]}" try-restart "${services[@]}" || failed_to_start
}

failed_to_start() {
    die "it did not start; why: ${systemctl[*]} status 'podbridge*'"
}

linger() {
    [[ ! -e /var/lib/systemd/linger/$(id -un) ]] || return 0
    step "keep it running while you are logged out" loginctl enable-linger ||
        say "it ends when you log out, unless root says: loginctl enable-linger $(id -un)"
}

summary() {
    [[ ! $dry ]] || return 0
    local shown
    shown=$(timeout 30 "$program" status 2>/dev/null) || true
    [[ ! $shown ]] || printf '%s\n\n' "$shown"
    cat <<END
Try:
  podman build -t localhost/hello:1 .
  podman pull --tls-verify=false 127.0.0.1:5000/hello:1
Configuration: $config/podbridge/podbridge.yaml. How it is: podbridge status. Everything else: man podbridge.
END
    [[ :$PATH: == *:${program%/*}:* ]] || say "${program%/*} is not on your PATH: the program is $program"
}

stop_service() {
    have systemctl || return 0
    local known
    # Without a running systemd, disabling only removes links.
    known=$(for unit in "${units[@]}" "${others[@]}"; do unit_is_there "$unit" && printf '%s ' "$unit"; done || true)
    [[ $known ]] || return 0
    # shellcheck disable=SC2086 # a list of words
    if [[ -e $runs ]]; then
        step "stop and disable podbridge" "${systemctl[@]}" disable --quiet --now $known
    else
        step "disable podbridge" "${systemctl[@]}" disable --quiet $known
    fi
}

unit_is_there() {
    local to
    to=/usr/local/lib/systemd/system/$1
    [[ ! $user ]] || to=$config/systemd/user/$1
    [[ -e $to ]]
}

remove_all() {
    local to gone=()
    while IFS=$'\t' read -r _ to; do
        [[ ! -e $to ]] || gone+=("$to")
    done < <(all_files)
    for to in "${gone[@]}"; do
        step "remove $to" rm -f "$to"
    done
    [[ ! $(readlink "$program") == "$home"/* ]] || step "remove $program" rm -f "$program"
    [[ ! -e $home ]] || step "remove $home" rm -rf "$home"
    [[ $dry ]] || remove_empty
    if have systemctl && [[ -e $runs && $changed ]]; then
        step "have systemd read the units" "${systemctl[@]}" daemon-reload
        [[ ! $confined ]] || step "restart podman.socket, as it was" systemctl restart podman.socket
    fi
}

# Directories that were made for it, where nothing of somebody else's is in them.
remove_empty() {
    rmdir --ignore-fail-on-non-empty "$share/doc/podbridge" /usr/local/lib/podbridge{/hooks,} /etc/systemd/system/pod{bridge.service,man.socket}.d 2>/dev/null || true
}

remove_data() {
    [[ ! -e $tree ]] || step "remove $tree, all that is published" rm -rf "$tree"
    [[ ! -e $config/podbridge ]] || step "remove $config/podbridge, the configuration" rm -rf "$config/podbridge"
    [[ ! $user ]] || return 0
    [[ ! -e /run/podbridge ]] || step "remove /run/podbridge" rm -rf /run/podbridge
    ! getent passwd podbridge >/dev/null || step "remove the user podbridge" userdel podbridge
}

if [[ $uninstall ]]; then
    stop_service
    remove_all
    [[ ! $purge ]] || remove_data
    [[ $changed ]] || say "nothing of podbridge is installed here"
    [[ $purge || $dry || ! -e $tree ]] || say "left alone: $tree and $config/podbridge; --uninstall --purge removes them too"
    exit
fi

! { have dpkg-query && [[ ! $user ]] && dpkg-query --show --showformat '${db:Status-Status}' podbridge 2>/dev/null | grep -qx installed; } ||
    die "the Debian package podbridge is installed: upgrade that, or remove it first (apt-get remove podbridge)"
[[ ! -e $program || $(readlink "$program") == "$home"/* ]] || die "$program is there, but was not made by this script, which leaves it alone. Move it away."
want_podman
want_python "$home"
if ((${#packages[@]})); then
    step "install packages:${reasons[*]/#/ }" install_wanted
fi
warn_without_subids
install_program
install_files
[[ $user ]] || prepare_system
[[ ! $start ]] || start_service
[[ $dry ]] || ! have systemctl || touch "$decided"
remove_older_programs
summary
