"""``hvps check-age``: whether the newest points are new enough, for monitoring."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.declared import callback_of
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import moment_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.documents.points import AgesChecked
from hvpsbridge.report.views import Table
from hvpsbridge.repository.point_ages import VmAge, vm_ages
from hvpsbridge.repository.point_lines import PointLine
from hvpsbridge.units import parse_duration, span_text

# VMs in the first line, which is all that some monitoring shows.
NAMED = 5


@click.command("check-age")
@click.argument("vms", metavar="[VM]...", nargs=-1)
@click.option(
    "--max",
    "max_seconds",
    required=True,
    metavar="DURATION",
    callback=callback_of(parse_duration),
    help="How old the newest point of a VM may be, as 26h.",
)
@repository_options
@json_option
@click.pass_obj
def check_age_(
    invocation: Invocation, /, vms: tuple[str, ...], max_seconds: float, as_json: bool, **options: Any
) -> ExitCode:
    """Check that the newest recovery point of each VM is new enough.

    Checks the VMs with these names or ids, or every VM that has points, also VMs that hosts no longer have.
    The exit code is that of a monitoring plugin: 0 if all are new enough, 2 if one is too old or a VM has no
    point. The first line says which.
    """
    now = datetime.now(UTC)
    with interrupting():
        catalog = compose.repository(repository_spec(options, invocation), invocation, remind=False).catalog
        read = list(catalog.read_lines())
        lines = [line for _, line in read if isinstance(line, PointLine)]
        ages = vm_ages(lines, catalog.unreadable_points(read), vms, timedelta(seconds=max_seconds), now)
    good = bool(ages) and all(age.good for age in ages)
    if as_json:
        console.document(AgesChecked(good, max_seconds, ages))
    else:
        _print(ages, max_seconds, good=good)
    return ExitCode.DONE if good else ExitCode.VM_FAILED


def _print(ages: Sequence[VmAge], max_seconds: float, *, good: bool) -> None:
    bad = [age for age in ages if not age.good]
    limit = span_text(max_seconds)
    if good:
        oldest = max(age.age_seconds or 0 for age in ages)
        line = f"OK: {len(ages)} VMs, the oldest newest point is {span_text(oldest)} old (at most {limit})"
    elif not ages:
        line = "CRITICAL: no VM has a point"
    else:
        named = ", ".join(f"{age.vm} {_age_text(age)}" for age in bad[:NAMED])
        more = f", {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        line = f"CRITICAL: {len(bad)} of {len(ages)} VMs older than {limit}: {named}{more}"
    console.line(line)
    rows = tuple(
        (
            "ok" if age.good else "too old" if age.created else "never",
            age.vm,
            "-" if age.created is None else moment_text(age.created),
            _age_text(age),
            age.note or "-",
        )
        for age in ages
    )
    if rows:
        console.table(Table("ages", ("state", "VM", "newest point", "age", "note"), rows))


def _age_text(age: VmAge) -> str:
    return "never" if age.age_seconds is None else span_text(age.age_seconds)
