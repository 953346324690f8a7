"""Where things are when nobody says otherwise: root's places, or a user's own."""

import os
from pathlib import Path

SYSTEM_SOCKET = Path("/run/podbridge/control.sock")
"""Where the service of the whole machine takes commands; its group may use it, too."""


def default_file() -> Path:
    """Return where the configuration is looked for when nobody names a file."""
    if os.geteuid() == 0:
        return Path("/etc/podbridge/podbridge.yaml")
    return xdg("XDG_CONFIG_HOME", ".config") / "podbridge" / "podbridge.yaml"


def default_podman_socket() -> Path:
    """Return the socket where this user's own podman service listens by default."""
    return _runtime("podman") / "podman.sock"


def runtime_dir() -> Path:
    """Return podbridge's directory for sockets: below `/run` for root, below `$XDG_RUNTIME_DIR` for a user."""
    return _runtime("podbridge")


def _runtime(program: str) -> Path:
    """Return the program's runtime directory; without a login session podman uses one in /tmp, and so do we."""
    user = os.geteuid()
    session = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}") if user else Path("/run")
    there = os.path.isdir(session)  # noqa: PTH112 - also False where systemd's ProtectHome= hides it
    return session / program if there else Path(f"/tmp/{program}-run-{user}/{program}")  # noqa: S108


def xdg(variable: str, fallback: str) -> Path:
    """Return the user's directory that an XDG variable names, by default `fallback` below his home."""
    return Path(os.environ.get(variable) or Path.home() / fallback)
