"""Logging in to podbridge's registry through the api socket, and to any other by way of podman."""

import asyncio
import json
from collections.abc import Iterator

import bcrypt
import pytest

from bridge.config import Profile
from tests.end_to_end.programs import scratch
from tests.relay.rig import REGISTRY, Rig, request_head
from tests.relay.worlds import World, ask, world


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    """A world whose registry knows one user."""
    with scratch() as directory:
        entry = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
        (directory / "htpasswd").write_text(f"ann:{entry}\n", encoding="utf-8")
        with world("read", registry={"auth": {"htpasswd": str(directory / "htpasswd")}}) as here:
            yield here


@pytest.mark.parametrize("scheme", ["", "http://", "https://"])
@pytest.mark.parametrize(("password", "status"), [("right", 200), ("wrong", 401)])
def test_the_registrys_own_users_log_in(here: World, scheme: str, password: str, status: int) -> None:
    body = {"username": "ann", "password": password, "serveraddress": f"{scheme}{here.own}"}
    answer = ask(here.bridge, "POST /v1.41/auth", json.dumps(body).encode())
    assert (answer.status, answer.kind) == (status, "application/json")
    (told,) = answer.json
    assert told.get("Status") == ("Login Succeeded" if status == 200 else None)
    assert "wrong" not in str(told.get("message"))


async def test_without_passwords_everybody_may_log_in(rig: Rig) -> None:
    body = json.dumps({"username": "x", "password": "y", "serveraddress": REGISTRY}).encode()
    head = b"POST /auth HTTP/1.1\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with rig.relaying():
        answer = await rig.say(head + body, end=False)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("chunked", [True, False])
async def test_another_registry_is_podmans_to_ask_and_the_request_is_whole(
    rig: Rig, profile: Profile, chunked: bool
) -> None:
    rig.profile = profile
    body = json.dumps({"username": "x", "password": "y", "serveraddress": "quay.io"}).encode()
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    request = b"POST /v1.41/auth HTTP/1.1\r\nConnection: close\r\n" + length + b"\r\n\r\n" + sent
    got: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await request_head(reader) + await reader.readexactly(len(sent)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with rig.upstream(handle):
        answer = await rig.say(request, end=False)
    assert answer.startswith(b"HTTP/1.1 200" if profile is Profile.FULL else b"HTTP/1.1 403")
    assert got == ([request] if profile is Profile.FULL else [])


@pytest.mark.parametrize(("body", "status"), [(b"no JSON", b"400"), (b"x" * 70_000, b"400")])
async def test_what_is_no_log_in_is_refused(rig: Rig, body: bytes, status: bytes) -> None:
    async with rig.relaying():
        head = b"POST /auth HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        answer = await rig.say(head + body)
    assert answer.startswith(b"HTTP/1.1 " + status)
