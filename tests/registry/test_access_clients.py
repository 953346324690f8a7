"""Real clients at a registry with TLS and passwords, run as the command runs it; and nothing of them in its log."""

import asyncio
import base64
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.double.gates import DEADLINE
from tests.end_to_end.programs import free_port
from tests.registry.entrance import Certificates, accounts, basic, dialled, entry
from tests.registry.test_clients import daemon, needs, needs_root, publish_runnable, run
from tests.registry.trees import Shelf
from tests.registry.wires import until

SECRET, WRONG, REVOKED = "s3cret-of-ann", "wr0ng-of-ann", "s3cret-of-bob"


NAMES = ("team/app", "public/app", "other/app", "quay.io/public/app")


@dataclass(frozen=True, slots=True)
class Guarded:
    """The running command at `address`, its files, and what it has printed."""

    address: str
    directory: Path
    certificates: Certificates
    digest: str
    process: asyncio.subprocess.Process

    @property
    def printed(self) -> str:
        return (self.directory / "printed").read_text()

    @property
    def authority(self) -> Path:
        """A directory that holds what clients must trust, and nothing else."""
        directory = self.directory / "certs.d" / self.address
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "ca.crt").write_bytes(self.certificates.file("ca.crt").read_bytes())
        return directory

    async def clients(self, file: str) -> str:
        """Return what `podbridge config clients` prints for this registry."""
        config = self.directory / "podbridge.yaml"
        return await run(sys.executable, "-m", "bridge", "--config", config, "config", "clients", file)

    def podman(self) -> tuple[str | Path, ...]:
        store = ("--root", self.directory / "store", "--runroot", self.directory / "run", "--storage-driver", "vfs")
        return ("podman", *store)


def configure(directory: Path, certificates: Certificates, tree: Path) -> tuple[str, Path]:
    """Write the configuration; return the address and the file."""
    address = f"127.0.0.1:{free_port()}"
    file = accounts(directory, entry("ann", SECRET), entry("bob", REVOKED))
    store = ["podman", "--root", f"{directory}/own", "--runroot", f"{directory}/own-run", "--storage-driver", "vfs"]
    settings = {
        "tree": str(tree),
        "control": {"socket": str(directory / "control.sock")},
        "podman": {"command": store},
        "registry": {
            "listen": address,
            "auth": {
                "htpasswd": str(file),
                "users": {"ann": ["team/*"], "bob": ["*"]},
                "anonymous": ["public/*", "quay.io/public/*"],
            },
            "tls": {
                "certificate": str(certificates.file("server.crt")),
                "key": str(certificates.file("server.key")),
            },
        },
    }
    config = directory / "podbridge.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    return address, config


@contextlib.asynccontextmanager
async def running(verb: str, shelf: Shelf, digest: str) -> AsyncIterator[Guarded]:
    with tempfile.TemporaryDirectory(prefix="pb") as short:
        directory = Path(short)
        certificates = Certificates.make(directory / "tls")
        address, config = configure(directory, certificates, shelf.root)
        with (directory / "printed").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bridge", verb, "--config", config, stdout=output, stderr=output
            )
        guarded = Guarded(address, directory, certificates, digest, process)
        try:
            await until(lambda: "serving registry=" in guarded.printed or process.returncode is not None)
            assert process.returncode is None, guarded.printed
            yield guarded
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), DEADLINE)


@pytest.fixture
def shelf(tmp_path: Path) -> tuple[Shelf, str]:
    shelf = Shelf(tmp_path / "tree")
    digests = {name: publish_runnable(shelf, f"{name}:1") for name in NAMES}
    return shelf, digests["team/app"]


@pytest.fixture
async def guarded(shelf: tuple[Shelf, str]) -> AsyncIterator[Guarded]:
    async with running("registry", *shelf) as guarded:
        yield guarded


@pytest.mark.parametrize("file", ["registries.conf", "hosts.toml", "registries.yaml", "daemon.json"])
async def test_the_files_for_clients_speak_https_where_the_registry_does(guarded: Guarded, file: str) -> None:
    text = await guarded.clients(file)
    assert "127.0.0.1:5000" not in text
    assert "http://" not in text
    assert "insecure" not in text
    match file.rpartition(".")[2]:
        case "conf":
            assert {len(one["mirror"]) for one in tomllib.loads(text)["registry"]} == {1}
        case "toml":
            host = tomllib.loads(text)["host"][f"https://{guarded.address}"]
            assert host["ca"] == f"/etc/containerd/certs.d/{guarded.address}/ca.crt"
        case "yaml":
            told = yaml.safe_load(text)
            assert told["mirrors"]["quay.io"]["endpoint"] == [f"https://{guarded.address}"]
            assert set(told["configs"]) == {guarded.address}
        case "json":
            assert json.loads(text) == {"registry-mirrors": [f"https://{guarded.address}"]}


@needs("skopeo")
async def test_skopeo_finds_a_mirrored_image_over_tls_with_the_file_for_it(guarded: Guarded) -> None:
    trusted = guarded.directory / ".config" / "containers"
    trusted.mkdir(parents=True)
    shutil.copytree(guarded.authority.parent, trusted / "certs.d")
    config = guarded.directory / "registries.conf"
    config.write_text(await guarded.clients("registries.conf"))
    copy = (
        "skopeo",
        "--registries-conf",
        config,
        "--insecure-policy",
        "copy",
        "docker://quay.io/public/app:1",
        f"dir:{guarded.directory}/copy",
    )
    await run(*copy, HOME=str(guarded.directory))
    assert (guarded.directory / "copy" / "manifest.json").exists()


@needs("podman")
@needs_root
async def test_podman_logs_in_and_pulls_what_it_may(guarded: Guarded) -> None:
    podman, certs = guarded.podman(), ("--cert-dir", guarded.authority)
    logins = guarded.directory / "auth.json"
    auth = ("--authfile", logins)
    logins.write_text("{}")
    login = (*podman, "login", *certs, *auth, "-u", "ann", "-p")
    pull = (*podman, "pull", "-q", *certs, *auth)
    await run(*pull, f"{guarded.address}/public/app:1")  # without a login
    await run(*pull, f"{guarded.address}/team/app:1", ok=False)
    assert "invalid username/password" in await run(*login, WRONG, guarded.address, ok=False)
    assert "Login Succeeded" in await run(*login, SECRET, guarded.address)
    await run(*pull, f"{guarded.address}/team/app:1")
    said = await run(*podman, "image", "inspect", "--format", "{{.Digest}}", f"{guarded.address}/team/app:1")
    assert said.strip() == guarded.digest
    assert "denied" in await run(*pull, f"{guarded.address}/other/app:1", ok=False)
    untrusted = await run(*podman, "pull", "-q", *auth, f"{guarded.address}/team/app:1", ok=False)
    assert "certificate" in untrusted


@needs("skopeo")
async def test_skopeo_copies_with_credentials_until_the_user_is_taken_out(guarded: Guarded, tmp_path: Path) -> None:
    copy = ("skopeo", "--insecure-policy", "copy", "--src-cert-dir", guarded.authority)
    source, target = f"docker://{guarded.address}/team/app:1", f"dir:{tmp_path / 'copy'}"
    await run(*copy, "--src-creds", f"bob:{REVOKED}", source, target)
    accounts(guarded.directory, entry("ann", SECRET), age=30)
    for refused in (f"bob:{REVOKED}", f"ann:{WRONG}"):
        said = await run(*copy, "--src-creds", refused, source, target, ok=False)
        assert "unauthorized" in said or "invalid username/password" in said
    await run(*copy, source, target, ok=False)
    await run(*copy, source.replace("team", "public"), target)
    await run(*copy, "--src-creds", f"ann:{SECRET}", source, target)


@needs("curl")
async def test_curl_sees_the_challenge_and_the_catalog_of_its_user(guarded: Guarded) -> None:
    curl = ("curl", "-sS", "--cacert", guarded.certificates.file("ca.crt"))
    url = f"https://{guarded.address}/v2"
    said = await run(*curl, "-i", f"{url}/")
    assert "401 Unauthorized" in said
    assert 'WWW-Authenticate: Basic realm="podbridge"' in said
    catalog = json.loads(await run(*curl, "-u", f"ann:{SECRET}", f"{url}/_catalog"))
    assert catalog == {"repositories": ["team/app"]}
    assert json.loads(await run(*curl, f"{url}/_catalog")) == {"repositories": ["public/app", "quay.io/public/app"]}
    assert "SSL" in await run("curl", "-sS", f"{url}/", ok=False)


@needs("containerd")
@needs("ctr")
@needs_root
async def test_containerd_trusts_the_authority_by_the_file_that_tls_init_describes(guarded: Guarded) -> None:
    root, certs = guarded.directory, guarded.authority
    (certs / "hosts.toml").write_text(
        f'server = "https://{guarded.address}"\n[host."https://{guarded.address}"]\n  ca = "{certs}/ca.crt"\n'
    )
    config, wire = root / "containerd.toml", root / "c.sock"
    config.write_text(
        f'version = 2\nroot = "{root}/c-root"\nstate = "{root}/c-state"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{wire}"\n'
    )
    async with daemon(root / "containerd.log", wire, "containerd", "--config", config):
        pull = ("ctr", "--address", wire, "images", "pull", "--snapshotter", "native", "--hosts-dir", certs.parent)
        await run(*pull, f"{guarded.address}/public/app:1")
        await run(*pull, f"{guarded.address}/team/app:1", ok=False)
        await run(*pull, "--user", f"ann:{WRONG}", f"{guarded.address}/team/app:1", ok=False)
        await run(*pull, "--user", f"ann:{SECRET}", f"{guarded.address}/team/app:1")


async def ask_everything(guarded: Guarded) -> None:
    """Send credentials wherever a client might put them, but for a user's name: that of a refused log-in is logged."""
    async with dialled(guarded.address, guarded.certificates.trusted()) as line:
        for password in (SECRET, WRONG):
            for path in ("/v2/", "/v2/team/app/manifests/1", "/v2/other/app/tags/list", "/v2/..", f"/v2/?p={password}"):
                await line.ask(path, Authorization=basic("ann", password))
            await line.ask("/v2/", "PUT", Authorization=basic("ann", password), Content_Length="0")
            await line.ask(f"http://ann:{password}@{guarded.address}/v2/team/app/manifests/1")
            await line.ask("/v2/", Authorization=f"Basic {password}")
    async with dialled(guarded.address, guarded.certificates.trusted()) as line:
        await line.send(f"GET /v2/ HTTP/1.1\r\nAuthorization: {basic('ann', SECRET)}\x01\r\n\r\n".encode())
        await line.answer()


async def test_no_credential_is_ever_printed(guarded: Guarded, shelf: tuple[Shelf, str]) -> None:
    await ask_everything(guarded)
    index = shelf[0].root / "repositories" / "team" / "app" / "_oci" / "index.json"
    index.write_text("damaged")
    await ask_everything(guarded)
    accounts(guarded.directory, entry("ann", SECRET), f"eve:{WRONG}", f"{REVOKED}", age=30)
    await ask_everything(guarded)
    guarded.process.terminate()  # a worker's lines come by way of the parent: at its end all of them are there
    await asyncio.wait_for(guarded.process.wait(), DEADLINE)
    assert "tree cannot be read" in guarded.printed
    assert "entry of the htpasswd file refused" in guarded.printed
    for secret in (SECRET, WRONG, REVOKED):
        for form in (secret, basic("ann", secret)[6:], base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]):
            assert form not in guarded.printed


@needs("podman")
@needs_root
async def test_the_whole_service_has_the_same_rules(shelf: tuple[Shelf, str]) -> None:
    """An image of podman's own store is denied to who may not read it, as in `podbridge registry`."""
    empty = Shelf(shelf[0].root.parent / "served")
    async with running("serve", empty, "") as guarded:
        await until(lambda: "ready published=" in guarded.printed)
        async with dialled(guarded.address, guarded.certificates.trusted()) as line:
            assert (await line.ask("/v2/")).status == 401
            assert (await line.ask("/v2/public/none/tags/list")).status == 404
            ann = {"Authorization": basic("ann", SECRET)}
            assert (await line.ask("/v2/", **ann)).status == 200
            assert (await line.ask("/v2/other/app/tags/list", **ann)).status == 403
        assert SECRET not in guarded.printed


@needs("dockerd")
@needs("containerd")
@needs("unshare")
@needs_root
@pytest.mark.skipif(not Path("/etc/docker").is_dir(), reason="there is no place for the tests' own /etc/docker")
async def test_docker_engine_logs_in_and_pulls(guarded: Guarded) -> None:
    root = guarded.directory
    wire = root / "d.sock"
    # docker looks for authorities in /etc/docker only; this one is seen by nobody else
    inside = f"mount -t tmpfs none /etc/docker && cp -r {guarded.authority.parent} /etc/docker/ && exec dockerd"
    options = f"--data-root {root}/d-root --exec-root {root}/d-exec --pidfile {root}/d.pid --host unix://{wire}"
    alone = "--storage-driver vfs --iptables=false --ip6tables=false --bridge=none"
    async with daemon(root / "dockerd.log", wire, "unshare", "-m", "sh", "-c", f"{inside} {options} {alone}"):
        docker = ("docker", "--config", root / "docker", "--host", f"unix://{wire}")
        image = f"{guarded.address}/team/app:1"
        await run(*docker, "pull", f"{guarded.address}/public/app:1", ok=False)  # it goes no way without a login
        await run(*docker, "login", "-u", "ann", "-p", WRONG, guarded.address, ok=False)
        await run(*docker, "login", "-u", "ann", "-p", SECRET, guarded.address)
        assert guarded.digest in await run(*docker, "pull", image)
        await run(*docker, "pull", f"{guarded.address}/other/app:1", ok=False)
