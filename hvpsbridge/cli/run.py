"""``hvps run``: run a playbook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hvpsbridge.cli import compose
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, limit_options, run_limits
from hvpsbridge.cli.run_output import output_format
from hvpsbridge.cli.run_plays import run_plays
from hvpsbridge.errors import ExitCode
from hvpsbridge.playbook.choose import tag_words, tagged
from hvpsbridge.playbook.read import read_playbook
from hvpsbridge.playbook.template import extra_vars as variables_of


@click.command("run")
@click.argument("playbook", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Show what would be done without changing anything.")
@click.option(
    "--limit", "-l", multiple=True, metavar="GLOB", help="Only VMs whose name or id matches; repeatable."
)
@click.option("--tags", "-t", multiple=True, metavar="TAG,...", help="Only tasks with one of these tags.")
@click.option("--extra-vars", "-e", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@limit_options
@json_option
@click.option(
    "--json-lines", "as_lines", is_flag=True, help="Print one line of JSON per task, then one for the run."
)
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_obj
def run_(
    invocation: Invocation,
    /,
    playbook: Path,
    check: bool,
    limit: tuple[str, ...],
    tags: tuple[str, ...],
    extra_vars: tuple[str, ...],
    forks: int | None,
    as_json: bool,
    as_lines: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Run PLAYBOOK: back up, verify and restore the VMs of its hosts."""
    spec = tagged(read_playbook(playbook, variables_of(extra_vars)), tag_words(tags))
    return run_plays(
        invocation,
        lambda: compose.plays(spec, limit, invocation),
        name=spec.name,
        forks=forks or spec.forks,
        limits=run_limits(options, spec.limits),
        check=check,
        output=output_format(as_json=as_json, as_lines=as_lines),
        quiet=quiet,
    )
