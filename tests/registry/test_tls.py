"""TLS: versions, certificates that are replaced under open connections, certificates of clients."""

import asyncio
import hashlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.config import AuthConfig, TlsConfig
from bridge.errors import ConfigError
from bridge.registry import files
from tests.registry.entrance import Certificates, accounts, basic, dialled, entry, guarded, write
from tests.registry.trees import Shelf
from tests.registry.wires import ask

BLOB = hashlib.shake_128(b"blob").digest(24 * 1024 * 1024)


@pytest.fixture
def ours(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path / "theirs")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path / "tree")
    shelf.image("app:1", b"app")
    return shelf


@dataclass(frozen=True, slots=True)
class Wire:
    """A registry with TLS, and its certificates."""

    address: str
    certificates: Certificates

    async def shows(self, other: Certificates) -> bool:
        """Say whether a new connection is shown a certificate of that authority."""
        try:
            async with dialled(self.address, other.trusted()) as line:
                return (await line.ask("/v2/")).status == 200
        except ssl.SSLCertVerificationError:
            return False


@pytest.fixture
async def wire(shelf: Shelf, ours: Certificates) -> AsyncIterator[Wire]:
    async with guarded(shelf.root, tls=ours.settings()) as address:
        yield Wire(address, ours)


def s_client(address: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["openssl", "s_client", "-connect", address, *options]
    return subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(("version", "accepted"), [("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)])
async def test_tls_is_of_version_1_2_at_least(wire: Wire, version: str, accepted: bool) -> None:
    weak = ["-cipher", "ALL:@SECLEVEL=0"]
    done = await asyncio.to_thread(s_client, wire.address, version, *weak)
    assert (done.returncode == 0) is accepted
    assert (b"Cipher is (NONE)" in done.stdout) is not accepted


async def test_plain_http_on_the_tls_port_gets_nothing_and_harms_nobody(wire: Wire) -> None:
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await ask(wire.address, "/v2/")
    assert await wire.shows(wire.certificates)


async def test_a_big_blob_comes_whole_and_in_ranges(wire: Wire, shelf: Shelf) -> None:
    shelf.image("big:1", BLOB)
    path = f"/v2/big/blobs/sha256:{hashlib.sha256(BLOB).hexdigest()}"
    async with dialled(wire.address, wire.certificates.trusted()) as line:
        assert (await line.ask(path)).body == BLOB
        assert (await line.ask(path, Range="bytes=1000000-2999999")).body == BLOB[1000000:3000000]
        assert (await line.ask("/v2/app/tags/list")).status == 200


async def test_a_replaced_certificate_is_shown_to_new_connections_while_the_open_one_goes_on(
    wire: Wire, theirs: Certificates
) -> None:
    async with dialled(wire.address, wire.certificates.trusted()) as line:
        assert (await line.ask("/v2/")).status == 200
        wire.certificates.replace(theirs)
        assert await wire.shows(theirs)
        assert not await wire.shows(wire.certificates)
        assert (await line.ask("/v2/app/manifests/1")).status == 200


async def test_a_blob_under_way_survives_a_replaced_certificate(wire: Wire, shelf: Shelf, theirs: Certificates) -> None:
    shelf.image("big:1", BLOB)
    digest = hashlib.sha256(BLOB).hexdigest()
    async with dialled(wire.address, wire.certificates.trusted()) as line:
        await line.send(f"GET /v2/big/blobs/sha256:{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await line.reader.readuntil(b"\r\n\r\n")
        begun = await line.reader.readexactly(1000)
        wire.certificates.replace(theirs)
        assert await wire.shows(theirs)
        rest = await line.reader.readexactly(len(BLOB) - len(begun))
    assert hashlib.sha256(begun + rest).hexdigest() == digest


async def test_a_bad_certificate_is_refused_once_in_the_log_and_the_old_one_stays(
    wire: Wire, theirs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    write(wire.certificates.file("server.crt"), "no certificate", age=50)
    for _ in range(3):
        assert await wire.shows(wire.certificates)
    (refused,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert str(wire.certificates.file("server.crt")) in refused
    wire.certificates.replace(theirs)
    assert await wire.shows(theirs)


async def test_a_certificate_whose_key_is_not_there_yet_waits_for_it(wire: Wire, theirs: Certificates) -> None:
    write(wire.certificates.file("server.crt"), theirs.file("server.crt").read_bytes(), age=50)
    assert await wire.shows(wire.certificates)
    write(wire.certificates.file("server.key"), theirs.file("server.key").read_bytes(), age=50)
    assert await wire.shows(theirs)


async def test_files_that_may_be_half_written_are_not_read_yet(
    wire: Wire, theirs: Certificates, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SETTLED", 20e9)  # however long the handshake takes
    write(wire.certificates.file("server.crt"), b"", age=0)
    assert await wire.shows(wire.certificates)
    wire.certificates.replace(theirs)
    assert await wire.shows(theirs)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def openssl(certificates: Certificates, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=certificates.directory, check=True, capture_output=True)


def tls(ours: Certificates, **files: Path) -> TlsConfig:
    names = {"certificate": ours.file("server.crt"), "key": ours.file("server.key")}
    return TlsConfig(**{**names, **files})


async def test_files_that_cannot_be_used_stop_the_start_with_their_name(
    shelf: Shelf, ours: Certificates, theirs: Certificates, tmp_path: Path
) -> None:
    encrypted, none, text = tmp_path / "encrypted.key", tmp_path / "none", write(tmp_path / "text", "no PEM")
    openssl(ours, f"ec -in server.key -aes128 -passout pass:x -out {encrypted}")
    for settings, words in (
        (tls(ours, certificate=none), f"registry.tls.certificate: {none}: No such file"),
        (tls(ours, key=none), f"registry.tls.key: {none}: No such file"),
        (tls(ours, key=theirs.file("server.key")), "belong together"),
        (tls(ours, key=encrypted), "no password"),
        (tls(ours, key=text), "must be PEM"),
        (tls(ours, client_ca=text), f"registry.tls.client_ca: {text}: no certificate in PEM"),
    ):
        with pytest.raises(ConfigError) as caught:
            async with guarded(shelf.root, tls=settings):
                pass
        assert words in str(caught.value)


def sign_client(authority: Certificates, name: str) -> Certificates:
    """Make a client's certificate the way docs/access.md says it."""
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    openssl(authority, f"req -new {curve} -subj /CN={name} -keyout client.key -out client.csr")
    openssl(authority, "x509 -req -days 365 -in client.csr -CA ca.crt -CAkey ca.key -out client.crt")
    return authority


async def answers(address: str, context: ssl.SSLContext, path: str = "/v2/", **headers: str) -> int | None:
    """Return the status that a client gets; None where TLS refuses it."""
    try:
        async with dialled(address, context) as line:
            return (await line.ask(path, **headers)).status
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_clients_with_a_certificate_of_the_client_ca_come_in(
    shelf: Shelf, ours: Certificates, theirs: Certificates, version: ssl.TLSVersion
) -> None:
    good, bad = sign_client(ours, "node-1"), sign_client(theirs, "node-1")
    async with guarded(shelf.root, tls=ours.settings(ours.file("ca.crt"))) as address:
        for client, status in ((good, 200), (None, None), (bad, None)):
            context = ours.trusted(client=client)
            context.minimum_version = context.maximum_version = version
            assert await answers(address, context) == status


def resume(address: str, context: ssl.SSLContext, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
    """Ask for `/v2/`, in a resumed session if the server agrees; return the session, None where TLS refuses it."""
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), 60) as plain,
            context.wrap_socket(plain, server_hostname=host, session=session) as line,
        ):
            line.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            return line.session if line.recv(100).startswith(b"HTTP/1.1 200") else None
    except OSError:
        return None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_ca_taken_out_lets_its_clients_in_no_more_even_resumed(
    shelf: Shelf, ours: Certificates, theirs: Certificates, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    mine, other = sign_client(ours, "node-1"), sign_client(theirs, "node-2")
    trusted = write(tmp_path / "clients.pem", ours.file("ca.crt").read_bytes())
    before = ours.trusted(client=mine)
    before.maximum_version = version
    async with guarded(shelf.root, tls=ours.settings(trusted)) as address:
        session = await asyncio.to_thread(resume, address, before, None)
        assert session is not None
        write(trusted, theirs.file("ca.crt").read_bytes(), age=30)
        assert await asyncio.to_thread(resume, address, before, session) is None
        assert await answers(address, ours.trusted(client=other)) == 200


async def test_a_certificate_is_a_name_where_there_are_no_passwords(shelf: Shelf, ours: Certificates) -> None:
    context = ours.trusted(client=sign_client(ours, "node-1"))
    settings = ours.settings(ours.file("ca.crt"))
    async with guarded(shelf.root, AuthConfig(users={"node-1": ("app",)}), settings) as address:
        assert await answers(address, context, "/v2/app/manifests/1") == 200
        assert await answers(address, context, "/v2/other/manifests/1") == 403
    async with guarded(shelf.root, AuthConfig(users={"node-2": ("app",)}), settings) as address:
        assert await answers(address, context, "/v2/app/manifests/1") == 403


async def test_with_passwords_the_certificate_only_opens_the_door(
    shelf: Shelf, ours: Certificates, tmp_path: Path
) -> None:
    context = ours.trusted(client=sign_client(ours, "node-1"))
    auth = AuthConfig(htpasswd=accounts(tmp_path, entry("ann", "secret")))
    async with guarded(shelf.root, auth, ours.settings(ours.file("ca.crt"))) as address:
        assert await answers(address, context) == 401
        assert await answers(address, context, Authorization=basic("ann", "secret")) == 200
        assert await answers(address, ours.trusted(), Authorization=basic("ann", "secret")) is None
