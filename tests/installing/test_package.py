"""The Debian package, as far as it shows without being installed; and the program alone, by pipx."""

import re
import subprocess
from pathlib import Path

import pytest

from bridge import __version__
from tests.end_to_end.programs import ask, run
from tests.systemd.box import REPOSITORY

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, extracted anywhere."""
    tree = tmp_path_factory.mktemp("extracted")
    run("dpkg-deb", "--extract", package, tree)
    return tree


def test_it_says_what_it_is_and_what_it_needs(package: Path) -> None:
    told = run("dpkg-deb", "--info", package)
    assert f"Version: {__version__}-1\n" in told
    depends = re.search(r"Depends: (.*)", told)
    assert depends is not None
    for name in ("podman", "skopeo", "python3 (>= 3.", "python3 (<< 3."):
        assert name in depends[1]
    assert "conffiles" in told


def test_everything_in_it_is_roots_and_in_its_place(package: Path) -> None:
    listed = run("dpkg-deb", "--contents", package).splitlines()
    assert {line.split()[1] for line in listed} == {"root/root"}
    names = {line.split()[5].removeprefix(".") for line in listed}
    assert {
        "/usr/bin/podbridge", "/usr/lib/systemd/system/podbridge.service",
        "/usr/lib/systemd/system/podbridge-registry.socket", "/usr/lib/sysusers.d/podbridge.conf",
        "/usr/lib/tmpfiles.d/podbridge.conf", "/etc/podbridge/podbridge.yaml", "/usr/share/man/man1/podbridge.1.gz",
        "/usr/share/bash-completion/completions/podbridge", "/usr/share/doc/podbridge/copyright",
        "/usr/lib/podbridge/hooks/10-require-label",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith(".pyc") or "/pip/" in name]
    writable = [line for line in listed if line[0] != "l" and "w" in (line[5], line[8])]
    assert writable == []


def test_the_program_runs_from_where_it_was_extracted(tree: Path) -> None:
    program = tree / "usr" / "lib" / "podbridge" / "bin" / "python"
    done = ask(program, "-Pm", "bridge", "--version")
    assert (done.returncode, done.stdout) == (0, f"podbridge {__version__}\n"), done.stderr
    where = run(program, "-Pc", "import bridge, aiohttp, msgspec, isal; print(bridge.__file__)")
    assert where.startswith(str(tree))
    assert ask(program, "-Pm", "bridge", "sync", "--help").returncode == 0


def test_nothing_in_it_names_the_place_where_it_was_built(tree: Path) -> None:
    found = subprocess.run(
        ("grep", "--recursive", "--files-with-matches", "--binary-files=text", "-e", "/tmp/tmp.", tree),
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout == ""


def test_pipx_installs_the_program(wheels: Path, tmp_path: Path) -> None:
    places = {"PIPX_HOME": tmp_path / "home", "PIPX_BIN_DIR": tmp_path / "bin"}
    pip = {"PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels}
    environment = (f"{name}={value}" for name, value in {**places, **pip}.items())
    run("env", *environment, "/usr/bin/pipx", "install", "--python", "/usr/bin/python3", REPOSITORY, timeout=600)
    assert run(tmp_path / "bin" / "podbridge", "--version") == f"podbridge {__version__}"
