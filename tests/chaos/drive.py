"""Does one thing to a tree and says what came of it, in a process of its own that a test has running over the shim.

    python -m tests.chaos.drive TREE WORD…

Each word is a step: `publish:app:1=x` shows an image made of `x`, `withdraw:app:1`, `sweep:0`, `derive`, `discard:x`.
A line for each: `ok`, or the error. Afterwards come the references that are shown in memory, as `shown app:1 …`.
"""

import sys
from pathlib import Path

from bridge.errors import BridgeError
from bridge.oci import Digest, Reference
from bridge.tree.publisher import Tree
from tests.tree import making


def step(tree: Tree, word: str) -> None:
    """Do one thing."""
    verb, _, rest = word.partition(":")
    match verb:
        case "publish":
            reference, _, content = rest.partition("=")
            tree.publish(making.publication(reference, making.image(tree, content.encode(), note=content)))
        case "withdraw":
            tree.withdraw(Reference.parse(rest))
        case "sweep":
            tree.sweep(float(rest))
        case "derive":
            tree.derive()
        case "discard":
            tree.discard([Digest.of(rest.encode())])


def main() -> None:
    """Do all steps, each whatever became of those before."""
    with Tree(Path(sys.argv[1])) as tree:
        for word in sys.argv[2:]:
            try:
                step(tree, word)
                print("ok")
            except (BridgeError, OSError) as error:
                print(f"{type(error).__name__}: {error}")
        print("shown", *sorted(map(str, tree.shown.publications)))


if __name__ == "__main__":
    main()
