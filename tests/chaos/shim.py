"""Having calls of the file system fail in a program, and listing them: the driver of shim.c, which says how it works.

shim = Shim(directory, scope=f"{tree}/*")
shim.fail("fsync", "*/_oci", "EIO")                 # the next one, once
subprocess.run([...], env=os.environ | shim.environment)
shim.calls()                                        # what was done below the tree, in order
"""

import functools
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@functools.cache
def library() -> Path:
    """Compile the shim if that was not done before, and return its path, beside the compiled tests."""
    source = Path(__file__).with_name("shim.c")
    made_of = source.read_bytes() + repr((platform.machine(), platform.libc_ver())).encode()
    path = source.parent / "__pycache__" / f"shim-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        flags = ("-shared", "-fPIC", "-O1", "-Wall", "-Werror")
        subprocess.run(["gcc", *flags, "-o", str(new), str(source), "-ldl", "-lpthread"], check=True)
        new.rename(path)
    return path


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made: the paths are absolute, and there are two for a rename or a link."""

    pid: int
    name: str
    paths: tuple[str, ...]


class Shim:
    """The rules and the log of one shim; both lie in `directory`. `scope` is a glob of the paths that count."""

    def __init__(self, directory: Path, scope: str = "*") -> None:
        self._rules = directory / "chaos-rules"
        self._log = directory / "chaos-log"
        self._scope = scope
        self.clear()

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to run over the shim."""
        return {
            "LD_PRELOAD": str(library()),
            "CHAOS_RULES": str(self._rules),
            "CHAOS_LOG": str(self._log),
            "CHAOS_SCOPE": self._scope,
        }

    def fail(self, call: str, glob: str, action: str, *, first: int = 1, times: int = 1) -> None:
        """Add a rule, also while the program runs; `times` 0 means for ever. All counts begin again."""
        rules = self._rules.read_text() + f"{call} {glob} {first} {times} {action}\n"
        temporary = self._rules.with_suffix(".new")
        temporary.write_text(rules)
        temporary.rename(self._rules)

    def clear(self) -> None:
        """Let every call through, and forget those that were made."""
        self._rules.write_text("")
        self._log.write_text("")

    def calls(self, *names: str) -> list[Call]:
        """Return the calls that were made, in order: all, or those of these names."""
        return [call for call in self._read() if not names or call.name in names]

    def _read(self) -> Iterator[Call]:
        for line in self._log.read_text().splitlines():
            pid, name, *paths = line.split(" ")
            yield Call(int(pid), name, tuple(paths))
