"""Hooks that a test writes, and what they were told."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.double.gates import Gate

_RECORDER = """#!{python} -IS
import json, os, sys
heard = dict(argv=sys.argv, cwd=os.getcwd(), environment=dict(os.environ), document=json.load(sys.stdin))
heard["files"] = sorted(os.path.join(parent, name) for parent, _, names in os.walk({tree!r}) for name in names)
layout = heard["document"]["layout"]
if layout:
    heard["layout"] = sorted(os.path.relpath(os.path.join(parent, name), layout) for parent, _, names in os.walk(layout)
                             for name in names)
with open({log!r}, "ab", buffering=0) as log:
    log.write(json.dumps(heard).encode() + b"\\n")
"""


@dataclass(frozen=True, slots=True)
class Shelf:
    """One `hooks.d`."""

    directory: Path

    def put(self, stage: str, name: str, body: str) -> Path:
        """Write a hook in sh."""
        return self.write(stage, name, f"#!/bin/sh\n{body}\n")

    def write(self, stage: str, name: str, content: str) -> Path:
        """Write a hook; one that is there already is replaced in one rename."""
        path = self.directory / f"{stage}.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{name}")
        fresh.write_text(content)
        fresh.chmod(0o755)
        fresh.rename(path)
        return path

    def record(self, stage: str, name: str = "10-record", tree: Path | None = None) -> Path:
        """Write a hook that notes what it was told."""
        log = str(self.directory / "heard")
        return self.write(stage, name, _RECORDER.format(python=sys.executable, log=log, tree=str(tree or "/none")))

    def heard(self, stage: str = "") -> list[dict[str, Any]]:
        """Return what the recorders of a stage noted, of all by default."""
        found = [json.loads(line) for line in self.lines("heard")]
        return [one for one in found if one["document"]["stage"].startswith(stage)]

    def documents(self, stage: str = "") -> list[dict[str, Any]]:
        """Return the documents of those."""
        return [one["document"] for one in self.heard(stage)]

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file that hooks write to, in the directory; one that is half written is none yet."""
        path = self.directory / name
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].splitlines()

    def hold(self, stage: str, name: str, then: str = "exit 0") -> Gate:
        """Write a hook that waits at a gate, and then does something."""
        gate = Gate(self.directory / f"{name}.gate")
        self.directory.mkdir(exist_ok=True)
        wait = f"while ! [ -e {gate.path} ]; do sleep 0.01; done"
        self.put(stage, name, f"touch {gate.arrivals}\n{wait}\n{then}")
        return gate
