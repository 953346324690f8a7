"""The way to the control socket, where nobody comes to answer."""

import socket
from pathlib import Path

import pytest

from bridge.cli import client
from bridge.control.schema import Status
from bridge.errors import ControlError


def test_a_socket_on_which_no_service_starts_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_SOON", (1.0, 0.2))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "c"))
        listener.listen()
        with pytest.raises(ControlError, match=f"{tmp_path}/c does not answer; is it starting"):
            client.Client(tmp_path / "c").get("/status", Status)
