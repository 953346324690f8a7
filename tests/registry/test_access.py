"""Who may read what: passwords, allow-lists, and what a refusal says and does not say."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.config import AuthConfig
from bridge.errors import ConfigError
from bridge.registry import files
from tests.registry.entrance import accounts, basic, entry, guarded
from tests.registry.trees import Shelf
from tests.registry.wires import Answer, ask, dialled

CHALLENGE = 'Basic realm="podbridge", charset="UTF-8"'
ANN = {"Authorization": basic("ann", "secret")}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "tree")
    for name in ("team/app", "team/tool", "public/base", "docker.io/library/hello", "hidden"):
        shelf.image(f"{name}:1", name.encode())
    return shelf


@dataclass(frozen=True, slots=True)
class Doors:
    """A registry that only its users may read; `file` is their htpasswd file."""

    address: str
    file: Path

    async def get(self, path: str, user: str, password: str) -> Answer:
        return await ask(self.address, path, Authorization=basic(user, password))

    def rewrite(self, *lines: str, age: float = 30) -> None:
        accounts(self.file.parent, *lines, age=age)


@pytest.fixture
async def doors(shelf: Shelf, tmp_path: Path) -> AsyncIterator[Doors]:
    file = accounts(tmp_path, "# users", "", entry("ann", "secret"), entry("bob", "other", kind=b"2y"))
    async with guarded(shelf.root, AuthConfig(htpasswd=file)) as address:
        yield Doors(address, file)


def is_challenge(answer: Answer) -> bool:
    return answer.status == 401 and answer.headers["www-authenticate"] == CHALLENGE and answer.code == "UNAUTHORIZED"


@pytest.mark.parametrize(
    "path",
    ["/v2/", "/v2", "/v2/_catalog", "/v2/team/app/manifests/1", "/v2/none/tags/list", "/v2/..", "/", "/v2/%2e%2e/x"],
)
async def test_without_a_password_everything_asks_for_one(doors: Doors, path: str) -> None:
    assert is_challenge(await ask(doors.address, path))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_write_asks_for_a_password_first_and_then_says_that_there_are_none(doors: Doors, method: str) -> None:
    path = "/v2/team/app/blobs/uploads/"
    assert is_challenge(await ask(doors.address, path, method, Content_Length="0"))
    answer = await ask(doors.address, path, method, Content_Length="0", **ANN)
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")


async def test_a_head_is_refused_with_the_challenge(doors: Doors) -> None:
    answer = await ask(doors.address, "/v2/team/app/manifests/1", "HEAD")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, CHALLENGE)


async def test_the_right_password_reads_everything(doors: Doors) -> None:
    for user, password in (("ann", "secret"), ("bob", "other")):
        assert (await doors.get("/v2/", user, password)).status == 200
        assert (await doors.get("/v2/team/app/manifests/1", user, password)).status == 200
        assert len((await doors.get("/v2/_catalog", user, password)).json["repositories"]) == 5


@pytest.mark.parametrize(
    "header",
    [
        basic("ann", "Secret"),
        basic("ann", ""),
        basic("ann", "other"),
        basic("eve", "secret"),
        basic("", "secret"),
        basic("ann", "a\0b"),
        basic("ann", "x" * 200),
        "Basic " + base64.b64encode(b"ann").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:secret").decode(),
        "Basic !!!",
        "Basic",
        "Bearer secret",
    ],
)
async def test_anything_but_the_right_password_is_refused(doors: Doors, header: str) -> None:
    assert is_challenge(await ask(doors.address, "/v2/", Authorization=header))


async def test_the_scheme_is_read_in_any_case(doors: Doors) -> None:
    header = basic("ann", "secret").replace("Basic", "bAsIc")
    assert (await ask(doors.address, "/v2/", Authorization=header)).status == 200


@pytest.mark.parametrize("password", ["gänsefüßchen ✓", "a:b:c", "x" * 100])
async def test_passwords_are_any_text(doors: Doors, password: str) -> None:
    doors.rewrite(entry("ann", password))
    assert (await doors.get("/v2/", "ann", password)).status == 200


async def test_a_user_taken_out_of_the_file_is_refused_on_the_connection_that_is_open(doors: Doors) -> None:
    async with dialled(doors.address) as line:
        assert (await line.ask("/v2/", **ANN)).status == 200
        doors.rewrite(entry("bob", "other"))
        assert is_challenge(await line.ask("/v2/", **ANN))
        assert (await line.ask("/v2/", Authorization=basic("bob", "other"))).status == 200


async def test_a_changed_password_takes_the_place_of_the_old_one(doors: Doors) -> None:
    assert (await doors.get("/v2/", "ann", "secret")).status == 200
    doors.rewrite(entry("ann", "new"))
    assert is_challenge(await doors.get("/v2/", "ann", "secret"))
    assert (await doors.get("/v2/", "ann", "new")).status == 200


async def test_a_file_that_may_be_half_written_is_not_read_yet(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files._SETTLED < 1e9
    monkeypatch.setattr(files, "_SETTLED", 20e9)  # however long the request takes
    doors.rewrite("", age=0)
    assert (await doors.get("/v2/", "ann", "secret")).status == 200
    doors.rewrite(entry("bob", "other"), age=21)
    assert is_challenge(await doors.get("/v2/", "ann", "secret"))


async def test_while_the_file_is_gone_nobody_gets_in(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    content = doors.file.read_text()
    doors.file.unlink()
    for _ in range(3):
        assert is_challenge(await doors.get("/v2/", "ann", "secret"))
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
    doors.rewrite(content)
    assert (await doors.get("/v2/", "ann", "secret")).status == 200


async def test_an_entry_of_another_kind_that_comes_later_costs_only_its_own_user(
    doors: Doors, caplog: pytest.LogCaptureFixture
) -> None:
    doors.rewrite("ann:$apr1$abcdefgh$1234567890123456789012", entry("bob", "other"))
    assert (await doors.get("/v2/", "bob", "other")).status == 200
    assert is_challenge(await doors.get("/v2/", "ann", "secret"))
    (refused,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "line 1: user 'ann' has MD5 (apr1)" in refused
    assert "1234567890" not in refused


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("eve:$apr1$abcdefgh$1234567890123456789012", "user 'eve' has MD5 (apr1)"),
        ("eve:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "user 'eve' has SHA-1"),
        ("eve:$6$salt$hash", "user 'eve' has SHA-512 crypt"),
        ("eve:hunter2", "user 'eve' has DES crypt or plain text"),
        ("eve:$2b$10$cut", "user 'eve' has a bcrypt entry that is cut"),
        ("hunter2", "expected USER:HASH"),
        (":hunter2", "expected USER:HASH"),
        pytest.param(entry("ann", "again"), "user 'ann' stands twice", id="twice"),
    ],
)
async def test_a_file_with_an_entry_that_is_not_accepted_stops_the_start(
    shelf: Shelf, tmp_path: Path, line: str, words: str
) -> None:
    file = accounts(tmp_path, entry("ann", "secret"), line)
    with pytest.raises(ConfigError) as caught:
        async with guarded(shelf.root, AuthConfig(htpasswd=file)):
            pass
    assert f"registry.auth.htpasswd: {file}: line 2: {words}" in str(caught.value)
    assert (line.partition(":")[2] or line) not in str(caught.value)


async def test_a_file_that_is_missing_stops_the_start(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"registry.auth.htpasswd: .*none: No such file"):
        async with guarded(shelf.root, AuthConfig(htpasswd=tmp_path / "none")):
            pass


async def test_a_storm_of_one_password_is_one_check(doors: Doors) -> None:
    """More requests than checks may wait: without sharing, some would be told to come back."""
    doors.rewrite(entry("ann", "secret", cost=9))
    answers = await asyncio.gather(*(doors.get("/v2/", "ann", "secret") for _ in range(150)))
    assert {answer.status for answer in answers} == {200}


async def test_a_storm_of_guesses_is_bounded_and_costs_a_known_user_nothing(doors: Doors) -> None:
    doors.rewrite(entry("ann", "secret", cost=9))
    assert (await doors.get("/v2/", "ann", "secret")).status == 200
    guesses = asyncio.gather(*(doors.get("/v2/", "ann", f"guess {number}") for number in range(200)))
    assert (await doors.get("/v2/team/app/manifests/1", "ann", "secret")).status == 200
    answers = await guesses
    assert {answer.status for answer in answers} == {401, 429}
    assert {answer.headers["retry-after"] for answer in answers if answer.status == 429} == {"1"}


async def test_a_check_does_not_hold_up_the_loop(shelf: Shelf, tmp_path: Path) -> None:
    file = accounts(tmp_path, entry("ann", "secret", cost=14))
    async with guarded(shelf.root, AuthConfig(htpasswd=file, anonymous=("public/*",))) as address:
        login = asyncio.create_task(ask(address, "/v2/", **ANN))
        for _ in range(3):
            assert (await ask(address, "/v2/public/base/manifests/1")).status == 200
        assert not login.done()
        assert (await login).status == 200


@pytest.fixture
async def lists(shelf: Shelf, tmp_path: Path) -> AsyncIterator[str]:
    """ann reads her team's, bob a mirrored one, eve is in no list, and everybody reads public/."""
    file = accounts(tmp_path, *(entry(user, "secret") for user in ("ann", "bob", "eve")))
    users = {"ann": ("team/*", "public/*", "hidden?"), "bob": ("docker.io/library/*",)}
    async with guarded(shelf.root, AuthConfig(file, users, ("public/*",))) as address:
        yield address


async def test_a_list_opens_what_it_names_by_glob(lists: str) -> None:
    for name in ("team/app", "team/tool", "public/base"):
        for path in ("manifests/1", "tags/list"):
            assert (await ask(lists, f"/v2/{name}/{path}", **ANN)).status == 200


@pytest.mark.parametrize("name", ["hidden", "none", "team", "docker.io/library/hello", "x/team/app"])
async def test_what_no_glob_names_is_denied_whether_it_is_there_or_not(lists: str, name: str) -> None:
    digest = "sha256:" + "0" * 64
    for path in ("manifests/1", f"manifests/{digest}", f"blobs/{digest}", "tags/list", f"referrers/{digest}"):
        answer = await ask(lists, f"/v2/{name}/{path}", **ANN)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert name not in answer.body.decode()


async def test_an_allowed_name_that_is_not_there_is_unknown(lists: str) -> None:
    answer = await ask(lists, "/v2/team/none/manifests/1", **ANN)
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


async def test_a_user_in_no_list_reads_nothing_and_sees_nothing(lists: str) -> None:
    eve = {"Authorization": basic("eve", "secret")}
    assert (await ask(lists, "/v2/", **eve)).status == 200
    assert (await ask(lists, "/v2/_catalog", **eve)).json == {"repositories": []}
    assert (await ask(lists, "/v2/public/base/tags/list", **eve)).status == 403


async def test_the_catalog_shows_and_pages_only_what_one_may_read(lists: str) -> None:
    shown = (await ask(lists, "/v2/_catalog", **ANN)).json["repositories"]
    assert shown == ["public/base", "team/app", "team/tool"]
    page = await ask(lists, "/v2/_catalog?n=2", **ANN)
    assert page.json["repositories"] == ["public/base", "team/app"]
    last = await ask(lists, page.headers["link"].partition("<")[2].partition(">")[0], **ANN)
    assert (last.json["repositories"], "link" in last.headers) == (["team/tool"], False)
    assert (await ask(lists, "/v2/_catalog")).json["repositories"] == ["public/base"]


async def test_a_mirrored_image_is_not_read_through_its_short_name(lists: str) -> None:
    """`library/hello` can mean docker.io/library/hello, which ann may not read and bob may."""
    for path in (
        "/v2/docker.io/hello/manifests/1",
        "/v2/library/hello/manifests/1",
        "/v2/library/hello/manifests/1?ns=docker.io",
    ):
        assert (await ask(lists, path, **ANN)).status == 403
        assert (await ask(lists, path, Authorization=basic("bob", "secret"))).status == 200


async def test_a_blob_is_read_only_through_a_repository_that_one_may_read(lists: str, shelf: Shelf) -> None:
    digest = shelf.blob(b"hidden")["digest"]
    assert (await ask(lists, f"/v2/team/app/blobs/{digest}", **ANN)).status == 404
    assert (await ask(lists, f"/v2/hidden/blobs/{digest}", **ANN)).status == 403


async def test_without_a_name_one_reads_what_is_open_and_is_asked_to_log_in_for_the_rest(lists: str) -> None:
    empty = {"Authorization": basic("", "")}  # podman without a login, after the challenge of /v2/
    for headers in ({}, empty):
        assert (await ask(lists, "/v2/public/base/manifests/1", **headers)).status == 200
        assert is_challenge(await ask(lists, "/v2/", **headers))
        assert is_challenge(await ask(lists, "/v2/team/app/manifests/1", **headers))
        assert is_challenge(await ask(lists, "/v2/none/manifests/1", **headers))


async def test_a_wrong_password_is_never_taken_for_none(lists: str) -> None:
    answer = await ask(lists, "/v2/public/base/manifests/1", Authorization=basic("ann", "wrong"))
    assert is_challenge(answer)


async def test_what_a_named_reader_gets_is_not_for_shared_caches(lists: str, shelf: Shelf) -> None:
    digest = shelf.blob(b"public/base")["digest"]
    path = f"/v2/public/base/blobs/{digest}"
    assert (await ask(lists, path)).headers["cache-control"].startswith("public,")
    for headers in ({}, {"If_None_Match": "*"}, {"Range": "bytes=0-1"}):
        answer = await ask(lists, path, **ANN, **headers)
        assert answer.headers["cache-control"].startswith("private,")
    refused = await ask(lists, "/v2/team/app/manifests/1")
    assert refused.headers["cache-control"] == "no-store"


async def test_without_accounts_a_list_for_everybody_leaves_no_other_way_in(shelf: Shelf) -> None:
    async with guarded(shelf.root, AuthConfig(anonymous=("public/*",))) as address:
        assert (await ask(address, "/v2/")).status == 200
        assert (await ask(address, "/v2/public/base/manifests/1")).status == 200
        for headers in ({}, ANN):
            answer = await ask(address, "/v2/team/app/manifests/1", **headers)
            assert (answer.status, answer.code) == (403, "DENIED")
