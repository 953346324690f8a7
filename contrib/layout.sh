# shellcheck shell=bash
# What of podbridge goes where, for install.sh and the Debian package. Sourced, not run.

# generate PYTHON DIR: write the manual page and the shells' completions into DIR.
generate() {
    local shell
    mkdir -p "$2"
    "$1" -Pm bridge.cli.manual >"$2/podbridge.1"
    for shell in bash zsh fish; do
        _PODBRIDGE_COMPLETE=${shell}_source "$1" -Pc 'from bridge.cli import main; main()' >"$2/$shell"
    done
}

# files_everywhere CONTRIB GENERATED SHARE HOOKS: print "FROM<tab>TO" of what every form has. SHARE is /usr/share or its like,
# HOOKS where the hooks lie that are ready to be linked to.
files_everywhere() {
    printf '%s\t%s\n' \
        "$2/podbridge.1" "$3/man/man1/podbridge.1" \
        "$2/bash" "$3/bash-completion/completions/podbridge" \
        "$2/zsh" "$3/zsh/${ZSH_FUNCTIONS:-site-functions}/_podbridge" \
        "$2/fish" "$3/fish/vendor_completions.d/podbridge.fish" \
        "$1/podbridge.yaml" "$3/doc/podbridge/podbridge.yaml"
    local hook
    for hook in "$1"/../hooks/[0-9]*; do
        [[ ! -f $hook ]] || printf '%s\t%s\n' "$hook" "$4/${hook##*/}"
    done
}

# files_of_root CONTRIB LIB: print the same of root's form; LIB is /usr/lib or its like.
files_of_root() {
    local unit
    for unit in "$1"/systemd/*.{service,socket,path,timer}; do
        printf '%s\t%s\n' "$unit" "$2/systemd/system/${unit##*/}"
    done
    printf '%s\t%s\n' \
        "$1/systemd/sysusers.conf" "$2/sysusers.d/podbridge.conf" \
        "$1/systemd/tmpfiles.conf" "$2/tmpfiles.d/podbridge.conf"
}

# files_of_confined CONTRIB: print the same of what makes root's form the confined one.
files_of_confined() {
    printf '%s\t%s\n' \
        "$1/systemd/confined.conf" /etc/systemd/system/podbridge.service.d/confined.conf \
        "$1/systemd/podman.socket.conf" /etc/systemd/system/podman.socket.d/podbridge.conf \
        "$1/systemd/tmpfiles-confined.conf" /etc/tmpfiles.d/podbridge-confined.conf
}

# files_of_user CONTRIB CONFIG: print the same of a user's own; CONFIG is ~/.config or its like.
files_of_user() {
    local unit
    for unit in "$1"/systemd/user/*; do
        printf '%s\t%s\n' "$unit" "$2/systemd/user/${unit##*/}"
    done
}
