"""``hvps list``: the recovery points of a repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import gathered, lost_chunks_text, moment_text, tags_text, unverified_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.formats.marks import LaterProof
from hvpsbridge.report.documents.points import PointList, PointSummary, UnreadablePoint, point_summary
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Point
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.point_lines import PointLine, lines_in_order
from hvpsbridge.repository.point_states import Committed
from hvpsbridge.repository.points import SHORT_ID_DIGITS, vms_named
from hvpsbridge.repository.tags import NO_TAGS, PointTags
from hvpsbridge.units import size_text

_COLUMNS = (
    "point",
    "VM",
    "created",
    "host",
    "disks",
    "size",
    "sector",
    "mode",
    "consistency",
    "proof",
    "tags",
)


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
        catalog = repository.catalog
        read = list(catalog.read_lines())
        lines = lines_in_order(line for _, line in read if isinstance(line, PointLine))
        vm_ids = None if vm is None else vms_named(lines, vm)
        unreadable = [
            point
            for point in catalog.unreadable_points(read)
            if vm_ids is None or point.vm_id is None or point.vm_id in vm_ids
        ]
        lost_chunks = repository.lost_chunks(_points_of(catalog, vm_ids))
        unverified = repository.unverified_since()
        proofs, tags = catalog.proofs.all(), catalog.states.tags.all()
        code = ExitCode.DAMAGE if unreadable or lost_chunks else ExitCode.DONE
        if as_json:
            found = (
                (point, proofs.get(point.manifest.digest(), ())) for point in _points_of(catalog, vm_ids)
            )
            summaries = tuple(_summary(point, later, _tags(tags, point.manifest)) for point, later in found)
            gone = tuple(
                UnreadablePoint(each.point_id, each.vm_id, each.name, each.what) for each in unreadable
            )
            document = PointList(repository.repository_id, summaries, gone, lost_chunks, unverified)
            console.document(document)
            return code
    rows = tuple(
        (
            line.short_id,
            line.vm_name,
            moment_text(line.created),
            line.host,
            str(len(line.disks)),
            size_text(sum(disk.size_bytes for disk in line.disks)),
            "+".join(map(str, sorted({disk.sector_bytes for disk in line.disks}))),
            "+".join(sorted({disk.mode for disk in line.disks})),
            line.consistency,
            gathered(line.disks, proofs.get(line.digest(), ())).lowest,
            tags_text(_tags(tags, line)),
        )
        for line in lines
        if vm_ids is None or line.vm_id in vm_ids
    )
    console.table(Table("points", _COLUMNS, rows, frozenset({4, 5, 6})))
    if unreadable:
        lost = tuple(
            (each.point_id.hex[:SHORT_ID_DIGITS], str(each.vm_id or "unknown"), each.what)
            for each in unreadable
        )
        console.table(Table("points that cannot be read", ("point", "VM", "problem"), lost))
    if lost_chunks:
        console.line(lost_chunks_text(lost_chunks))
    if unverified is not None:
        console.line(unverified_text(unverified))
    return code


def _points_of(catalog: Catalog, vm_ids: frozenset[UUID] | None) -> Iterator[Point]:
    """Points of all VMs, or of some; read only when the first one is asked for."""
    yield from (point for point in catalog.points() if vm_ids is None or point.vm_id in vm_ids)


def _tags(tags: Mapping[UUID, Mapping[bytes, PointTags]], point: Committed) -> PointTags:
    # Computing the digest takes time, and most points never had a tag.
    mine = tags.get(point.point_id)
    return NO_TAGS if mine is None else mine.get(point.digest(), NO_TAGS)


def _summary(point: Point, later: Sequence[LaterProof], tags: PointTags) -> PointSummary:
    proofs = gathered(point.disks, later)
    return point_summary(point, proofs.best, proofs.levels, tags)
