"""Listening: a TCP socket, an aiohttp server on it, an orderly end."""

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from bridge.errors import ListenError
from bridge.registry.app import Registry
from bridge.registry.errors import Code, RegistryError, error_response
from bridge.tree.reader import TreeReader

log = logging.getLogger(__name__)

_DRAIN = 10.0
"""Seconds that pulls under way get to finish when the registry stops."""


class _Connection(web.RequestHandler):
    """One client's connection. What fails outside the application is answered in the registry's own way too."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP with 400, and a fault of ours with 500; let a client that hung up go."""
        if isinstance(exc, ConnectionError):
            raise exc
        if status < 500:
            response = error_response(RegistryError(Code.BAD_REQUEST, (message or "").strip()[:300]))
        else:
            log.error("request failed path=%r", request.raw_path, exc_info=exc)
            if request.writer.output_size > 0:
                msg = "a part of the answer is sent already"
                raise ConnectionError(msg)
            response = error_response(RegistryError(Code.UNKNOWN))
        response.force_close()
        return response


class _Server(web.Server):
    """Makes a `_Connection` for each client."""

    def __call__(self) -> _Connection:
        return _Connection(self, loop=self._loop, **self._kwargs)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket; raise ListenError that says what to do."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=kind, backlog=1024)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        msg = f"cannot listen on {host}:{port}: {why}; choose another address with --listen HOST:PORT"
        raise ListenError(msg) from error


@contextlib.asynccontextmanager
async def serving(tree: Path, listener: socket.socket) -> AsyncIterator[str]:
    """Serve `tree` on `listener` while the block runs; yields the address, `HOST:PORT`."""
    server = _Server(Registry(TreeReader(tree)).handle, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_DRAIN)
    await runner.setup()
    try:
        # the site closes the listener
        await web.SockSite(runner, listener).start()
        host, port = listener.getsockname()[:2]
        yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        await runner.cleanup()
