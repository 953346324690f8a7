"""How the tests are shared out among processes: a file stays together, and so do all that look at one costly store."""

import pytest

_TOGETHER = ("kinds", "registry")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        room, _, file = item.nodeid.removeprefix("tests/").partition("/")
        item.add_marker(pytest.mark.xdist_group(room if room in _TOGETHER else f"{room}/{file.partition('::')[0]}"))
