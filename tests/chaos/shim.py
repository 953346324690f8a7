"""Having calls of the file system fail in a program, and listing them: the driver of shim.c, which says how it works.

shim = Shim(directory, scope=f"{tree}/*")
shim.fail("fsync", "*/_oci", "EIO")                 # the next one, once
subprocess.run([...], env=os.environ | shim.environment)
shim.calls()                                        # what was done below the tree, in order
"""

import functools
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@functools.cache
def library() -> Path:
    """Compile the shim, once a process, and return its path."""
    path = Path(tempfile.mkdtemp(prefix="chaos-shim-")) / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(path), str(source), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
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
