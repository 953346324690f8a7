"""The verbs that work on a tree by themselves: `verify`, and `gc` where no service runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli import options, text

if TYPE_CHECKING:
    from bridge.tree.verify import Copies, Fault


@click.command("verify")
@options.settings("tree")
@click.option("--repair", is_flag=True, help="Take out what is damaged, for the next pass to export anew.")
@options.as_json
@click.pass_context
def verify_command(context: click.Context, /, json_output: bool, repair: bool, **values: Any) -> None:
    """Hash every blob of the tree again, follow every reference, and compare what is derived.

    Exits 1 where something is wrong. --repair needs the tree for itself: stop the service first, and
    start it again after. It also makes hard links of blobs that are copies.
    """
    from bridge.tree.verify import copies
    from bridge.tree.verify import repair as repair_tree

    tree = options.load(context, values).config.tree
    faults, copied = _verify(tree), copies(tree)
    if repair and (faults or copied.files):
        repair_tree(tree, faults)
    if json_output:
        text.json({"faults": [fault.words for fault in faults], "copies": copied.files, "copiedBytes": copied.size})
    else:
        for fault in faults:
            click.echo(fault.words)
        taken_out = (
            " and mended or taken out; the next pass publishes again what needs them"
            if repair
            else "; --repair, with podbridge stopped, mends or takes out what is wrong"
        )
        click.echo(f"{text.counted(len(faults), 'fault')} found{taken_out}" if faults else "the tree is whole")
        if copied.files:
            _say_copies(copied, copies(tree) if repair else None)
    sys.exit(1 if faults else 0)


def _say_copies(copied: "Copies", left: "Copies | None") -> None:
    """Say how many blobs are copies, and what became of them."""
    words = f"{text.counted(copied.files, 'blob')} of repositories are copies, not links: {text.size(copied.size)} more"
    if left is None:
        click.echo(f"{words}; --repair makes links of them")
    else:
        click.echo(f"{words}; {copied.files - left.files} are links now")


def _verify(tree: Path) -> "list[Fault]":
    from bridge.tree.verify import verify

    if not text.is_terminal():
        return list(verify(tree))
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    with Progress(
        BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("verify", total=None)
        return list(verify(tree, lambda done, total: bar.update(task, completed=done, total=total)))


@click.command("gc")
@options.settings("tree")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@options.as_json
@click.pass_context
def gc_command(context: click.Context, /, dry_run: bool, json_output: bool, **values: Any) -> None:
    """Remove blobs that nothing references any more.

    Those within the grace period stay.
    """
    swept = _sweep(context, values, dry_run=dry_run)
    if json_output:
        text.json(swept)
        return
    would = "would remove" if dry_run else "removed"
    manifests = text.counted(swept.manifests, "superseded manifest")
    click.echo(f"{would} {manifests} and {text.counted(swept.blobs, 'blob')}, {text.size(swept.freed)}")


def _sweep(context: click.Context, values: dict[str, Any], *, dry_run: bool) -> Any:
    from bridge.cli.client import Client, NoServiceError
    from bridge.control.schema import SweptView
    from bridge.tree.contents import check_version
    from bridge.tree.paths import TreePaths
    from bridge.tree.publisher import Tree

    config = options.load(context, values).config
    if values["tree"] is None:
        try:
            return Client(config.control.socket).post("/gc", SweptView, dryRun=str(dry_run).lower())
        except NoServiceError:
            pass
    check_version(TreePaths(config.tree), new=False)
    with Tree(config.tree) as tree:
        return tree.sweep(config.grace, dry_run=dry_run)
