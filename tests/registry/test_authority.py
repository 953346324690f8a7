"""`podbridge config tls-init`: an authority that stays, a certificate that follows its hosts, modes, words."""

import json
import ssl
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.registry.authority import make_files
from tests.registry.entrance import Certificates, dialled, guarded


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def hosts(directory: Path) -> str:
    command = "openssl x509 -in server.crt -noout -ext subjectAltName"
    return subprocess.run(command.split(), cwd=directory, check=True, capture_output=True, text=True).stdout


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", "config", "tls-init", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_keys_are_for_their_owner_only_and_certificates_for_everybody(tmp_path: Path) -> None:
    make_files(tmp_path / "tls", ["a"])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tls").iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600, "server.crt": 0o644, "server.key": 0o600}


def test_openssl_accepts_the_chain_by_its_strict_rules(tmp_path: Path) -> None:
    make_files(tmp_path, ["reg.example.com", "192.0.2.7", "2001:db8::7"])
    for name in ("-verify_hostname=reg.example.com", "-verify_ip=192.0.2.7", "-verify_ip=2001:db8::7"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *name.split("=")]
        subprocess.run([*command, "-CAfile", tmp_path / "ca.crt", tmp_path / "server.crt"], check=True)


def test_run_again_it_changes_nothing(tmp_path: Path) -> None:
    make_files(tmp_path, ["a", "192.0.2.7"])
    before = contents(tmp_path)
    assert make_files(tmp_path, ["192.0.2.7"])[1] == ()
    assert contents(tmp_path) == before


def test_more_hosts_make_a_new_certificate_that_keeps_the_old_ones_and_the_authority(tmp_path: Path) -> None:
    make_files(tmp_path, ["a"])
    before = contents(tmp_path)
    assert make_files(tmp_path, ["b"])[1] == (tmp_path / "server.crt",)
    after = contents(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"server.crt"}
    for name in ("DNS:a", "DNS:b", "DNS:localhost", "IP Address:127.0.0.1"):
        assert name in hosts(tmp_path)


@pytest.mark.parametrize("missing", [("ca.crt",), ("server.key",), ("server.crt",), ("server.key", "server.crt")])
def test_what_is_missing_after_a_crash_is_made(tmp_path: Path, missing: tuple[str, ...]) -> None:
    make_files(tmp_path, ["a"])
    before = contents(tmp_path)
    for name in missing:
        (tmp_path / name).unlink()
    make_files(tmp_path, ["a"])
    assert contents(tmp_path)["ca.key"] == before["ca.key"]
    subprocess.run(["openssl", "verify", "-CAfile", tmp_path / "ca.crt", tmp_path / "server.crt"], check=True)
    ssl.create_default_context().load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")


def test_an_authority_that_lost_its_key_is_not_replaced(tmp_path: Path) -> None:
    make_files(tmp_path, ["a"])
    before = (tmp_path / "ca.crt").read_bytes()
    (tmp_path / "ca.key").unlink()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"ca\.key: is missing"):
            make_files(tmp_path, ["a"])
    assert (tmp_path / "ca.crt").read_bytes() == before
    assert not (tmp_path / "ca.key").exists()


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "server.crt", "server.key"])
def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=name):
        make_files(tmp_path, ["a"])
    assert (tmp_path / name).read_text() == "mine"


def test_what_is_no_host_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a host name: 'bü'"):
        make_files(tmp_path, ["bü"])


async def test_a_client_that_trusts_the_authority_connects_by_address(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path / "tls")
    async with (
        guarded(tmp_path / "tree", tls=certificates.settings()) as address,
        dialled(address, certificates.trusted()) as line,
    ):
        assert (await line.ask("/v2/")).status == 200


def test_it_says_what_each_client_needs(tmp_path: Path) -> None:
    config = tmp_path / "podbridge.yaml"
    config.write_text("registry:\n  listen: 0.0.0.0:5443\n")
    said = run("--config", config, "--host", "reg.example.com").stdout
    directory = tmp_path / "tls"
    for words in (
        f"wrote {directory / 'ca.crt'}",
        f"certificate: {directory / 'server.crt'}",
        "/etc/containers/certs.d/reg.example.com:5443/ca.crt",
        "/etc/docker/certs.d/reg.example.com:5443/ca.crt",
        "/etc/containerd/certs.d/reg.example.com:5443/ca.crt",
        "/etc/rancher/k3s/registries.yaml",
    ):
        assert words in said
    assert "everything is there already" in run("--config", config, "--host", "reg.example.com").stdout
    made = json.loads(run("--config", config, "--host", "other", "--json").stdout)
    assert made["written"] == [str(directory / "server.crt")]


def test_a_directory_that_cannot_be_written_is_one_line_and_78(tmp_path: Path) -> None:
    done = run("--directory", "/proc/none")
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
