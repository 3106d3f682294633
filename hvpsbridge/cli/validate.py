"""``hvps validate``: check a playbook without running it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hvpsbridge.playbook.read import playbook_schema, read_playbook
from hvpsbridge.playbook.template import extra_vars as read_extra_vars


@click.command("validate")
@click.argument("playbook", type=click.Path(path_type=Path), required=False)
@click.option("--extra-vars", "-e", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("--schema", is_flag=True, hidden=True, help="Print the schema, as `hvps schema playbook`.")
@click.pass_context
def validate_(
    context: click.Context, playbook: Path | None, extra_vars: tuple[str, ...], schema: bool
) -> None:
    """Check a playbook without connecting to anything.

    Reports all mistakes at once, each with file, line and column.
    """
    if schema:
        click.echo(json.dumps(playbook_schema(), indent=2))
        return
    if playbook is None:
        raise click.UsageError("missing argument PLAYBOOK", context)
    spec = read_playbook(playbook, read_extra_vars(extra_vars))
    tasks = sum(len(play.tasks) for play in spec.plays)
    click.echo(
        f"{playbook}: valid: {len(spec.hosts)} hosts, {len(spec.repositories)} repositories, "
        f"{len(spec.plays)} plays, {tasks} tasks"
    )
