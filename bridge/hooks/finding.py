"""Which hooks there are: looked for at every use, so that one that comes or goes needs no restart.

    <directory>/<stage>.d/NN-name     an executable, or a link to one; a link to /dev/null masks the name
    <directory>/NN-name.conf          its settings, in every stage: lines of KEY=VALUE

The same name in an earlier directory replaces the hook of a later one, and so do the settings.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bridge.descriptors import may_pass
from bridge.errors import HookError


class Stage(StrEnum):
    """When a hook is called: the first two are gates, the others hear what has happened."""

    PRE_PUBLISH = "pre-publish"
    VERIFY = "verify"
    POST_PUBLISH = "post-publish"
    POST_WITHDRAW = "post-withdraw"
    PUBLISH_FAILED = "publish-failed"


GATES = (Stage.PRE_PUBLISH, Stage.VERIFY)


class State(StrEnum):
    """What becomes of a file in a stage's directory."""

    ACTIVE = "active"
    MASKED = "masked"
    REPLACED = "replaced"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Hook:
    """One file that was found; `reason` says why it is not run. `settings` are those of its NN-name.conf.

    `mark` changes with the file and with its settings.
    """

    stage: Stage
    name: str
    path: Path
    state: State = State.ACTIVE
    reason: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    mark: tuple[int, ...] = ()


_BACKUP = re.compile(r"#.*|.*(~|\.(bak|orig|old|swp|sw[a-z]|save|rpm\w+|dpkg-\w+|ucf-\w+))")
_SETTING = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


def find(stage: Stage, directories: Sequence[Path]) -> Iterator[Hook]:
    """Yield everything in the stage's directories, by name, what is not run included; the earliest directory wins.

    Raises OSError if something cannot be read now (a shortage, a disk that fails): that says nothing of a hook, and a
    gate that was refused for it would let images through.
    """
    found: dict[str, list[Path]] = {}
    for directory in directories:
        place = directory / f"{stage}.d"
        try:
            for path in place.iterdir():
                found.setdefault(path.name, []).append(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if may_pass(error):
                raise
            yield Hook(stage, "*", place, State.REFUSED, error.strerror or "unreadable")
    for name, (first, *others) in sorted(found.items()):
        if not name.startswith("."):
            judged = _judge(Hook(stage, name, first), directories)
            yield judged
            how = State.MASKED if judged.state is State.MASKED else State.REPLACED
            yield from (Hook(stage, name, path, how, f"{how} by {first}") for path in others)


def _judge(hook: Hook, directories: Sequence[Path]) -> Hook:
    try:
        if hook.path.is_symlink() and os.path.realpath(hook.path) == os.devnull:
            return Hook(hook.stage, hook.name, hook.path, State.MASKED)
        status = _trusted(hook)
        settings, mark = _settings(hook, directories)
    except (HookError, OSError) as error:
        if may_pass(error):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Hook(hook.stage, hook.name, hook.path, State.REFUSED, reason or "unreadable")
    marks = (*_mark(status), *mark)
    return Hook(hook.stage, hook.name, hook.path, settings=settings, mark=marks)


def _trusted(hook: Hook) -> os.stat_result:
    """Return what the disk says of a hook; raise HookError where it could be somebody else's program."""
    if _BACKUP.fullmatch(hook.name):
        msg = "its name is that of a backup"
        raise HookError(msg)
    target = Path(os.path.realpath(hook.path, strict=True))  # Path.resolve() raises RuntimeError at a loop
    status = target.stat()
    if not stat.S_ISREG(status.st_mode):
        msg = "is no regular file"
        raise HookError(msg)
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        msg = "is setuid or setgid: `chmod ug-s` it"
        raise HookError(msg)
    _require_owned(target)
    for directory in {hook.path.parent.parent, hook.path.parent, target.parent}:
        _require_owned(directory)
    if not os.access(target, os.X_OK):
        msg = "is not executable: `chmod +x` it"
        raise HookError(msg)
    return status


def _require_owned(path: Path) -> None:
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        msg = f"{path} is owned by uid {status.st_uid}, neither root nor the service's user"
        raise HookError(msg)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = f"{path} can be written by its group or by others: `chmod go-w` it"
        raise HookError(msg)


def _settings(hook: Hook, directories: Sequence[Path]) -> tuple[Mapping[str, str], tuple[int, ...]]:
    """Read the settings of a hook from the first directory that has some; raise HookError where they are none."""
    for directory in directories:
        path = directory / f"{hook.name}.conf"
        if is_there(path):
            _require_owned(path)
            _require_owned(directory)
            return dict(_parse(path)), _mark(path.stat())
    return {}, ()


def is_there(path: Path) -> bool:
    """Return False only if there is no such file; raise OSError if that cannot be seen now (Path.exists() may not)."""
    try:
        path.stat()
    except OSError as error:
        if may_pass(error):
            raise
        return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
    return True


def _parse(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            match = _SETTING.fullmatch(text)
            if match is None:
                msg = f"{path}:{number}: expected KEY=VALUE"
                raise HookError(msg)
            yield match[1], match[2].strip()


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode
