"""``hvps prune``: remove the recovery points that no rule keeps."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.declared import callback_of
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.retention import RULE_OPTIONS
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode, UsageError
from hvpsbridge.formats.retention import Rules, Schedule, parse_span, simulate
from hvpsbridge.formats.retention.simulate import MAX_DAYS
from hvpsbridge.report.documents.retention import Retained, simulated
from hvpsbridge.report.retention_views import (
    retention_lines,
    retention_table,
    simulated_line,
    simulated_tables,
)
from hvpsbridge.tasks.retention.prune import find_vms, plan_prune, prune
from hvpsbridge.tasks.retention.shown import PruneReport


def _days(text: str) -> int:
    """The days of ``--simulate``."""
    now = datetime.now(UTC)
    days = (now - parse_span(text).before(now, UTC)).days
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"must be between 1d and {MAX_DAYS}d")
    return days


def _times(values: tuple[str, ...]) -> tuple[time, ...]:
    """The times of ``--backup-at``."""
    for value in values:
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
            raise ValueError(f"{value!r} is not a time such as 02:00")
    return tuple(dict.fromkeys(map(time.fromisoformat, values)))


@click.command("prune")
@click.argument("vms", metavar="[VM]...", nargs=-1)
@RULE_OPTIONS
@click.option("--check", is_flag=True, help="Show what would be done without changing anything.")
@click.option(
    "--remove",
    "confirmed",
    type=click.IntRange(1),
    metavar="N",
    help="Confirm that N points are removed, if that is more than usual.",
)
@click.option(
    "--simulate",
    "days",
    callback=callback_of(_days),
    metavar="SPAN",
    help="Show which points the rules will hold after this time, as 365d; looks at rules only.",
)
@click.option(
    "--backup-at",
    "times",
    callback=callback_of(_times),
    multiple=True,
    metavar="HH:MM",
    help="Time of a daily backup in --simulate; repeatable  [default: 02:00]",
)
@repository_options
@json_option
@click.pass_obj
def prune_(
    invocation: Invocation,
    /,
    vms: tuple[str, ...],
    check: bool,
    confirmed: int | None,
    days: int | None,
    times: tuple[time, ...],
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Remove the recovery points that no rule keeps: of all VMs, or of those with these names or ids.

    A point stays if any rule keeps it. Protected points, the newest ones of each disk, and those that the
    next increment counts from stay in any case. Without a rule nothing is removed (exit 5).

    Exits with 8, and removes nothing, if far more points would go than in earlier prunes. Look at them with
    --check, then confirm their number with --remove. `hvps repo collect` frees their space.
    """
    rules = Rules(**RULE_OPTIONS.given(options))
    if days is not None:
        if vms or check or confirmed is not None:
            raise UsageError("--simulate takes rules and --backup-at only; it looks at no repository")
        return _simulate(rules, Schedule(times) if times else Schedule(), days, as_json=as_json)
    if times:
        raise UsageError("--backup-at is for --simulate")
    if check and confirmed is not None:
        raise UsageError("use either --check or --remove, not both")
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        plan = plan_prune(repository, rules, find_vms(repository, vms))
        report = plan.report if check else prune(repository, plan, confirmed)
    _print(report, check, as_json=as_json)
    return ExitCode.POLICY if check and not plan.verdict.in_line else ExitCode.DONE


def _print(report: PruneReport, check: bool, *, as_json: bool) -> None:
    if as_json:
        console.document(Retained(check, report))
        return
    table = retention_table(report, all_points=check)
    if table.rows:
        console.table(table)
    for text in retention_lines(report, check=check):
        console.line(text)
    if report.removed and not check:
        console.line("run `hvps repo collect` to free their space")


def _simulate(rules: Rules, schedule: Schedule, days: int, *, as_json: bool) -> ExitCode:
    start = datetime.now(rules.zone).date()
    found = simulated(rules, schedule, simulate(rules, schedule, days, start))
    if as_json:
        console.document(found)
        return ExitCode.DONE
    for table in simulated_tables(found):
        console.table(table)
    console.line(simulated_line(found))
    return ExitCode.DONE
