"""docs/operations.md, command by command in its order, on one machine with a real systemd."""

import pytest

from tests.docs.blocks import blocks
from tests.installing.conftest import box, wheels
from tests.systemd.box import REPOSITORY, Box
from tests.systemd.conftest import pytest_collection_modifyitems

__all__ = ["box", "pytest_collection_modifyitems", "wheels"]

pytestmark = pytest.mark.timeout(1200)

SOURCES = "bridge", "contrib", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"
SHOWN = {
    "./contrib/install.sh": ": in order, pid ",
    "printf 'FROM scratch": "hello:1 ",
    "podbridge status": "published reference=hello:1",
    "curl": "registry  https://",
    "echo 'keep: 30d'": "\nhello:1 ",
    "mkdir -p /srv/backup": "the tree is whole",
    "systemctl stop": "hello:1 ",
    "git pull": "podbridge 9.9.9: in order",
}
"""How a block begins, and what its output must hold."""

# Where the document reaches another machine, or a newer version, the test has itself.
_SSH = '#!/bin/sh\nshift 2\nexec "$@"\n'
_SCP = '#!/bin/sh\nexec cp "$2" "${3#*:}"\n'
_GIT = "#!/bin/sh\nexec sed -i 's/^__version__.*/__version__ = \"9.9.9\"/' bridge/__init__.py\n"


@pytest.fixture
def machine(box: Box) -> Box:
    """A machine with a checkout in /usr/src, whose one node is itself."""
    box.run("cp", "--recursive", *(f"/checkout/{name}" for name in SOURCES), "/usr/src/")
    for name, program in (("ssh", _SSH), ("scp", _SCP), ("git", _GIT)):
        box.write(f"/usr/local/bin/{name}", program, 0o755)
    box.write("/root/nodes", "node-1\n")
    box.write("/etc/hosts", "127.0.0.1 localhost registry.lan\n")
    return box


def test_every_command_of_the_document_does_what_it_says(machine: Box) -> None:
    missing = dict(SHOWN)
    for block in blocks(REPOSITORY / "docs" / "operations.md"):
        assert block.language == "sh", f"{block}: it is not tried"
        script = f"set -e; cd /usr/src; PATH=/usr/local/bin:$PATH\n{block.text}"
        done = machine.ask("bash", stdin=script, timeout=600)
        assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout}{done.stderr}{machine.journal()}"
        for begin in [begin for begin in missing if block.text.startswith(begin)]:
            assert missing.pop(begin) in done.stdout, f"{block}\n{done.stdout}"
    assert missing == {}
    assert machine.ask("find", "/opt/podbridge", "/etc/podbridge", "/usr/bin/podbridge").stdout == ""
