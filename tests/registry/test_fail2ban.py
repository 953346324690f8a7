"""What contrib/fail2ban makes of podbridge's log: each refused log-in counts for its peer, and for no other."""

import asyncio
import configparser
import logging
import re
import shutil
from pathlib import Path

import pytest

from bridge import logs
from bridge.config import AuthConfig
from tests.double.gates import DEADLINE
from tests.registry.entrance import accounts, basic, entry, guarded
from tests.registry.wires import ask
from tests.systemd.box import REPOSITORY

FILTER = REPOSITORY / "contrib" / "fail2ban" / "filter.conf"
ATTACKS = ["ann", "x log-in refused peer=192.0.2.9 user='", 'y"\nlog-in refused peer=192.0.2.9 user=', "{", "é\x00\x1b"]
OTHERS = [
    "INFO request peer=192.0.2.9 user='WARNING log-in refused peer=192.0.2.9 user=' method=GET",
    "WARNING publication failed error='log-in refused peer=192.0.2.9 user='",
    '{"time": "x", "level": "info", "msg": "request", "user": "log-in refused peer=192.0.2.9 user="}',
]
STAMP = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.,]\d{3}(\+00:00)?")
_PROGRAM = shutil.which("fail2ban-regex")


@pytest.fixture
async def lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the registry logs of attacks, in each of the formats, and lines that are no refusals."""
    file = accounts(tmp_path, entry("ann", "secret"))
    async with guarded(tmp_path / "tree", AuthConfig(htpasswd=file)) as address:
        for user in ATTACKS:
            await ask(address, "/v2/", Authorization=basic(user, "guess"))
    refused = [record for record in caplog.records if record.levelno == logging.WARNING]
    plain, json = logs._plain(), logs.JsonFormatter()
    journal = [f"Nov 29 05:50:20 host podbridge[7]: {record.getMessage()}" for record in refused]
    stream = [f"Nov 29 05:50:20 host podbridge[7]: {plain.format(record)}" for record in refused]
    return [*map(plain.format, refused), *map(json.format, refused), *journal, *stream]


def failregex() -> list[re.Pattern[str]]:
    """Return the filter's expressions as fail2ban compiles them."""
    parser = configparser.RawConfigParser()
    parser.read(FILTER)
    text = parser["Definition"]["failregex"].replace("<ADDR>", r"(?P<address>[0-9a-f:.]+)")
    return [re.compile(line) for line in text.splitlines()]


def blamed(line: str) -> str | None:
    # fail2ban takes the time out first
    bare = re.sub(r"^\w{3} \d\d \S+", "", line) if line.startswith("Nov") else STAMP.sub("", line, count=1)
    matches = [match for expression in failregex() if (match := expression.search(bare))]
    return matches[0]["address"] if matches else None


async def test_each_refused_log_in_counts_for_its_peer(lines: list[str]) -> None:
    assert len(lines) == 4 * len(ATTACKS)
    assert {blamed(line) for line in lines} == {"127.0.0.1"}


@pytest.mark.parametrize("line", OTHERS)
def test_what_another_line_quotes_counts_for_no_peer(line: str) -> None:
    assert blamed(f"2026-11-29 05:50:20,123 {line}") is None
    assert blamed(line) is None


@pytest.mark.skipif(_PROGRAM is None, reason="fail2ban is not installed")
async def test_fail2ban_itself_counts_the_same(lines: list[str], tmp_path: Path) -> None:
    assert _PROGRAM is not None
    log = tmp_path / "log"
    log.write_text("\n".join([*lines, *(f"2026-11-29 05:50:20,123 {line}" for line in OTHERS), ""]))
    process = await asyncio.create_subprocess_exec(_PROGRAM, "-o", "<ip>", log, FILTER, stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert output.decode().split() == ["127.0.0.1"] * len(lines)
