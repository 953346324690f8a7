"""Manifests by tag from nginx over a tree, against a plain file of the same bytes from the same nginx process.

    python -m tests.benchmarks.nginx [--quick]

One nginx worker on one core, wrk on another; the two alternate, and the medians are compared. Needs nginx and wrk.
Exits 1 where the ratio is below its floor, which --quick does not look at.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from tests.end_to_end.programs import free_port
from tests.registry.trees import Shelf
from tests.registry.webservers import NGINX, nginx

from .report import say_missed

CONNECTIONS = 32
FLOOR = 0.42
"""The part of nginx's own speed that is asked for: 20,000 manifests a second where plain files give 48,000."""


async def requests_per_second(url: str, seconds: int) -> float:
    """Load a URL from the last core, and return what wrk counted."""
    command = ("taskset", "-c", str((os.cpu_count() or 1) - 1), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", url)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    text = output.decode()
    assert "Non-2xx" not in text, text
    match = re.search(r"Requests/sec:\s*([\d.]+)", text)
    assert match is not None, text
    return float(match[1])


async def measure(rounds: int, seconds: int) -> dict[str, float]:
    """Return the medians of requests per second, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        shelf = Shelf(directory / "tree")
        descriptor = shelf.image("app:1", b"layer")
        blob = shelf.root / "blobs" / "sha256" / descriptor.digest.hex
        (directory / "plain").mkdir()
        shutil.copy(blob, directory / "plain" / "file")
        plain = f"127.0.0.1:{free_port()}"
        more = f"server {{ listen {plain}; root {directory}/plain; sendfile on; tcp_nopush on; }}"
        os.sched_setaffinity(0, {0})  # nginx inherits it
        found: dict[str, list[float]] = {"plain": [], "manifest": []}
        async with nginx(shelf.root, directory / "nginx", more=more) as address:
            urls = {"plain": f"http://{plain}/file", "manifest": f"http://{address}/v2/app/manifests/1"}
            for _ in range(rounds):
                for key, url in urls.items():
                    found[key].append(await requests_per_second(url, seconds))
        medians = {key: statistics.median(values) for key, values in found.items()}
        return {**medians, "ratio": medians["manifest"] / medians["plain"]}


def main() -> int:
    """Run, print JSON, and judge. Exits 0 also where a program is missing: it says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, and no floor")
    quick = parser.parse_args().quick
    if NGINX is None or shutil.which("wrk") is None:
        print("nginx or wrk is not installed")
        return 0
    found = asyncio.run(measure(1, 1) if quick else measure(9, 2))
    print(json.dumps(found, indent=1))
    if quick:
        return 0
    say_missed([] if found["ratio"] >= FLOOR else [f"{found['ratio']:.2f} of nginx's plain files, not {FLOOR}"])
    return int(found["ratio"] < FLOOR)


if __name__ == "__main__":
    sys.exit(main())
