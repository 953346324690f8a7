"""The verb that lists hooks."""

from typing import Any

import click

from bridge.cli import options, text


@click.command("hooks")
@options.settings()
@options.as_json
@click.pass_context
def hooks_command(context: click.Context, /, json_output: bool, **values: Any) -> None:
    """List the hooks of each stage.

    They come in the order in which they run, with the reason why others are not run.
    """
    from bridge.hooks.finding import Stage, find

    directories = options.load(context, values).config.hooks.directories
    hooks = [hook for stage in Stage for hook in find(stage, directories)]
    if json_output:
        keys = ("stage", "name", "path", "state", "reason")
        text.json({"hooks": [{key: str(getattr(hook, key)) for key in keys} for hook in hooks]})
    elif hooks:
        rows = [(hook.stage, hook.name, hook.state, str(hook.path), hook.reason) for hook in hooks]
        text.table(("STAGE", "HOOK", "STATE", "PATH", "REASON"), rows)
    else:
        click.echo(f"there are no hooks in {' or '.join(map(str, directories))}", err=True)
