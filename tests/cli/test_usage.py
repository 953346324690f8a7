"""Help, exit codes and refusals: what somebody reads who tries things."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bridge.cli import SUMMARIES, cli
from tests.end_to_end.programs import podbridge

VERBS = (
    "serve", "sync", "registry", "status", "list", "explain", "publish", "withdraw", "resync", "events", "verify", "gc",
    "config", "config show", "config check",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_help(verb: str) -> None:
    done = podbridge(*verb.split(), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: podbridge {verb} ")


def test_the_help_names_every_verb_and_the_exit_codes() -> None:
    done = podbridge("--help")
    assert done.returncode == 0
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.split()}
    assert {verb for verb in VERBS if " " not in verb} <= listed
    assert "Exit codes: 0 done, 1 failed and said why, 2 usage, 78 configuration." in done.stdout


def test_the_help_says_of_a_verb_what_its_own_help_begins_with() -> None:
    context = click.Context(cli)
    verbs = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    assert {name: (verb.help or "").splitlines()[0] for name, verb in verbs.items() if verb} == SUMMARIES


def test_the_help_imports_no_verb() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "bridge", "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    slow = ("asyncio", "msgspec", "yaml", "requests", "aiohttp", "rich", "bridge.config", "bridge.cli.run")
    imported = {line.rpartition("|")[2].strip() for line in done.splitlines() if line.startswith("import time")}
    assert "click" in imported
    assert not imported.intersection(slow)


def test_the_version_is_one_line() -> None:
    done = podbridge("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("podbridge ")
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["serve", "--frobnicate"], ["publish"], ["explain"], ["withdraw"], ["list", "extra"], []]
)
def test_wrong_usage_exits_2(words: list[str]) -> None:
    done = podbridge(*words)
    assert done.returncode == 2
    assert "Usage: podbridge" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tree: /x\nregistyr: {}\n", ":2: registyr: unknown key; did you mean `registry`?"),
        ("registry:\n  lisen: x\n", ":2: registry.lisen: unknown key; did you mean `listen`?"),
        ("tree: 5\n", ":1: tree: expected `path`, got 5"),
        ("podman:\n  command: podman\n", ":2: podman.command: expected `array`, got `str`"),
        ("tree: /a\nregistry: {}\ntree: /b\n", ":3: key `tree` stands twice, first in line 1"),
        ("tree: [\n", ":2: not YAML: "),
        ("- a\n", ":1: expected a mapping of settings"),
        ("registry:\n  listen: somewhere\n", ":2: registry.listen: expected HOST:PORT, got 'somewhere'"),
        ("tree: /x\nresync: 5 parsecs\n", ":2: resync: expected a duration such as 30s, 5m, 1h or 7d"),
        ("publish:\n- as: '{pth}:{tag}'\n", ":2: publish[0]: as: bad template '{pth}:{tag}': no field 'pth'"),
        ("publish:\n- as: '{path}'\n", ":2: publish[0]: as: bad template '{path}': it makes no NAME:TAG: "),
        ("publish:\n- match: x\n- mach: y\n", ":3: publish[1].mach: unknown key; did you mean `match`?"),
    ],
)
def test_a_wrong_configuration_exits_78_with_file_line_and_key(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text(text, encoding="utf-8")
    done = podbridge("--config", file, "config", "check")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"podbridge: {file}{problem}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["serve", "sync", "registry", "status", "verify"])
def test_every_verb_refuses_a_wrong_configuration(tmp_path: Path, verb: str) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text("tree: 5\n", encoding="utf-8")
    done = podbridge(verb, "--config", file)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"podbridge: {file}:1: tree: expected `path`, got 5\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["serve", "--listen", "nowhere"], "registry.listen: expected HOST:PORT, got 'nowhere'"),
        (["sync", "--podman-socket", "tcp://x"], "podman.socket: expected unix:///PATH"),
        (["--config", "/nowhere", "status"], "/nowhere: No such file or directory"),
    ],
)
def test_a_wrong_flag_exits_78(words: list[str], problem: str) -> None:
    done = podbridge(*words)
    assert done.returncode == 78
    assert done.stderr.startswith(f"podbridge: {problem}")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_cannot_be_printed_is_one_line_and_exits_1(unbuffered: str) -> None:
    command = [sys.executable, "-m", "bridge", "config", "show"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (1, "podbridge: cannot write: No space left on device\n")


@pytest.mark.parametrize("verb", ["verify", "gc", "registry"])
def test_a_tree_that_cannot_be_read_is_one_line_and_exits_1(tmp_path: Path, verb: str) -> None:
    (tmp_path / "podbridge.json").mkdir()
    done = podbridge(verb, "--tree", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"podbridge: {tmp_path}/podbridge.json: Is a directory\n"


@pytest.mark.parametrize("verb", ["serve", "sync"])
def test_without_podman_it_exits_78_and_says_what_to_do(tmp_path: Path, verb: str) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text("podman: {command: [no-such-podman]}\n", encoding="utf-8")
    done = podbridge("--config", file, verb, "--tree", tmp_path / "tree")
    assert done.returncode == 78
    assert "no-such-podman is not installed" in done.stderr
    assert "podbridge registry" in done.stderr
    assert not (tmp_path / "tree").exists()


def test_config_check_says_that_a_file_is_in_order_or_which_one_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text("tree: /srv/podbridge\n", encoding="utf-8")
    assert podbridge("config", "check", "--config", file).stdout == f"{file}: in order\n"
    file.write_text("podman: {socket: 'tcp://x'}\n", encoding="utf-8")
    assert podbridge("config", "check", "--config", file).returncode == 78


def test_config_show_tells_where_each_value_came_from(tmp_path: Path) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text("tree: /from/file\n\nresync: 7m\nregistry: {listen: 'a:1'}\n", encoding="utf-8")
    done = podbridge("--config", file, "config", "show", "--listen", "b:2", "--json")
    shown = {key: (item["value"], item["origin"]) for key, item in json.loads(done.stdout).items()}
    assert shown["tree"] == ("/from/file", f"{file}:1")
    assert shown["resync"] == ("7m", f"{file}:3")
    assert shown["registry.listen"] == ("b:2", "flag")
    assert shown["grace"] == ("1h", "default")
    lines = podbridge("--config", file, "config", "show").stdout.splitlines()
    assert lines[0].split() == ["SETTING", "VALUE", "ORIGIN"]
    assert ["tree", '"/from/file"', f"{file}:1"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    "words",
    [
        ["status"], ["list"], ["list", "--json"], ["explain", "x"], ["publish", "x"], ["publish", "x", "--as", "y:1"],
        ["withdraw", "x:1"], ["resync"],
    ],
)  # fmt: skip
def test_where_no_service_runs_it_says_so_and_how_to_start_one(tmp_path: Path, words: list[str]) -> None:
    file = tmp_path / "podbridge.yaml"
    socket = tmp_path / "control.sock"
    file.write_text(f"control: {{socket: {socket}}}\n", encoding="utf-8")
    done = podbridge("--config", file, *words)
    expected = f"podbridge: no podbridge service answers on {socket}: start one with `podbridge serve`\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
