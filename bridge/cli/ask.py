"""The verbs that ask the running service."""

from typing import TYPE_CHECKING, Any

import click

from bridge.cli import completion, options, text

if TYPE_CHECKING:
    from bridge.control.schema import DecisionView, PublicationView


_STATES = ("pending", "exporting", "published", "denied", "failed", "held", "withdrawn")
"""The values of `schema.State`, which is not imported before it is needed."""

_PAGE = 1000
"""Publications in one answer."""


@click.command("list")
@options.settings("tree")
@click.option("--digest", metavar="DIGEST", help="Only what is served as, or came from, this digest or image ID.")
@click.option(
    "--state",
    metavar="STATE",
    type=click.Choice(_STATES, case_sensitive=False),
    multiple=True,
    help="Only those: published, pending, failed…; repeatable.",
)
@click.option("--repository", metavar="GLOB", help="Only those in such repositories.")
@click.option("--image", metavar="IMAGE", help="Only those of this podman name or image ID.")
@options.as_json
@click.pass_context
def list_command(context: click.Context, /, json_output: bool, **values: Any) -> None:
    """List the publications.

    With --tree they are read from a tree, and no service is asked. What was withdrawn until just now is
    listed only with --state.
    """
    chosen = {key: values[key] for key in ("digest", "repository", "image") if values[key]}
    chosen |= {"state": [state.capitalize() for state in values["state"]]} if values["state"] else {}
    publications = _read_tree(context, values, chosen) if values["tree"] else _ask_service(context, values, chosen)
    if not values["state"]:
        publications = [view for view in publications if view.state != "Withdrawn"]
    if json_output:
        text.json(publications)
    elif publications:
        header = ("REFERENCE", "STATE", "DIGEST", "FIDELITY", "SIZE", "PUBLISHED")
        text.table(header, [_row(publication) for publication in publications])
    elif list(chosen) == ["digest"]:
        click.echo(f"nothing is known by {chosen['digest']}", err=True)
    else:
        click.echo("nothing is like that" if chosen else "nothing is published", err=True)


def _ask_service(context: click.Context, values: dict[str, Any], chosen: dict[str, Any]) -> "list[PublicationView]":
    from bridge.control.schema import PublicationList

    client = options.client(context, values)
    found: list[PublicationView] = []
    while True:
        page = client.get("/publications", PublicationList, n=str(_PAGE), **chosen).publications
        found += page
        if len(page) < _PAGE:
            return found
        chosen = {**chosen, "last": page[-1].reference}


def _read_tree(context: click.Context, values: dict[str, Any], chosen: dict[str, Any]) -> "list[PublicationView]":
    import msgspec

    from bridge.control.selection import Selection
    from bridge.service import views
    from bridge.tree.contents import check_version, shown
    from bridge.tree.paths import TreePaths

    root = options.load(context, values).config.tree
    check_version(TreePaths(root), new=False)
    tree = shown(root)
    selection = msgspec.convert(chosen, Selection)
    found = [views.published(publication) for _, publication in sorted(tree.publications.items())]
    return [view for view in found if selection.admits(view)]


def _row(view: "PublicationView") -> tuple[str, ...]:
    if view.state != "Published":
        return view.reference, view.state, "", "", "", view.message
    return view.reference, view.state, view.digest, view.fidelity, text.size(view.size), text.ago(view.published)


@click.command("explain")
@click.argument("image", shell_complete=completion.images)
@options.settings()
@options.as_json
@click.pass_context
def explain_command(context: click.Context, /, image: str, json_output: bool, **values: Any) -> None:
    """Say why IMAGE is or is not published.

    IMAGE is a podman name, or an image ID or the beginning of one.
    """
    from bridge.control.schema import Explanation

    explanation = options.client(context, values).get("/explain", Explanation, image=image)
    if json_output:
        text.json(explanation)
        return
    click.echo(f"image {explanation.image}")
    click.echo(f"digest {explanation.digest or 'unknown'}")
    if explanation.message:
        text.echo(explanation.message)
    for decision in explanation.decisions:
        _print_decision(decision)


def _print_decision(decision: "DecisionView") -> None:
    click.echo()
    text.echo(decision.name or "by request")
    for step in decision.trace:
        text.echo(f"  {step}")
    if not decision.publications:
        text.echo(f"  not published: {decision.reason}")
    for publication in decision.publications:
        text.echo(f"  → {publication.reference}: {_state(publication)}")


def _state(publication: "PublicationView") -> str:
    """Say what has become of a reference; its digest is told where it is the decided image's own."""
    state = publication.state.lower()
    if publication.state == "Published":
        state += f" {publication.digest}, {publication.fidelity}: {publication.reason}"
    return f"{state}, {publication.message}" if publication.message else state


@click.command("withdraw")
@click.argument("reference", metavar="NAME:TAG", shell_complete=completion.references)
@click.option("--hold", is_flag=True, help="Keep it out until it is published by hand.")
@options.settings()
@click.pass_context
def withdraw_command(context: click.Context, /, reference: str, hold: bool, **values: Any) -> None:
    """Take a publication out of the tree.

    Podman's image stays.
    """
    from bridge.oci import Reference

    path = f"/publications/{Reference.parse(reference)}"
    options.client(context, values).delete(path, hold=str(hold).lower())
    click.echo(f"{reference} is withdrawn{', and held' if hold else ''}")


@click.command("resync")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Let a mass withdrawal through that was held back.")
@options.settings()
@options.as_json
@click.pass_context
def resync_command(context: click.Context, /, dry_run: bool, prune: bool, json_output: bool, **values: Any) -> None:
    """Have the service look at podman's whole store now.

    It also tries again what failed.
    """
    from bridge.control.schema import PlanView, Status

    client, asked = options.client(context, values), {"prune": str(prune).lower()}
    if dry_run:
        text.plan(client.post("/resync", PlanView, dryRun="true", **asked), json_output=json_output)
        return
    status = client.post("/resync", Status, **asked)
    if json_output:
        text.json(status)
        return
    counts = status.counts
    click.echo(f"{counts['published']} published, {counts['pending']} pending")
