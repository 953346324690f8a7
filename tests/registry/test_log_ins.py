"""Log-ins under attack: whose turn it is, how long an answer takes, what the log says for fail2ban."""

import asyncio
import base64
import contextlib
import logging
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bridge.config import AuthConfig
from bridge.registry import passwords
from bridge.registry.errors import RegistryError
from bridge.registry.htpasswd import Htpasswd
from bridge.registry.passwords import Attempt, Passwords, entries, fits
from bridge.registry.queueing import MOST, MOST_OF_ADDRESS, FairQueue, network
from tests.double.gates import DEADLINE, eventually
from tests.registry.entrance import accounts, basic, entry, guarded
from tests.registry.wires import ask, dialled

MIXED = {
    name: entry(name, name, cost=cost).partition(":")[2].encode()
    for name, cost in (("cheap", 4), ("usual", 6), ("costly", 9))
}


def taken(queue: FairQueue[str]) -> list[str]:
    return [queue.take() for _ in range(len(queue))]


def test_an_address_with_many_checks_delays_another_by_one_check() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(60):
        queue.add("192.0.2.1", f"user {number}", "guess")
    queue.take()
    queue.add("192.0.2.2", "ann", "ann's")
    assert taken(queue)[:2] == ["guess", "ann's"]


def test_many_addresses_delay_another_by_one_check_each() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(MOST):
        queue.add(f"192.0.2.{number % 20}", "ann", "guess")
    queue.add("198.51.100.1", "ann", "ann's")
    assert taken(queue).index("ann's") <= 20


def test_guesses_at_one_user_delay_another_user_of_the_same_address_by_one_check() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(500):
        queue.add("192.0.2.1", "root", "guess")
    assert len(queue) == MOST_OF_ADDRESS
    assert queue.add("192.0.2.1", "ann", "ann's") == "guess"
    assert taken(queue).index("ann's") == 1


def test_the_queue_is_bounded_and_a_newcomer_takes_the_place_of_the_one_that_has_most() -> None:
    queue: FairQueue[str] = FairQueue()
    for address in range(30):
        for _ in range(100):
            queue.add(f"192.0.2.{address}", "root", "guess")
    assert len(queue) == MOST
    assert queue.add("198.51.100.1", "ann", "ann's") == "guess"
    assert len(queue) == MOST
    assert "ann's" in taken(queue)


def test_what_waits_already_is_not_driven_out_by_addresses_that_come_later() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(MOST):
        assert queue.add(f"early {number}", "ann", "early") is None
    assert queue.add("late", "ann", "late") == "late"
    assert taken(queue) == ["early"] * MOST
    with pytest.raises(LookupError):
        queue.take()


@pytest.mark.parametrize(
    ("address", "shared"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("-", "-"),
    ],
)
def test_one_turn_is_shared_by_an_ipv4_address_or_a_64_of_ipv6(address: str, shared: str) -> None:
    assert network(address) == shared


@pytest.mark.parametrize("user", [*MIXED, None])
def test_every_check_is_as_much_work_as_the_costliest_of_the_file(user: str | None) -> None:
    wanted = entries(None if user is None else MIXED[user], MIXED)
    assert sum(2 ** int(each[4:6]) for each in wanted) == 2**9
    assert fits(b"none", wanted) is False
    assert fits((user or "").encode(), wanted) is (user is not None)


def test_without_a_user_a_check_is_the_usual_work() -> None:
    assert [2 ** int(each[4:6]) for each in entries(None, {})] == [2**10]


async def test_by_the_time_of_a_check_users_are_not_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "DELAY", 0.0)
    users = {"cheap": 4, "costly": 9}
    file = accounts(tmp_path, *(entry(name, "x", cost=cost) for name, cost in users.items()))
    took: dict[str, list[float]] = {"cheap": [], "costly": [], "unknown": []}
    with passwords.checking(Htpasswd(file), 1) as checker:
        for number in range(25):
            for user, seconds in took.items():
                begun = time.perf_counter()
                assert not await checker.fits(Attempt("192.0.2.1", user, b"%d" % number))
                seconds.append(time.perf_counter() - begun)
    typical = {user: statistics.median(seconds) for user, seconds in took.items()}
    # Without the further work an entry of cost 4 takes a thirtieth of one of cost 9.
    assert max(typical.values()) < 2 * min(typical.values()), typical


@contextlib.contextmanager
def held(file: Path, gate: threading.Event) -> Iterator[Passwords]:
    """Check passwords in one thread that begins when `gate` is set."""
    with ThreadPoolExecutor(1, initializer=gate.wait) as threads:
        try:
            yield Passwords(Htpasswd(file), threads, 1, 1)
        finally:
            gate.set()


async def outcome(checker: Passwords, peer: str, user: str, password: str) -> int:
    try:
        return 200 if await checker.fits(Attempt(peer, user, password.encode())) else 401
    except RegistryError as error:
        return error.problem.status


async def test_a_first_log_in_is_checked_while_another_address_guesses_with_200_threads(tmp_path: Path) -> None:
    file = accounts(tmp_path, entry("ann", "secret"), entry("bob", "other"))
    gate = threading.Event()
    order: list[str] = []

    async def ordered(peer: str, user: str, password: str) -> int:
        status = await outcome(checker, peer, user, password)
        order.append(f"{peer} {status}")
        return status

    with held(file, gate) as checker:
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(ordered("192.0.2.1", "ann", f"guess {number}"))
            await eventually(lambda: len(checker._waiting) == MOST_OF_ADDRESS)
            ann = group.create_task(ordered("198.51.100.1", "ann", "secret"))
            bob = group.create_task(ordered("192.0.2.1", "bob", "other"))  # from the attacker's own address
            await eventually(lambda: len(checker._waiting) > MOST_OF_ADDRESS)
            gate.set()
        assert (ann.result(), bob.result()) == (200, 200)
    checked = [each for each in order if not each.endswith("429")]
    assert set(checked[:2]) == {"198.51.100.1 200", "192.0.2.1 200"}  # before any guess is answered


async def test_guesses_at_one_user_from_one_address_are_a_few_in_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "DELAY", DEADLINE)
    file = accounts(tmp_path, entry("ann", "secret"), entry("bob", "other"))
    with passwords.checking(Htpasswd(file), 1) as checker:
        async with asyncio.TaskGroup() as group:
            guesses = []
            for number in range(passwords._DELAYED):
                guesses.append(group.create_task(outcome(checker, "192.0.2.1", "ann", f"guess {number}")))
                await eventually(lambda number=number: len(checker._delays._held) > number)  # type: ignore[misc]
            assert await outcome(checker, "192.0.2.1", "ann", "another") == 429
            assert await outcome(checker, "192.0.2.1", "bob", "other") == 200  # no thread waits for the answers
            assert await outcome(checker, "192.0.2.2", "ann", "secret") == 200
            assert await outcome(checker, "192.0.2.1", "ann", "secret") == 200  # it is known by now
            for gone in list(checker._delays._held):
                gone.set()
        assert {guess.result() for guess in guesses} == {401}
        assert not checker._delays._counts


async def test_the_answers_that_are_delayed_are_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "DELAY", DEADLINE)
    monkeypatch.setattr(passwords, "_ALL_DELAYED", 5)
    file = accounts(tmp_path, entry("ann", "secret"))
    with passwords.checking(Htpasswd(file), 1) as checker:
        async with asyncio.TaskGroup() as group:
            guesses = [group.create_task(outcome(checker, f"192.0.2.{number}", "ann", "guess")) for number in range(20)]
            await eventually(lambda: sum(guess.done() for guess in guesses) == 15)
            assert len(checker._delays._held) == 5
            for gone in list(checker._delays._held):
                gone.set()


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    file = accounts(tmp_path, entry("ann", "secret"), entry("long", "x" * 72))
    async with guarded(tmp_path / "tree", AuthConfig(htpasswd=file)) as address:
        yield address


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("log-in refused")]


@pytest.mark.parametrize(
    ("header", "user"),
    [
        (basic("ann", "wrong"), "'ann'"),
        (basic("eve", "secret"), "'eve'"),
        (basic("a\nlog-in refused peer=192.0.2.9 user='b", "x"), r'"a\nlog-in refused peer=192.0.2.9 user=\'b"'),
        (basic("e" * 9000, "x"), f"'{'e' * 64}'"),
        (basic("\x1b[2J\x7f\u202e", "x"), r"'\x1b[2J\x7f\u202e'"),
        ("Bearer token", "''"),
        ("Basic !!!", "''"),
        ("Basic " + base64.b64encode(b"\xff:x").decode(), "''"),
    ],
)
async def test_each_refused_log_in_is_one_line_with_peer_and_user(
    address: str, caplog: pytest.LogCaptureFixture, header: str, user: str
) -> None:
    begun = time.monotonic()
    assert (await ask(address, "/v2/", Authorization=header)).status == 401
    assert time.monotonic() - begun >= passwords.DELAY
    (line,) = refusals(caplog)
    shown = user.replace('"', "'").replace(r"\'", "'")
    assert line.replace('"', "'").replace(r"\'", "'") == f"log-in refused peer=127.0.0.1 user={shown}"


async def test_who_is_let_in_or_has_no_password_is_not_logged(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for headers, status in (
        ({}, 401),
        ({"Authorization": basic("", "")}, 401),
        ({"Authorization": basic("ann", "secret")}, 200),
    ):
        assert (await ask(address, "/v2/", **headers)).status == status
    assert refusals(caplog) == []


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [
        ("long", "x" * 72, 200),
        ("long", "x" * 72 + "whatever", 200),  # as htpasswd and bcrypt have it
        ("long", "x" * 20_000, 200),
        ("long", "x" * 71, 401),
        ("ann", "secret\0", 401),
        ("ann", "secret\0more", 401),
        ("ann", "\0", 401),
        ("ann", "y" * 20_000, 401),
    ],
)
async def test_passwords_of_any_length_and_content_are_right_or_wrong(
    address: str, user: str, password: str, status: int
) -> None:
    assert (await ask(address, "/v2/", Authorization=basic(user, password))).status == status


async def test_two_authorization_headers_are_none(address: str) -> None:
    async with dialled(address) as line:
        header = f"Authorization: {basic('ann', 'secret')}\r\n"
        await line.send(f"GET /v2/ HTTP/1.1\r\nHost: x\r\n{header}{header}\r\n".encode())
        assert (await line.answer()).status == 401


async def test_a_password_is_remembered_by_nothing_that_holds_it(tmp_path: Path) -> None:
    file = accounts(tmp_path, entry("ann", "secret"))
    with passwords.checking(Htpasswd(file), 1) as one, passwords.checking(Htpasswd(file), 1) as other:
        for checker in (one, other):
            assert await outcome(checker, "192.0.2.1", "ann", "secret") == 200
        assert len(one._right) == 1
        assert set(one._right).isdisjoint(other._right)
        assert b"secret" not in repr(one._right).encode()
        for number in range(passwords._REMEMBERED + 50):
            one._remember(b"%d" % number)
        assert len(one._right) == passwords._REMEMBERED
