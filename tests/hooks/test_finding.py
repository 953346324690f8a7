"""Only programs of root or of the service's user are hooks, in order, the nearest directory first."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.hooks.finding import Hook, Stage, State, find
from tests.hooks.shelf import Shelf

STAGE = Stage.VERIFY


@pytest.fixture
def shelves() -> Iterator[tuple[Shelf, Shelf]]:
    """Two directories, the first of which wins."""
    with tempfile.TemporaryDirectory() as root:
        yield Shelf(Path(root) / "near"), Shelf(Path(root) / "far")


def found(*shelves: Shelf) -> list[Hook]:
    return list(find(STAGE, [shelf.directory for shelf in shelves]))


def states(*shelves: Shelf) -> list[tuple[str, str, str]]:
    return [(hook.path.parent.parent.name, hook.name, str(hook.state)) for hook in found(*shelves)]


def test_hooks_come_by_name_from_both_directories_and_the_first_replaces_the_second(
    shelves: tuple[Shelf, Shelf],
) -> None:
    near, far = shelves
    assert found(near, far) == []
    near.put(STAGE, "20-b", "")
    far.put(STAGE, "20-b", "")
    far.put(STAGE, "10-a", "")
    far.put(Stage.PRE_PUBLISH, "15-other", "")
    far.write(STAGE, ".hidden", "")
    assert states(near, far) == [
        ("far", "10-a", "active"), ("near", "20-b", "active"), ("far", "20-b", "replaced"),
    ]  # fmt: skip


def test_a_link_to_dev_null_masks(shelves: tuple[Shelf, Shelf]) -> None:
    near, far = shelves
    far.put(STAGE, "10-a", "")
    (near.directory / f"{STAGE}.d").mkdir(parents=True)
    (near.directory / f"{STAGE}.d" / "10-a").symlink_to("/dev/null")
    assert states(near, far) == [("near", "10-a", "masked"), ("far", "10-a", "masked")]
    assert found(near, far)[1].reason == f"masked by {near.directory}/{STAGE}.d/10-a"


Spoil = Callable[[Path], None]

SPOILT: dict[str, tuple[Spoil, str]] = {
    "not executable": (lambda path: path.chmod(0o644), "is not executable"),
    "written by the group": (lambda path: path.chmod(0o775), "can be written by its group or by others"),
    "written by others": (lambda path: path.chmod(0o757), "can be written by its group or by others"),
    "setuid": (lambda path: path.chmod(0o4755), "is setuid or setgid"),
    "setgid": (lambda path: path.chmod(0o2755), "is setuid or setgid"),
    "of somebody else": (lambda path: os.chown(path, 1234, 0), "owned by uid 1234"),
    "stage written by others": (lambda path: path.parent.chmod(0o777), f"{STAGE}.d can be written"),
    "stage of somebody else": (lambda path: os.chown(path.parent, 1234, 0), f"{STAGE}.d is owned by uid 1234"),
    "directory written by the group": (lambda path: path.parent.parent.chmod(0o775), "near can be written"),
    "a backup": (lambda path: renamed(path, "10-a~"), "its name is that of a backup"),
    "left by dpkg": (lambda path: renamed(path, "10-a.dpkg-old"), "its name is that of a backup"),
    "a directory": (lambda path: anew(path).mkdir(), "is no regular file"),
    "a pipe": (lambda path: os.mkfifo(anew(path)), "is no regular file"),
    "a dead link": (lambda path: anew(path).symlink_to("/none"), "No such file or directory"),
    "a loop": (lambda path: anew(path).symlink_to(path), "Too many levels of symbolic links"),
    "settings of somebody else": (lambda path: settings(path, "A=1", owner=1234), "10-a.conf is owned by uid 1234"),
    "settings that are none": (lambda path: settings(path, "A = 1"), "10-a.conf:1: expected KEY=VALUE"),
}


def anew(path: Path) -> Path:
    """Make room for something else."""
    path.unlink()
    return path


def renamed(path: Path, name: str) -> None:
    """Give a hook another name."""
    path.rename(path.with_name(name))


def settings(path: Path, text: str, owner: int = 0) -> None:
    """Write the settings of a hook."""
    file = path.parent.parent / f"{path.name}.conf"
    file.write_text(text)
    os.chown(file, owner, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("name", SPOILT)
def test_what_could_be_somebody_elses_program_is_refused_with_the_reason(
    shelves: tuple[Shelf, Shelf], name: str
) -> None:
    spoil, reason = SPOILT[name]
    path = shelves[0].put(STAGE, "10-a", "")
    assert found(*shelves)[0].state is State.ACTIVE
    spoil(path)
    (hook,) = found(*shelves)
    assert (hook.state, reason in hook.reason) == (State.REFUSED, True), hook.reason


def test_a_link_to_a_program_is_judged_by_the_program(shelves: tuple[Shelf, Shelf]) -> None:
    near, far = shelves
    program = far.put("elsewhere", "program", "")
    (near.directory / f"{STAGE}.d").mkdir(parents=True)
    (near.directory / f"{STAGE}.d" / "10-a").symlink_to(program)
    assert states(near) == [("near", "10-a", "active")]
    program.parent.chmod(0o777)
    assert states(near) == [("near", "10-a", "refused")]


def test_settings_come_from_the_first_directory_that_has_some(shelves: tuple[Shelf, Shelf]) -> None:
    near, far = shelves
    far.put(STAGE, "10-a", "")
    far.directory.joinpath("10-a.conf").write_text("# words\n\nURL=http://far/?a=b  \nEMPTY=\n")
    (hook,) = found(near, far)
    assert hook.settings == {"URL": "http://far/?a=b", "EMPTY": ""}
    near.directory.mkdir()
    near.directory.joinpath("10-a.conf").write_text("URL=http://near/\n")
    assert found(near, far)[0].settings == {"URL": "http://near/"}
    assert found(near, far)[0] != hook


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_directory_of_which_the_names_can_be_listed_and_nothing_read_is_no_error(
    shelves: tuple[Shelf, Shelf],
) -> None:
    near, _ = shelves
    near.put(STAGE, "10-scan", "exit 0").parent.chmod(0o744)
    near.directory.chmod(0o755)
    near.directory.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        (hook,) = found(near)
    finally:
        os.seteuid(0)
    assert (hook.state, hook.reason) == (State.REFUSED, "Permission denied")
