"""``hvps unprotect``: end the protection of recovery points."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options
from hvpsbridge.cli.tag import change_points
from hvpsbridge.errors import ExitCode
from hvpsbridge.repository.pruning import Pruner


@click.command("unprotect")
@click.argument("points", metavar="POINT...", nargs=-1, required=True)
@repository_options
@json_option
@click.pass_obj
def unprotect_(invocation: Invocation, /, points: tuple[str, ...], as_json: bool, **options: Any) -> ExitCode:
    """End the protection of recovery points. The rules of the next prune decide about them."""
    return change_points(invocation, points, options, Pruner.unprotect, as_json=as_json)
