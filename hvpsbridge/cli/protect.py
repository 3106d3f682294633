"""``hvps protect``: protect recovery points from being removed."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options
from hvpsbridge.cli.tag import change_points
from hvpsbridge.errors import ExitCode
from hvpsbridge.repository.pruning import Pruner


@click.command("protect")
@click.argument("points", metavar="POINT...", nargs=-1, required=True)
@repository_options
@json_option
@click.pass_obj
def protect_(invocation: Invocation, /, points: tuple[str, ...], as_json: bool, **options: Any) -> ExitCode:
    """Protect recovery points: nothing prunes or forgets them until `hvps unprotect`."""
    return change_points(invocation, points, options, Pruner.protect, as_json=as_json)
