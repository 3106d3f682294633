"""``hvps repo collect``: free the space of what no recovery point needs."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.declared import OptionGroup
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.documents.repositories import Collected
from hvpsbridge.repository.collect.report import CollectReport
from hvpsbridge.tasks.retention.collect import CollectSettings, collect_lines, plan_lines

_OPTIONS = OptionGroup(CollectSettings, {"grace": "--grace", "max_unused": "--max-unused"})


@click.command("collect", short_help="Free the space of what no point needs.")
@click.option("--check", is_flag=True, help="Show what would be done without changing anything.")
@_OPTIONS
@repository_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Do not say beforehand what will be done.")
@click.pass_obj
def collect(invocation: Invocation, /, check: bool, as_json: bool, quiet: bool, **options: Any) -> ExitCode:
    """Free the space of what no recovery point needs. Runs beside backups, copies and restores.

    What is found now is doomed: no backup that begins from now on uses it. A later collect deletes it, when
    the grace time is over and the backups that were in progress have ended. So run it every night: each
    collect frees what an earlier one doomed.

    Exits with 7 if a pack that should be moved is damaged, with 8 if nothing may be deleted from the
    repository as it is, and with 11 while another collect is in progress.
    """
    settings = CollectSettings(**_OPTIONS.given(options))

    def on_decided(report: CollectReport) -> None:
        if not quiet:
            for text in plan_lines(report):
                console.note(text)

    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        report = repository.collect(invocation.run_id, settings.options(check=check), on_decided)
    if as_json:
        console.document(Collected(check, report))
    else:
        for text in collect_lines(report, check=check):
            console.line(text)
    return ExitCode.DAMAGE if report.damaged else ExitCode.DONE
