"""Saying, once at the start, that a registry is open to a network."""

import ipaddress
import logging
import socket

from bridge.config import AuthConfig, RegistryConfig

log = logging.getLogger(__name__)


def warn_if_open(settings: RegistryConfig, listener: socket.socket) -> None:
    """Warn where the listener can be reached from other machines, and something is not protected."""
    host = listener.getsockname()[0]
    if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        return
    named = settings.auth not in (None, AuthConfig()) or (
        settings.tls is not None and settings.tls.client_ca is not None
    )
    for missing, setting, consequence in (
        (not named, "registry.auth", "everybody who reaches it can read every image"),
        (settings.tls is None, "registry.tls", "images and passwords cross the network in the clear"),
    ):
        if missing:
            log.warning("registry is open to the network listen=%s missing=%s: %s", host, setting, consequence)
