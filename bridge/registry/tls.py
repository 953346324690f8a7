"""TLS: version 1.2 at least, a certificate that is replaced without dropping a connection, client certificates."""

import asyncio
import contextlib
import logging
import ssl
from asyncio import sslproto
from collections.abc import Iterator
from pathlib import Path

from bridge.config import TlsConfig
from bridge.descriptors import is_shortage
from bridge.errors import ConfigError
from bridge.registry.files import Files

log = logging.getLogger(__name__)

_READ = 16 * 1024
"""Bytes of the largest read. asyncio's 256 KiB are a buffer for each connection, which its client need not even use."""

_UNUSABLE = "cannot be used with registry.tls.key: both must be PEM, belong together, and the key have no password"
"""OpenSSL's own words are `PEM lib` for most of it."""


class Encrypted(sslproto.SSLProtocol):
    """TLS between a transport and the protocol of a client's connection, with a small buffer."""

    max_size = _READ

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._below = transport
        super().connection_made(transport)

    def eof_received(self) -> None:
        """End the connection of a client that has closed its side: TLS has no half of one.

        While a client is read no further, asyncio would keep it, and drop all that is written from then on.
        """
        if bool(super().eof_received()):
            self._below.abort()


class Tls:
    """The context to listen with. Raises ConfigError where a file cannot be used at the start.

    Each handshake looks whether the files were replaced. Those that cannot be used are refused with
    one error in the log, and the ones before stay; open connections keep what they began with.
    """

    def __init__(self, settings: TlsConfig) -> None:
        self._settings = settings
        self._files = Files(filter(None, (settings.certificate, settings.key, settings.client_ca)))
        self._shown = self.context = make_context(settings)
        self.context.sni_callback = self._show

    def _show(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        """Give a handshake the newest certificate; OpenSSL asks whether or not the client names a server."""
        if self._files.changed():
            self._read_again()
        if self._shown is not self.context:
            connection.context = self._shown

    def _read_again(self) -> None:
        try:
            self._shown = make_context(self._settings)
        except ConfigError as error:
            if is_shortage(error.__cause__):
                self._files.forget()
                return
            log.error("new certificate refused, the one before stays error=%r", str(error))  # noqa: TRY400
            return
        log.info("certificate read again file=%s", self._settings.certificate)


def make_context(settings: TlsConfig) -> ssl.SSLContext:
    """Return a server's context from the files; raise ConfigError, which names the file, where one cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load(context, settings)
    if settings.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        # a resumed session would skip the look at the certificate, and so a CA that was taken out
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, settings: TlsConfig) -> None:
    with _naming("key", settings.key, ""), settings.key.open("rb"):
        pass  # OpenSSL would not say which of the two is missing
    with _naming("certificate", settings.certificate, _UNUSABLE):
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
    if settings.client_ca is not None:
        with _naming("client_ca", settings.client_ca, "no certificate in PEM"):
            context.load_verify_locations(settings.client_ca)


@contextlib.contextmanager
def _naming(key: str, file: Path, unusable: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        words = unusable if isinstance(error, ssl.SSLError) else error.strerror
        msg = f"registry.tls.{key}: {file}: {words}"
        raise ConfigError(msg) from error


def _no_password() -> str:
    """Refuse an encrypted key: OpenSSL would ask the terminal for its password, and wait."""
    return ""
