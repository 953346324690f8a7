"""A file of accounts or of TLS that cannot be read for want of descriptors changes nothing, and is read again."""

import os
import subprocess
import sys
from pathlib import Path

from tests.registry.entrance import Certificates

HERE = Path(__file__).parents[2]

_FULL = """
import contextlib, os, resource, shutil, sys, types
from pathlib import Path
from bridge.config import TlsConfig
from bridge.registry.htpasswd import Htpasswd
from bridge.registry.tls import Tls

@contextlib.contextmanager
def nothing_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    taken = []
    try:
        while True:
            taken.append(os.open("/", os.O_PATH))
    except OSError:
        pass
    yield
    for descriptor in taken:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""

_ACCOUNTS = """
file = Path(sys.argv[1])
ENTRY = ":$2b$04$" + "a" * 53 + chr(10)
file.write_text("before" + ENTRY)
os.utime(file, (1, 1))
accounts = Htpasswd(file)
file.write_text("after" + ENTRY)
os.utime(file, (2, 2))
with nothing_left():
    print(*accounts.users)
    print(*accounts.users)
print(*accounts.users)
"""

_CERTIFICATES = """
certificate, key, fresh = map(Path, sys.argv[1:])
tls = Tls(TlsConfig(certificate=certificate, key=key))
def shown():
    connection = types.SimpleNamespace(context=None)
    tls.context.sni_callback(connection, None, tls.context)
    return "the same" if connection.context is None else "another"
for name in ("certificate", "key"):
    shutil.copy(fresh / locals()[name].name, locals()[name])
    os.utime(locals()[name], (2, 2))
with nothing_left():
    print(shown())
    print(shown())
print(shown())
"""


def said(program: str, *words: Path) -> list[str]:
    """Run a program to its end, and return its lines."""
    command = [sys.executable, "-c", _FULL + program, *map(str, words)]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.splitlines()


def test_accounts_stay_as_they_are_without_a_descriptor_and_are_read_at_the_next_look(tmp_path: Path) -> None:
    assert said(_ACCOUNTS, tmp_path / "htpasswd") == ["before", "before", "after"]


def test_a_certificate_stays_without_a_descriptor_and_is_read_at_the_next_handshake(tmp_path: Path) -> None:
    first, second = (Certificates.make(tmp_path / name).settings() for name in ("first", "second"))
    for file in (first.certificate, first.key):
        os.utime(file, (1, 1))
    assert first.certificate.name == second.certificate.name
    assert said(_CERTIFICATES, first.certificate, first.key, second.certificate.parent) == [
        "the same", "the same", "another",
    ]  # fmt: skip
