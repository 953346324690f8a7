"""The manual page and the completion, both made from the command line itself."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.cli.test_usage import VERBS
from tests.end_to_end.programs import PODBRIDGE, ask, run
from tests.end_to_end.services import Service


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("manual") / "podbridge.1"
    path.write_text(run(sys.executable, "-m", "bridge.cli.manual") + "\n", encoding="utf-8")
    return path


def test_the_manual_page_is_in_order(page: Path) -> None:
    assert run("mandoc", "-T", "lint", "-W", "warning", page) == ""
    assert ask("man", "--warnings", "--local-file", page).stderr == ""


def test_the_manual_page_tells_every_verb_with_its_options_and_every_exit_code(page: Path) -> None:
    plain = run("sh", "-c", f"mandoc -T ascii -O width=100 {page} | col -bx")
    for verb in VERBS:
        if verb != "config":
            assert f"\n   {verb}" in plain, verb
    assert plain.count("--help") >= len(VERBS)
    for words in ("--dry-run", "withdraw NAME:TAG", "0      Done.", "78     Configuration.", "NO_COLOR"):
        assert words in plain
    assert "\nDESCRIPTION\n" in plain
    assert "make every image in a podman store pullable" in plain


def test_a_text_that_begins_with_a_dot_or_holds_a_backslash_stays_text(tmp_path: Path) -> None:
    code = (
        r"from bridge.cli.manual import _escape; print('.TH X 1 2026-01-01\n.SH NAME\nx \\- y\n' + _escape('.so \\x'))"
    )
    page = tmp_path / "x.1"
    page.write_text(run(sys.executable, "-c", code) + "\n", encoding="utf-8")
    assert r".so \x" in run("sh", "-c", f"mandoc -T ascii {page} | col -b")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_understands_its_completion(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "completion"
    script.write_text(complete("", 0, f"{shell}_source"), encoding="utf-8")
    assert "podbridge" in script.read_text(encoding="utf-8")
    done = ask(shell, "-n", script)
    assert (done.returncode, done.stderr) == (0, "")


def complete(words: str, position: int, instruction: str = "bash_complete") -> str:
    """Return what the shell is offered for the word at `position`."""
    told = {"COMP_WORDS": words, "COMP_CWORD": str(position), "_PODBRIDGE_COMPLETE": instruction}
    return run("env", *(f"{name}={value}" for name, value in told.items()), *PODBRIDGE)


def test_verbs_options_and_files_are_completed() -> None:
    assert complete("podbridge sta", 1) == "plain,status"
    assert "plain,--dry-run" in complete("podbridge sync --", 2).splitlines()
    assert complete("podbridge sync --config x", 3) == "file,x"
    assert complete("podbridge sync --tree x", 3) == "dir,x"


def test_images_and_references_are_completed_from_the_running_service(service: Service) -> None:
    begin = f"podbridge --config {service.file}"
    assert complete(f"{begin} explain localhost/h", 4) == "plain,localhost/hello:1"
    assert complete(f"{begin} explain h", 4) == "plain,hello:1"
    assert complete(f"{begin} withdraw o", 4) == "plain,other:1"


def test_where_no_service_answers_nothing_is_offered(tmp_path: Path) -> None:
    file = tmp_path / "podbridge.yaml"
    file.write_text(f"control: {{socket: {tmp_path / 'none'}}}\n", encoding="utf-8")
    assert complete(f"podbridge --config {file} withdraw o", 4) == ""
