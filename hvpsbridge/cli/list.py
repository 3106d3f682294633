"""``hvps list``: the recovery points of a repository."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import lost_chunks_text, moment_text, proofs_of
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.documents.points import PointList, UnreadablePoint, point_summary
from hvpsbridge.report.views import Table
from hvpsbridge.repository.points import SHORT_ID_DIGITS, vms_named
from hvpsbridge.units import size_text


@click.command("list")
@click.argument("vm", required=False)
@repository_options
@json_option
@click.pass_obj
def list_(invocation: Invocation, /, vm: str | None, as_json: bool, **options: Any) -> ExitCode:
    """List recovery points: all, or those of the VM with this id or name.

    A VM that was renamed is found by its new and its old names. Exits with 7 if a point cannot be read, or
    chunks of the points are known to be lost.
    """
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        everything = repository.catalog.points()
        vm_ids = None if vm is None else vms_named(everything, vm)
        points = [point for point in everything if vm_ids is None or point.vm_id in vm_ids]
        unreadable = [
            point
            for point in repository.catalog.unreadable_points()
            if vm_ids is None or point.vm_id is None or point.vm_id in vm_ids
        ]
        lost_chunks = repository.lost_chunks(points)
        proofs = {point.point_id: proofs_of(repository, point) for point in points}
    code = ExitCode.DAMAGE if unreadable or lost_chunks else ExitCode.DONE
    if as_json:
        summaries = tuple(
            point_summary(point, proofs[point.point_id].best, proofs[point.point_id].levels)
            for point in points
        )
        gone = tuple(UnreadablePoint(each.point_id, each.vm_id, each.name, each.what) for each in unreadable)
        console.document(PointList(repository.repository_id, summaries, gone, lost_chunks))
        return code
    rows = tuple(
        (
            point.short_id,
            point.vm_name,
            moment_text(point.created),
            point.manifest.host,
            str(len(point.disks)),
            size_text(sum(disk.size_bytes for disk in point.disks)),
            "+".join(map(str, sorted({disk.sector_bytes for disk in point.disks}))),
            "+".join(sorted({disk.mode for disk in point.disks})),
            point.manifest.consistency,
            proofs[point.point_id].lowest,
        )
        for point in points
    )
    columns = ("point", "VM", "created", "host", "disks", "size", "sector", "mode", "consistency", "proof")
    console.table(Table("points", columns, rows, frozenset({4, 5, 6})))
    if unreadable:
        lost = tuple(
            (each.point_id.hex[:SHORT_ID_DIGITS], str(each.vm_id or "unknown"), each.what)
            for each in unreadable
        )
        console.table(Table("points that cannot be read", ("point", "VM", "problem"), lost))
    if lost_chunks:
        console.line(lost_chunks_text(lost_chunks))
    return code
