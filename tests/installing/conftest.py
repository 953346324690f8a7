"""The wheels that an installation without a network takes, a machine to install on, and the Debian package."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.programs import run
from tests.systemd.box import REPOSITORY, Box, bare
from tests.systemd.conftest import pytest_collection_modifyitems

__all__ = ["pytest_collection_modifyitems"]

BUILD = REPOSITORY / "contrib" / "deb" / "build.sh"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what podbridge depends on, and what builds it, for Debian's own python3."""
    directory = tmp_path_factory.mktemp("wheels")
    directory.chmod(0o755)
    command = "/usr/bin/python3", "-m", "venv", directory / "venv"
    run(*command)
    pip = directory / "venv" / "bin" / "python"
    builders = "hatchling>=1.24", "pip", "setuptools", "wheel"  # the last three for pipx
    run(pip, "-m", "pip", "wheel", "--quiet", "--wheel-dir", directory, REPOSITORY, *builders, timeout=600)
    for wheel in directory.glob("podbridge-*"):
        wheel.unlink()
    return directory


@pytest.fixture
def box(wheels: Path) -> Iterator[Box]:
    """A machine without podbridge that sees this checkout in /checkout and the wheels in /wheels."""
    with bare(Path("/"), {REPOSITORY: "/checkout", wheels: "/wheels"}) as box:
        box.run("rm", "-rf", "/usr/bin/podbridge", "/opt/podbridge", "/var/lib/podbridge", "/etc/podbridge")
        # pip asks no index: there is no network. Whatever else this machine has told it does not hold there.
        box.run("rm", "-rf", "/etc/xdg/pip", "/root/.config/pip", "/root/.pip")
        box.write("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /wheels\n")
        yield box


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this checkout."""
    return Path(run(BUILD, tmp_path_factory.mktemp("package"), timeout=600).splitlines()[-1])
