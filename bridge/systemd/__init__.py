"""All that we know of systemd: the sockets that it hands over, and what it is told."""

from bridge.systemd.notify import Notifier
from bridge.systemd.sockets import Sockets

__all__ = ["Notifier", "Sockets"]
