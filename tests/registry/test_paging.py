"""Tags and repositories, in pages."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.registry.paging import lexical, page
from bridge.registry.request import Slice
from tests.registry.trees import Shelf
from tests.registry.wires import Answer, ask, served

TAGS = ["1", "2.0", "Beta", "alpha", "beta", "gamma", "v1"]


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    shelf = Shelf(tmp_path)
    for tag in TAGS:
        shelf.image(f"app:{tag}", b"layer")
    for name in ("b/c", "b", "z"):
        shelf.image(f"{name}:1", b"layer")
    async with served(tmp_path) as address:
        yield address


async def follow(address: str, path: str, key: str) -> tuple[list[list[str]], Answer]:
    pages = []
    while True:
        answer = await ask(address, path)
        pages.append(answer.json[key])
        if "link" not in answer.headers:
            return pages, answer
        target, rel = answer.headers["link"].split("; ")
        assert rel == 'rel="next"'
        path = target.strip("<>")


async def test_all_tags_come_in_lexical_order_whatever_their_case(address: str) -> None:
    answer = await ask(address, "/v2/app/tags/list")
    assert answer.json == {"name": "app", "tags": sorted(TAGS, key=lambda tag: (tag.lower(), tag))}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8])
async def test_following_the_links_shows_every_tag_once(address: str, n: int) -> None:
    pages, _ = await follow(address, f"/v2/app/tags/list?n={n}", "tags")
    assert [tag for tags in pages for tag in tags] == sorted(TAGS, key=lexical)
    assert all(len(tags) == n for tags in pages[:-1])


async def test_following_the_links_shows_every_repository_once(address: str) -> None:
    pages, _ = await follow(address, "/v2/_catalog?n=3", "repositories")
    assert pages == [["app", "b", "b/c"], ["z"]]


@pytest.mark.parametrize("path", ["/v2/app/tags/list", "/v2/_catalog"])
async def test_a_page_of_zero_is_empty_and_leads_nowhere(address: str, path: str) -> None:
    answer = await ask(address, f"{path}?n=0")
    assert (answer.status, "link" in answer.headers) == (200, False)
    assert [] in answer.json.values()


async def test_last_need_not_be_there_and_needs_no_n(address: str) -> None:
    assert (await ask(address, "/v2/app/tags/list?last=beta")).json["tags"] == ["gamma", "v1"]
    assert (await ask(address, "/v2/app/tags/list?last=betb")).json["tags"] == ["gamma", "v1"]
    assert (await ask(address, "/v2/app/tags/list?last=zzz&n=5")).json["tags"] == []
    assert (await ask(address, "/v2/_catalog?last=b&n=1")).json["repositories"] == ["b/c"]


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "%00", "", "¹"])
async def test_a_page_size_that_is_no_number_is_refused(address: str, n: str) -> None:
    answer = await ask(address, f"/v2/app/tags/list?n={n}".encode().decode("latin-1"))
    if n == "":  # no value is no limit
        assert answer.status == 200
    else:
        assert (answer.status, answer.code) == (400, "UNSUPPORTED")


async def test_a_huge_page_size_is_the_whole_list(address: str) -> None:
    answer = await ask(address, f"/v2/app/tags/list?n={'9' * 300}")
    assert len(answer.json["tags"]) == len(TAGS)


NAMES = st.lists(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,5}", fullmatch=True), unique=True, max_size=12)


@given(NAMES, st.integers(1, 5))
def test_pages_lose_and_repeat_nothing(names: list[str], n: int) -> None:
    found: list[str] = []
    more = True
    while more:
        part, more = page(names, Slice(n, found[-1] if found else ""))
        found += part
    assert found == sorted(names, key=lexical)
