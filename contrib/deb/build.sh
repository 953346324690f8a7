#!/usr/bin/env bash
# Build the Debian package.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
# shellcheck source=contrib/lib.sh disable=SC1091
source "$root/contrib/lib.sh"
# shellcheck source=contrib/layout.sh disable=SC1091
source "$root/contrib/layout.sh"

if [[ ${1-} == --help || ${1-} == -h || $# -gt 1 ]]; then
    cat <<END
Usage: contrib/deb/build.sh [DIRECTORY]

Builds podbridge_VERSION_ARCHITECTURE.deb for the Debian that this machine runs (Debian 12) into
DIRECTORY, by default dist, and prints its path. Libraries come from PyPI by pip and its settings.
Needs python3 with venv, and no root.
END
    exit "$(($# > 1 ? 2 : 0))"
fi

output=${1:-$root/dist}
have dpkg-deb || die "there is no dpkg-deb: a Debian package is built on Debian"
want_python /nowhere
install_wanted
# Not the newest python3, but the one that the package will find.
python=/usr/bin/python3
"$python" -Ic 'import ensurepip, venv' 2>/dev/null || die "$python cannot make a virtual environment: apt-get install python3-venv"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/bridge/__init__.py")
architecture=$(dpkg --print-architecture)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat --format %Y "$root/CHANGELOG.md")}

work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
stage=$work/stage program=$work/stage/usr/lib/podbridge
umask 022
mkdir -p "$stage/DEBIAN" "$program"

# fill FILE: the same file with what is only known here.
fill() {
    local next minor
    minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
    next=$((minor + 1))
    sed -e "s/@VERSION@/$version-1/; s/@ARCHITECTURE@/$architecture/; s/@PYTHON@/3.$minor/; s/@NEXT@/3.$next/" \
        -e "s/@SIZE@/$(du --summarize --apparent-size --block-size=1024 "$stage" | cut -f 1)/" \
        -e "s/@DATE@/$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")/" \
        -e "s/@MAINTAINER@/${DEBFULLNAME:-podbridge} <${DEBEMAIL:-podbridge@localhost.localdomain}>/" "$1"
}

# A virtual environment finds itself by where its python is called: it may be moved, but for its programs' first lines.
make_program() {
    local hook
    "$python" -m venv "$work/pip"
    "$python" -m venv --without-pip "$program"
    "$work/pip/bin/python" -m pip --python "$program/bin/python" install --quiet --disable-pip-version-check --no-compile \
        --no-warn-script-location "$root" || die "pip could not install into the package (its words are above)."
    find "$program/bin" -type f -delete
    # Activation is for people; __pycache__ is made where the package is installed.
    find "$program" -name __pycache__ -prune -exec rm -r {} +
    rm -rf "${program:?}"/{include,lib64} "$program"/lib/python3*/site-packages/*.dist-info/{RECORD,direct_url.json,INSTALLER,REQUESTED}
    sed -i '/^command = /d' "$program/pyvenv.cfg"
    find "$program" -name '*.so*' -exec chmod 0644 {} +
    printf '%s\n' '#!/usr/lib/podbridge/bin/python' 'from bridge.cli import main' '' 'main()' >"$program/bin/podbridge"
    chmod 0755 "$program/bin/podbridge"
    mkdir -p "$stage/usr/bin"
    ln -s ../lib/podbridge/bin/podbridge "$stage/usr/bin/podbridge"
}

lay_out() {
    local from to mode
    PYTHONDONTWRITEBYTECODE=1 generate "$program/bin/python" "$work/generated"
    while IFS=$'\t' read -r from to; do
        mode=0644
        [[ ! -x $from ]] || mode=0755
        install -D --mode="$mode" "$from" "$stage$to"
    done < <(
        ZSH_FUNCTIONS=vendor-completions files_everywhere "$root/contrib" "$work/generated" /usr/share /usr/lib/podbridge/hooks
        files_of_root "$root/contrib" /usr/lib
    )
    install -D --mode=0644 "$root/contrib/podbridge.yaml" "$stage/etc/podbridge/podbridge.yaml"
    gzip --best --no-name "$stage/usr/share/man/man1/podbridge.1"
}

document() {
    local doc=$stage/usr/share/doc/podbridge
    install -D --mode=0644 "$root/contrib/deb/copyright" "$doc/copyright"
    gzip --best --no-name <"$root/CHANGELOG.md" >"$doc/changelog.gz"
    fill "$root/contrib/deb/changelog" | gzip --best --no-name >"$doc/changelog.Debian.gz"
    install -D --mode=0644 "$root/contrib/deb/lintian-overrides" "$stage/usr/share/lintian/overrides/podbridge"
    # What the confined form adds is put in place by hand: docs/systemd.md.
    install -D --mode=0644 --target-directory="$doc/systemd" "$root"/contrib/systemd/{confined,daemonless,podman.socket,tmpfiles-confined}.conf
    install --mode=0644 --target-directory="$doc" "$root"/README.md "$root"/docs/*.md
}

control() {
    install --mode=0755 --target-directory="$stage/DEBIAN" "$root"/contrib/deb/{postinst,prerm,postrm}
    echo /etc/podbridge/podbridge.yaml >"$stage/DEBIAN/conffiles"
    (cd "$stage" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$stage/DEBIAN/md5sums"
    fill "$root/contrib/deb/control" >"$stage/DEBIAN/control"
}

make_program
lay_out
document
control
mkdir -p "$output"
dpkg-deb --root-owner-group --build "$stage" "$output/podbridge_$version-1_$architecture.deb" >&2
echo "$output/podbridge_$version-1_$architecture.deb"
