"""``hvps list``: the recovery points of a repository."""

from __future__ import annotations

from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import best_proofs, lowest_level, moment_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.report.documents.points import PointList, point_summary
from hvpsbridge.report.views import Table
from hvpsbridge.units import size_text


@click.command("list")
@click.argument("vm", required=False)
@repository_options
@json_option
@click.pass_obj
def list_(invocation: Invocation, /, vm: str | None, as_json: bool, **options: Any) -> None:
    """List recovery points: all, or those of the VM with this name or id."""
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        points = [
            point
            for point in repository.catalog.points()
            if vm is None or vm.casefold() in (point.vm_name.casefold(), str(point.vm_id))
        ]
        proofs = {point.point_id: best_proofs(repository, point) for point in points}
    if as_json:
        summaries = tuple(point_summary(point, proofs[point.point_id]) for point in points)
        console.document(PointList(repository.repository_id, summaries))
        return
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
            lowest_level(proofs[point.point_id], point),
        )
        for point in points
    )
    columns = ("point", "VM", "created", "host", "disks", "size", "sector", "mode", "consistency", "proof")
    console.table(Table("points", columns, rows, frozenset({4, 5, 6})))
