# shellcheck shell=bash
# What quickstart and check share: install what is missing, make a virtual environment. Sourced, not run.

# Ctrl-C while pip works is no failure of pip's, though its exit code says so.
trap 'exit 130' INT
# An ordinary user's PATH on Debian leaves these out, and iptables and nginx live there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# In a virtual environment of ours: what it was made for; empty while pip is at work, so that what was cut short is made anew.
mark=.made-by-podbridge

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null; }

packages=() # Debian's names of what is missing
reasons=()  # the same with a reason for each group, for people

# want REASON PACKAGE...
want() {
    packages+=("${@:2}")
    reasons+=("${*:2} ($1)")
}

want_podman() {
    # Whoever has a podman has chosen what goes with it. A new one gets what a plain `podman build` needs: a RUN has no
    # network without netavark and iptables, and without the storage.conf of containers-storage Debian's podman keeps a
    # whole copy of every layer (vfs) for a user who is not root.
    have podman || want "to build and keep images" podman crun netavark aardvark-dns iptables catatonit containers-storage
    have skopeo || want "to read docker-format images" skopeo
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || ! have apt-get || want "to trust registries" ca-certificates
    if ((EUID)) && ! { have newuidmap && { have slirp4netns || have pasta; }; }; then
        # podman 4 takes slirp4netns, podman 5 passt; the kernel's own overlay serves most file systems, not all.
        want "for podman without root" uidmap slirp4netns passt fuse-overlayfs
        # Without the user's own bus podman warns at every call. Where systemd does not run, this would bring it along.
        [[ ! -d /run/systemd/system ]] || want "for its control groups" dbus-user-session
    fi
}

warn_without_subids() {
    local first
    if ((EUID)) && have getsubids && ! getsubids "$(id -un)" >/dev/null 2>&1; then
        first=$(cat /etc/subuid /etc/subgid 2>/dev/null | awk -F: '{ n = $2 + $3; if (n > m) m = n } END { print (m > 100000 ? m : 100000) }')
        say "$(id -un) has no subordinate ids, so podman cannot unpack most images. As root:
    usermod --add-subuids $first-$((first + 65535)) --add-subgids $first-$((first + 65535)) $(id -un)
then: podman system migrate"
    fi
}

# want_python DIR: what the virtual environment in DIR needs, if it is still to be made.
want_python() {
    [[ -s $1/$mark && -x $1/bin/python || $(newest_python) ]] ||
        want "for podbridge itself, 3.11 or newer" python3 python3-venv
}

# Print the path of the newest python3 that can make a virtual environment, or nothing. Each one is asked, because Debian
# keeps ensurepip in a package of its own and because pyenv leaves names with nothing behind them.
newest_python() {
    local name path
    for name in $(compgen -c python3 | grep -xE 'python3(\.[0-9]+)?' | sort -u); do
        while read -r path; do
            "$path" -Ic 'import ensurepip, sys, venv
v = sys.version_info
if v >= (3, 11) and v.releaselevel == "final":
    print("%d.%d.%d" % v[:3], sys.executable)' 2>/dev/null || true
        done < <(type -aP "$name")
    done | sort -V | tail -n 1 | cut -d ' ' -f 2-
}

# Install what was wanted; with nothing wanted, do nothing.
install_wanted() {
    ((${#packages[@]})) || return 0
    local why by_root="    apt-get update && apt-get install --no-install-recommends ${packages[*]}
and start $0 again."
    why=$(printf ', %s' "${reasons[@]}")
    why=${why:2}
    have apt-get || die "missing: $why. This system has no apt-get: install them under its own names, and start $0 again."
    if ((EUID == 0)); then
        say "installing $why"
    elif have sudo; then
        say "installing, with sudo: $why"
        # Not `sudo -v`, which asks for a password even where one rule of several spares it.
        sudo true || die "sudo refused (its words are above). Ask the administrator to run
$by_root"
    else
        die "missing: $why. You are not root, and there is no sudo. Ask the administrator to run
$by_root"
    fi
    # One dead source of several is worth a word, no more: the others may have it all.
    apt_get update -o APT::Update::Error-Mode=any || true
    apt_get install --yes --no-install-recommends "${packages[@]}" ||
        die "apt-get could not install that (its words are above). Mend it, or run as root
$by_root"
}

# apt-get as root, silent unless it fails; a new machine's own first upgrade may hold dpkg's lock for a while.
apt_get() {
    local output sudo=()
    ((EUID == 0)) || sudo=(sudo)
    output=$("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" 2>&1) ||
        { printf '%s\n' "$output" | tail -n 20 >&2 && return 1; }
}

# virtual_environment DIR STAMP PIP-ARGUMENT...: make DIR and pip install into it, unless that is done for this STAMP.
virtual_environment() {
    local venv=$1 stamp=$2 made='' installed='' version python
    [[ ! -s $venv/$mark ]] || { read -r made && read -r installed; } <"$venv/$mark" || true
    version=$("$venv/bin/python" -V 2>/dev/null) || version=none
    [[ $made != "$version" || $installed != "$stamp" ]] || return 0

    [[ -e $venv/$mark || -z $(ls -A "$venv" 2>/dev/null) ]] ||
        die "$venv is there, but was not made by this script, which leaves it alone. Move it away, or give quickstart another place in PODBRIDGE_VENV."
    { mkdir -p "$venv" && true >"$venv/$mark"; } 2>/dev/null ||
        die "$venv cannot be written by $(id -un). Remove it (it is made anew), or give quickstart another place in PODBRIDGE_VENV."
    if [[ $made != "$version" ]]; then
        python=$(newest_python)
        [[ $python ]] || die "no python3 of version 3.11 or newer with venv and ensurepip is on PATH; Debian 12 and Ubuntu 24.04 have it as python3 and python3-venv."
        say "making the virtual environment $venv with $python"
        find "$venv" -mindepth 1 ! -name "$mark" -delete
        "$python" -m venv "$venv" || die "$python could not make $venv (its words are above)."
        version=$("$venv/bin/python" -V)
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${@:3}" ||
        die "pip could not install into $venv (its words are above). Is the package index reachable? 'pip config list' shows which one it asks."
    printf '%s\n' "$version" "$stamp" >"$venv/$mark"
}
