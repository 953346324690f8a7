"""The verbs that ask the running service."""

from typing import TYPE_CHECKING, Any

import click

from bridge.cli import completion, options, text

if TYPE_CHECKING:
    from bridge.cli.client import Client
    from bridge.control.schema import DecisionView, PublicationView


def _client(context: click.Context, values: dict[str, Any]) -> "Client":
    from bridge.cli.client import Client

    return Client(options.load(context, values).config.control.socket)


@click.command("list")
@options.settings("tree")
@click.option("--digest", metavar="DIGEST", help="Only what is served as, or came from, this digest or image ID.")
@options.as_json
@click.pass_context
def list_command(context: click.Context, /, digest: str | None, json_output: bool, **values: Any) -> None:
    """List the publications. With --tree they are read from a tree, and no service is asked."""
    publications = _read_tree(context, values) if values["tree"] else _ask_service(context, values)
    if digest is not None:
        publications = [view for view in publications if _is_known_by(view, digest)]
    if json_output:
        text.json(publications)
    elif publications:
        header = ("REFERENCE", "STATE", "DIGEST", "FIDELITY", "SIZE", "PUBLISHED")
        text.table(header, [_row(publication) for publication in publications])
    else:
        click.echo("nothing is published" if digest is None else f"nothing is known by {digest}", err=True)


def _ask_service(context: click.Context, values: dict[str, Any]) -> "list[PublicationView]":
    from bridge.control.schema import PublicationView

    return _client(context, values).get("/publications", dict[str, list[PublicationView]])["publications"]


def _read_tree(context: click.Context, values: dict[str, Any]) -> "list[PublicationView]":
    from bridge.service import views
    from bridge.tree.contents import check_version, shown
    from bridge.tree.paths import TreePaths

    root = options.load(context, values).config.tree
    check_version(TreePaths(root), new=False)
    tree = shown(root)
    return [views.published(publication) for _, publication in sorted(tree.publications.items())]


def _is_known_by(view: "PublicationView", digest: str) -> bool:
    hexes = (text.removeprefix("sha256:") for text in (view.digest, view.podman_digest, view.image, *view.origins))
    return any(known.startswith(digest.removeprefix("sha256:")) for known in hexes if known)


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
    """Say why IMAGE, a podman name or image ID, is or is not published."""
    from bridge.control.schema import Explanation

    explanation = _client(context, values).get("/explain", Explanation, image=image)
    if json_output:
        text.json(explanation)
        return
    click.echo(f"image {explanation.image}")
    click.echo(f"digest {explanation.digest or 'unknown'}")
    if explanation.message:
        click.echo(explanation.message)
    for decision in explanation.decisions:
        _print_decision(decision)


def _print_decision(decision: "DecisionView") -> None:
    click.echo(f"\n{decision.name or 'by request'}")
    for step in decision.trace:
        click.echo(f"  {step}")
    if not decision.publications:
        click.echo(f"  not published: {decision.reason}")
    for publication in decision.publications:
        state = f"{publication.state.lower()} {publication.digest}".rstrip()
        fidelity = f", {publication.fidelity}: {publication.reason}" if publication.fidelity else ""
        why = f", {publication.message}" if publication.message else ""
        click.echo(f"  → {publication.reference}: {state}{fidelity}{why}")


@click.command("publish")
@click.argument("image", shell_complete=completion.images)
@click.option("--as", "reference", metavar="NAME:TAG", help="Publish it under this reference, whatever the rules say.")
@options.settings()
@options.as_json
@click.pass_context
def publish_command(
    context: click.Context, /, image: str, reference: str | None, json_output: bool, **values: Any
) -> None:
    """Publish IMAGE, a podman name or image ID, now. Lets through what was held."""
    from bridge.control.schema import PublicationView, PublishRequest

    answer = _client(context, values).post(
        "/publications", dict[str, list[PublicationView]], PublishRequest(image, reference)
    )
    if json_output:
        text.json(answer["publications"])
        return
    for view in answer["publications"]:
        click.echo(f"{view.reference} {view.digest} {view.fidelity}")


@click.command("withdraw")
@click.argument("reference", metavar="NAME:TAG", shell_complete=completion.references)
@click.option("--hold", is_flag=True, help="Keep it out until it is published by hand.")
@options.settings()
@click.pass_context
def withdraw_command(context: click.Context, /, reference: str, hold: bool, **values: Any) -> None:
    """Take a publication out of the tree. Podman's image stays."""
    from urllib.parse import quote

    _client(context, values).delete(f"/publications/{quote(reference)}", hold=str(hold).lower())
    click.echo(f"{reference} is withdrawn{', and held' if hold else ''}")


@click.command("resync")
@click.option("--prune", is_flag=True, help="Let a mass withdrawal through that was held back.")
@options.settings()
@options.as_json
@click.pass_context
def resync_command(context: click.Context, /, prune: bool, json_output: bool, **values: Any) -> None:
    """Have the service look at podman's whole store now, and try again what failed."""
    from bridge.control.schema import Status

    status = _client(context, values).post("/resync", Status, prune=str(prune).lower())
    if json_output:
        text.json(status)
        return
    counts = status.counts
    click.echo(f"{counts['published']} published, {counts['pending']} pending")
