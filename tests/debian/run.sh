#!/bin/bash
# run.sh SUITE ROOT COMMAND...: run a command as root in a release of Debian (sid, trixie), which debootstrap brings to ROOT
# once, with podbridge's checkout at /podbridge and a virtual environment with it and what its tests need at /venv. The
# command has processes, mounts and a loopback of its own; all of that, and what it changed, is gone however it ends.
set -euo pipefail
suite=$1 root=$2
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
checkout=$(cd "$here/../.." && pwd -P)
venv=$root.venv
mirror=http://deb.debian.org/debian
packages=podman,buildah,skopeo,umoci,ca-certificates,crun,docker-cli,docker-registry,iproute2,jq,netavark,python3-venv,runc,uidmap

die() { printf '%s\n' "$*" >&2; exit 1; }

# Its processes die with this script, and its mounts with its processes.
namespaces=(setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child --ipc --uts --cgroup)

# inside [OPTION of unshare]... -- COMMAND...
inside() {
    local options=()
    while [[ $1 != -- ]]; do options+=("$1") && shift; done
    shift
    local kept=(HOME=/root PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8) name
    for name in "${!PODBRIDGE_@}" PIP_CERT PIP_EXTRA_INDEX_URL PIP_INDEX_URL CI TERM; do
        [[ ! -v $name ]] || kept+=("$name=${!name}")
    done
    "${namespaces[@]}" "${options[@]}" "$here/enter.sh" "$root" "$venv" "$checkout" env -i "${kept[@]}" "$@"
}

((EUID == 0)) || die "$0 mounts file systems: run it as root."
if [[ ! -d $root ]]; then
    command -v debootstrap >/dev/null || die "debootstrap is not installed: ./contrib/check -e newest installs it, and the rest."
    rm -rf "$root.new" # one that was cut short
    "${namespaces[@]}" debootstrap --variant=minbase --include="$packages" "$suite" "$root.new" "$mirror"
    rm -f "$root.new"/var/cache/apt/archives/*.deb
    mv "$root.new" "$root"
fi
wanted=$(sha256sum <"$checkout/pyproject.toml")
if [[ $wanted != "$(cat "$venv/.made-of" 2>/dev/null)" ]]; then
    rm -rf "$venv" && mkdir "$venv"
    inside -- python3 -m venv /venv
    inside -- pip install --quiet --editable . --group tests
    printf '%s\n' "$wanted" >"$venv/.made-of"
fi
inside --net -- "$@"
