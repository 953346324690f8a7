"""Does things to trees over the shim, each time in a fork of its own: what takes longest, the imports, is done once.

It reads a line of JSON from standard input for each run, `{"tree": …, "words": […]}`, and answers with one: the exit
status of the fork (negative: the signal), and what came of each word, `ok` or the error; and, when the publisher ends,
the references that are shown in its memory. A word is done whatever became of those before. The status is 1 if one has
failed.
"""

import json
import logging
import os
import sys
import traceback
from pathlib import Path

from bridge.errors import BridgeError
from bridge.oci import Reference
from bridge.tree.publisher import Tree
from tests.chaos import ground

ALONE = frozenset({"encode", "repair", "scrub"})
"""Words that a program of its own does, without the publisher."""


def step(tree: Tree, word: str) -> None:
    """Do one thing with the publisher."""
    verb, _, rest = word.partition(":")
    match verb:
        case "publish":
            reference, _, content = rest.partition("=")
            ground.publish(tree, reference, content)
        case "withdraw":
            tree.withdraw(Reference.parse(rest))
        case "hold":
            tree.withdraw(Reference.parse(rest), hold=True)
        case "release":
            tree.release(Reference.parse(rest))
        case "sweep":
            tree.sweep(float(rest))
        case "derive":
            tree.derive()


class Run:
    """One run over one tree, which tells what came of each word to `told`, and to the shim's log."""

    def __init__(self, root: Path, told: int) -> None:
        self._root = root
        self._told = told
        self._tree: Tree | None = None
        self._failed = False

    def run(self, words: list[str]) -> int:
        """Do all words; return the exit status."""
        for number, word in enumerate(words):
            try:
                self._do(word)
                result = "ok"
            except (BridgeError, OSError) as error:
                result = f"{type(error).__name__}: {error}"
            self._failed |= result != "ok"
            self._tell(result)
            _mark(f"done {number} {result == 'ok'}")
        self._close()
        return int(self._failed)

    def _do(self, word: str) -> None:
        if word.partition(":")[0] in ALONE:
            self._close()
            ground.do(self._root, word)
            return
        if self._tree is None:
            tree = Tree(self._root)
            tree.__enter__()
            self._tree = tree
        step(self._tree, word)

    def _tell(self, value: object) -> None:
        os.write(self._told, json.dumps(value).encode() + b"\n")

    def _close(self) -> None:
        if self._tree is not None:
            self._tell({"shown": sorted(map(str, self._tree.shown.publications))})
            self._tree.__exit__()
            self._tree = None


def _mark(words: str) -> None:
    if "CHAOS_LOG" in os.environ:
        file = os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_APPEND)
        os.write(file, f"{os.getpid()} {words}\n".encode())
        os.close(file)


def _child(root: Path, words: list[str], told: int) -> int:
    try:
        return Run(root, told).run(words)
    except Exception:  # noqa: BLE001 - whatever it is, it is a fault that the one who asked must hear of
        os.write(told, json.dumps(traceback.format_exc()).encode() + b"\n")
        return 2


def main() -> None:
    """Answer each line."""
    logging.disable(logging.CRITICAL)  # what is broken says so, a thousand times
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            os._exit(_child(Path(order["tree"]), order["words"], writing))
        os.close(writing)
        with os.fdopen(reading) as told:
            results = [json.loads(result) for result in told]
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"status": status, "results": results}), flush=True)


if __name__ == "__main__":
    main()
