"""How `podbridge serve` starts, refuses to, and looks on a terminal."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.programs import SOON, eventually
from tests.end_to_end.services import Client, Service


class Terminal:
    """What a program has shown on a terminal of 120 columns, without its colours and cursor movements."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._raw = b""

    def text(self) -> str:
        """Read what there is, and return everything so far."""
        while select.select([self._descriptor], [], [], 0)[0]:
            try:
                self._raw += os.read(self._descriptor, 65536)
            except OSError:  # nobody holds the other end any more
                break
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self._raw.decode(errors="replace"))

    def raw(self) -> str:
        """Return everything so far, with its colours."""
        self.text()
        return self._raw.decode(errors="replace")

    def drained(self) -> bool:
        """Read what there is: a program whose output nobody reads cannot end."""
        self.text()
        return True

    def shows(self, words: str, seconds: float = SOON) -> None:
        """Wait until it shows the words."""
        deadline = time.monotonic() + seconds
        while words not in self.text():
            assert time.monotonic() < deadline, f"{words!r} is not shown:\n{self.text()}"
            time.sleep(0.02)


@contextmanager
def on_a_terminal(service: Service, *words: str) -> Iterator[Terminal]:
    """Run a verb on a terminal while the block runs."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(service.command(*words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    terminal = Terminal(ours)
    try:
        yield terminal
        process.send_signal(signal.SIGINT)
        eventually(lambda: terminal.drained() and process.poll() is not None)
        assert process.returncode == 0, terminal.text()
        assert "Traceback" not in terminal.text()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def gated_podman(service: Service) -> tuple[list[str], Path]:
    """Return a podman whose exports wait until a file is there, and that file."""
    gate, program = service.directory / "gate", service.directory / "podman"
    lines = ["#!/bin/sh", 'case "$*" in *"image save"*)', f"while [ ! -e {gate} ]; do sleep 0.05; done;;", "esac"]
    program.write_text("\n".join([*lines, 'exec podman "$@"', ""]), encoding="utf-8")
    program.chmod(0o755)
    return [str(program), *service.store.command[1:]], gate


def test_a_terminal_shows_what_is_watched_where_the_registry_is_and_what_to_try(own: Service) -> None:
    own.store.build("localhost/hello:1")
    with on_a_terminal(own, "serve") as terminal:
        terminal.shows(f"\n  podman pull --tls-verify=false {own.address}/hello:1\n")
        text = terminal.text()
        assert re.search(r"watches +podman on /\S+, a service that podbridge runs itself", text)
        assert f"http://{own.address}\n" in text
        assert f"{own.tree}\n" in text
        assert "Ready: 1 published. Try, in a second terminal:" in text
        assert "\n  podman build -t localhost/hello:1 .\n" in text


def test_a_terminal_shows_the_progress_of_an_export_that_takes_longer_than_a_second(own: Service) -> None:
    command, gate = gated_podman(own)
    own.configure({"podman": {"command": command}})
    own.store.build("localhost/slow:1")
    with on_a_terminal(own, "serve") as terminal:
        terminal.shows("0/1 layers")
        eventually(lambda: re.search(r"localhost/slow:1 .*0/1 layers, \d+ B, \d+ B/s", terminal.text()))
        assert "exporting localhost/slow:1: 0/1 layers" in own.ask("status").stdout
        gate.touch()
        terminal.shows("Ready: 1 published")


def test_without_a_terminal_there_are_only_plain_lines(own: Service) -> None:
    own.store.build("localhost/hello:1")
    own.start()
    assert own.end() == 0
    lines = own.said().splitlines()
    assert [
        line for line in lines if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) [a-z]", line)
    ] == []
    assert f"serving registry={own.address} tree={own.tree} podman_socket=/" in lines[0]
    assert len(lines) == 3
    assert lines[-1].endswith("ready published=1 failed=0")


def test_a_second_service_on_the_same_control_socket_is_refused_in_one_line(own: Service) -> None:
    own.start()
    done = own.ask("serve", "--tree", str(own.directory / "another"), "--listen", "127.0.0.1:0")
    assert done.returncode == 1
    assert done.stderr == f"podbridge: a podbridge runs already, on control socket {own.socket}\n"
    eventually(lambda: own.ask("status").returncode == 0)


def test_a_port_that_is_taken_is_refused_in_one_line(own: Service) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for verb in ("serve", "registry"):
            done = own.ask(verb, "--listen", f"127.0.0.1:{port}")
            assert done.returncode == 1
            assert done.stderr.startswith(f"podbridge: cannot listen on 127.0.0.1:{port}: Address already in use; ")
            assert "--listen HOST:PORT" in done.stderr
            assert done.stderr.count("\n") == 1


def test_what_fails_when_half_of_the_service_runs_is_told_in_one_line_too(own: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        own.configure({"metrics": {"listen": f"127.0.0.1:{port}"}})
        done = own.ask("serve")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert f"podbridge: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr


def test_a_socket_that_a_killed_service_left_is_taken_over(own: Service) -> None:
    own.start().end(signal.SIGKILL)
    assert own.socket.exists()
    own.start()
    eventually(lambda: own.ask("status").returncode == 0)


def test_a_file_in_the_place_of_the_control_socket_is_left_alone(own: Service) -> None:
    own.socket.write_text("precious", encoding="utf-8")
    done = own.ask("serve")
    assert done.returncode == 1
    assert done.stderr.startswith(f"podbridge: cannot listen on {own.socket}: Address already in use")
    assert own.socket.read_text(encoding="utf-8") == "precious"


def test_flags_stand_over_the_file(own: Service) -> None:
    tree = own.directory / "elsewhere"
    own.begin("serve", "--tree", str(tree), "--listen", "127.0.0.1:0")
    eventually(lambda: "INFO ready" in own.said())
    assert f"tree={tree} " in own.said()
    assert f"registry={own.address} " not in own.said()
    assert not own.tree.exists()


def test_the_address_that_is_told_is_the_one_that_a_free_port_became(own: Service) -> None:
    own.begin("serve", "--listen", "127.0.0.1:0")
    eventually(lambda: "INFO ready" in own.said())
    status = own.ask("status").stdout
    address = re.search(r"registry +http://(127\.0\.0\.1:[1-9]\d+)\n", status)
    assert address is not None, status
    assert Client(address[1]).get("/v2/").status == 200


def test_as_json_every_line_is_an_object_with_the_pairs_as_keys(own: Service) -> None:
    own.configure({"log": {"format": "json"}})
    own.store.build("localhost/hello:1")
    own.begin()
    eventually(lambda: '"ready"' in own.said())
    assert own.end() == 0
    lines = [json.loads(line) for line in own.said().splitlines()]
    (published,) = (line for line in lines if line["msg"] == "published")
    assert (published["level"], published["reference"]) == ("info", "hello:1")
    assert published["digest"] == own.store.digest("localhost/hello:1")
    assert published["seconds"] > 0
    assert published["read"] > 0


def test_the_level_of_the_log_is_a_setting(own: Service) -> None:
    own.configure({"log": {"level": "debug"}})
    own.begin()
    eventually(lambda: "DEBUG poked reason=" in own.said())


def test_no_color_takes_the_colours_away_on_a_terminal(own: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        with on_a_terminal(own, "registry") as terminal:
            terminal.shows("there is no tree yet")
            assert ("\x1b[33m" in terminal.raw()) is coloured
