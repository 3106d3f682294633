"""``hvps forget``: remove recovery points by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.confirm import confirmed
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import moment_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.documents.points import Forgotten, ForgottenPoint
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Point
from hvpsbridge.tasks.retention.forget import ForgetPlan, name_of, plan_forget, refuse_needed
from hvpsbridge.text import counted


@click.command("forget")
@click.argument("selectors", metavar="POINT|VM...", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Show what would be done without changing anything.")
@click.option(
    "--newest",
    is_flag=True,
    help="Also forget the newest point of a disk, and what the next increment counts from.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@repository_options
@json_option
@click.pass_obj
def forget_(
    invocation: Invocation,
    /,
    selectors: tuple[str, ...],
    check: bool,
    newest: bool,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Remove recovery points, whatever the rules say. A VM means all of its points.

    Exits with 8, and removes nothing, if a point is protected, or is the newest of a disk or the base of the
    next increment. --newest permits the latter; the next backup then reads or compares whole disks.
    """
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        plan = plan_forget(repository, selectors)
        refuse_needed(repository, plan, with_newest=newest)
    if not as_json:
        _print_points(plan)
    kept: tuple[Point, ...] = ()
    if not check:
        names = ", ".join(map(name_of, plan.points))
        if not confirmed(f"forget {names}", yes=yes, command="hvps forget", instead="--check"):
            console.line("nothing was changed")
            return ExitCode.DONE
        with interrupting():
            kept = repository.pruner.prune(plan.points)
    if as_json:
        console.document(_document(plan, check, kept))
        return ExitCode.DONE
    for point in kept:
        console.line(f"{name_of(point)} was protected meanwhile and stays")
    for text in _then(plan):
        console.line(text)
    count = len(plan.points) - len(kept)
    verb = "would be forgotten" if check else "forgotten"
    console.line(f"{counted(count, 'point')} {verb}; `hvps repo collect` frees their space")
    return ExitCode.DONE


def _print_points(plan: ForgetPlan) -> None:
    rows = tuple(
        (
            point.vm_name,
            point.short_id,
            moment_text(point.created),
            ", ".join(plan.needed.get(point.point_id, ())),
        )
        for point in plan.points
    )
    console.table(Table("points to forget", ("VM", "point", "created", "needed as"), rows))


def _then(plan: ForgetPlan) -> Iterator[str]:
    """What else follows."""
    emptied = {point.vm_id for point in plan.emptied}
    vms = {point.vm_id: point.vm_name for point in plan.points if point.point_id in plan.needed}
    for vm_id, name in vms.items():
        if vm_id not in emptied:
            yield f"the next backup of {name} may have to read or compare whole disks"
    for point in plan.emptied:
        yield (
            f"no point of {point.vm_name} is left; if it is not backed up any more, run "
            f"`hvps host forget {point.manifest.host} {point.vm_name}` to remove its reference point there"
        )


def _document(plan: ForgetPlan, check: bool, kept: tuple[Point, ...]) -> Forgotten:
    return Forgotten(
        check=check,
        points=tuple(
            ForgottenPoint(
                point_id=point.point_id,
                vm=point.vm_name,
                vm_id=point.vm_id,
                created=point.created,
                needed=plan.needed.get(point.point_id, ()),
            )
            for point in plan.points
            if point not in kept
        ),
        protected=tuple(point.point_id for point in kept),
    )
