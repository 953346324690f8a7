"""The unit files by themselves: systemd understands them, and says how far they are closed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.systemd.box import UNITS

_FORMS = {
    "local": ("podbridge.service", (), 30),
    "confined": ("podbridge.service", ("confined.conf",), 10),
    "the registry alone": ("podbridge-registry.service", (), 10),
    "daemon-less": ("podbridge-sync.service", (), 30),
}
"""For each form its unit, its drop-ins, and the highest exposure that it may have, in tenths."""


@pytest.mark.parametrize(("unit", "drop_ins", "most"), _FORMS.values(), ids=_FORMS)
def test_a_form_is_as_closed_as_it_says(tmp_path: Path, unit: str, drop_ins: tuple[str, ...], most: int) -> None:
    shutil.copy(UNITS / unit, tmp_path)
    (tmp_path / f"{unit}.d").mkdir()
    for name in drop_ins:
        shutil.copy(UNITS / name, tmp_path / f"{unit}.d")
    done = _analyze("security", "--offline=true", f"--threshold={most}", "--no-pager", tmp_path / unit)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("user", [False, True])
def test_systemd_finds_nothing_to_say_about_any_unit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: bool
) -> None:
    """They name a program that only a machine with podbridge on it has: here another one stands for it."""
    directory = UNITS / "user" if user else UNITS
    units = [path for path in directory.iterdir() if path.suffix in (".service", ".socket", ".path", ".timer")]
    for path in units:
        text = path.read_text(encoding="utf-8")
        for program in ("/usr/bin/podbridge", "%h/.local/bin/podbridge"):
            text = text.replace(f"={program} ", f"={sys.executable} ")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    scope = ("--user",) if user else ()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = _analyze(*scope, "verify", "--man=no", *(tmp_path / path.name for path in units))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("user", [False, True])
def test_every_socket_names_itself_and_its_service(user: bool) -> None:
    for name in ("registry", "control", "api"):
        text = (UNITS / ("user" if user else ".") / f"podbridge-{name}.socket").read_text(encoding="utf-8")
        assert f"\nFileDescriptorName={name}\n" in text
        assert "\nService=podbridge.service\n" in text
        assert ("\nSocketMode=0660\n" in text) == (name != "registry")


def _analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("systemd-analyze", *words), check=False, capture_output=True, text=True, timeout=60)
