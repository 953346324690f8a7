"""How the tests are shared out among processes: a file stays together, and so do all that look at one costly store."""

import pytest

_TOGETHER = ("kinds", "registry")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Name the item's group at once: xdist reads it before this file's own look at the collection."""
    room, _, file = item.nodeid.removeprefix("tests/").partition("/")
    item.add_marker(pytest.mark.xdist_group(room if room in _TOGETHER else f"{room}/{file.partition('::')[0]}"))
