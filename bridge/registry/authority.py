"""A small certificate authority on disk, for a registry that has no certificate from elsewhere.

<directory>/
  ca.crt       what clients trust, 0644; made once, never again: clients hold copies of it
  ca.key       0600
  server.crt   what the registry shows, signed by it, 0644
  server.key   0600
"""

import datetime
import ipaddress
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.errors import ConfigError

_DAY = datetime.timedelta(days=1)
_CA_DAYS = 3650
_SERVER_DAYS = 825
_RENEWED_DAYS = 30
"""Days before its end from which a server certificate is made anew."""

ALWAYS = ("localhost", "127.0.0.1", "::1")
"""Names that every server certificate has."""

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the files lie."""

    directory: Path

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.directory / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """The authority's key."""
        return self.directory / "ca.key"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.directory / "server.crt"

    @property
    def key(self) -> Path:
        """The server's key."""
        return self.directory / "server.key"


def make_files(directory: Path, hosts: Iterable[str]) -> tuple[TlsFiles, tuple[Path, ...]]:
    """Make an authority and a server certificate for `hosts`; return where they are, and which files were written.

    Idempotent: an authority that is there stays; a server certificate stays while it names every host,
    is of this authority, and does not end soon. A new one names the hosts of the old one too. Raises ConfigError.
    """
    files = TlsFiles(directory)
    written: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        if files.ca.exists() and not files.ca_key.exists():
            msg = f"{files.ca_key}: is missing, and signs for ca.crt; bring it back, or take another directory"
            raise ConfigError(msg)
        ca_key = _key(files.ca_key, written)
        ca = _authority(files.ca, ca_key, written)
        _server(files, (ca, ca_key), hosts, written)
    except OSError as error:
        msg = f"{error.filename or directory}: {error.strerror}"
        raise ConfigError(msg) from error
    return files, tuple(written)


def _key(path: Path, written: list[Path]) -> Key:
    if path.exists():
        return _read_key(path)
    made = ec.generate_private_key(ec.SECP256R1())
    content = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, content, 0o600, written)
    return made


def _read_key(path: Path) -> Key:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        msg = f"{path}: not a key in PEM without a password; podbridge overwrites no key: choose another directory"
        raise ConfigError(msg) from error
    if not isinstance(key, Key):
        msg = f"{path}: not a key that podbridge made; choose another directory"
        raise ConfigError(msg)
    return key


def _authority(path: Path, key: Key, written: list[Path]) -> x509.Certificate:
    if path.exists():
        certificate = _certificate(path)
        if certificate.public_key() != key.public_key():
            msg = f"{path}: does not belong to ca.key beside it; a new authority needs a directory of its own"
            raise ConfigError(msg)
        return certificate
    name = _name("podbridge local CA")
    certificate = (
        _begin(name, name, key, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644, written)
    return certificate


def _server(files: TlsFiles, ca: tuple[x509.Certificate, Key], hosts: Iterable[str], written: list[Path]) -> None:
    """Sign a certificate for the server's key, unless the one that is there will do."""
    key = _key(files.key, written)
    old = _certificate(files.certificate) if files.certificate.exists() else None
    wanted = dict.fromkeys([*hosts, *ALWAYS, *(_hosts(old) if old else ())])
    if old and set(wanted) == set(_hosts(old)) and old.public_key() == key.public_key() and _is_good(old, ca[0]):
        return
    names = x509.SubjectAlternativeName([_general(host) for host in wanted])
    certificate = (
        _begin(_name(next(iter(wanted))[:64]), ca[0].subject, key, _SERVER_DAYS)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca[1].public_key()), critical=False)
        .sign(ca[1], hashes.SHA256())
    )
    _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644, written)


def _begin(subject: x509.Name, issuer: x509.Name, key: Key, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # a client's clock may be late
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _is_good(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Say whether a certificate is of this authority, and has some time left."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > _RENEWED_DAYS * _DAY


def _hosts(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        msg = f"not a host name: {host!r}; a name outside ASCII is written as xn--…"
        raise ConfigError(msg) from error


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        msg = f"{path}: not a certificate in PEM; move it away, and podbridge makes another"
        raise ConfigError(msg) from error


def _write(path: Path, content: bytes, mode: int, written: list[Path]) -> None:
    """Put a file in its place, whole or not at all, and never readable to more than `mode` says."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
    written.append(path)
