"""``hvps copy``: copy recovery points into another repository, which may have another key or chunk size."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    json_option,
    repository_options,
    repository_spec,
    secret_options,
    secret_reference,
)
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode, worst
from hvpsbridge.playbook.places import RepositorySpec
from hvpsbridge.report.documents.points import copied
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Point
from hvpsbridge.repository.copying import copy_points
from hvpsbridge.units import size_text


@click.command("copy")
@click.argument("points", nargs=-1)
@click.option("--to", "target", required=True, metavar="URL", help="Repository to copy to.")
@secret_options("to-key", "key of the target repository")
@repository_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_obj
def copy_(
    invocation: Invocation,
    /,
    points: tuple[str, ...],
    target: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Copy POINTS, or all recovery points, into another repository.

    Transfers only what the target does not have, and verifies it on arrival. To continue an interrupted
    copy, run it again. A damaged point does not stop the others; exit 7 says that one was not copied.
    """
    into = RepositorySpec(target, secret_reference("to-key", options))

    def on_progress(point: Point, number: int, count: int) -> None:
        if not quiet:
            console.note(f"{number} of {count}: {point.vm_name}@{point.short_id}")

    with interrupting():
        source = compose.repository(repository_spec(options, invocation), invocation)
        destination = compose.repository(into, invocation)
        chosen = [source.catalog.find_point(selector) for selector in points] if points else None
        report = copy_points(source, destination, chosen, on_progress=on_progress)
    if as_json:
        console.document(copied(report))
    else:
        rows = tuple(
            (what, point.vm_name, point.short_id)
            for what, group in (
                ("copied", report.copied),
                ("already there", report.present),
                ("older than the newest copy", report.skipped),
            )
            for point in group
        )
        rows += tuple(
            ("not copied", str(each.vm_id or "unknown"), f"{each.point_id.hex[:8]}: {each.error.describe()}")
            for each in report.problems
        )
        console.table(Table("points", ("result", "VM", "point"), rows))
        console.line(f"{size_text(report.read_bytes)} read, {size_text(report.stored_bytes)} stored")
    codes = [each.error.code for each in report.problems]
    return worst([*codes, ExitCode.DEGRADED] if report.skipped else codes)
