"""``hvps list``, ``show``, ``verify`` and ``restore``: what works on recovery points, without a host."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, TypeAlias

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.report.documents.points import PointList, PointShown, Verified, point_summary
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Level, Point, Repository, TouchedPoint, VerifyProblem, VerifyReport
from hvpsbridge.repository.packs import NOT_INDEXED
from hvpsbridge.tasks.verify import write_down
from hvpsbridge.units import duration_text, size_text

Proofs: TypeAlias = dict[str, Proof | None]

# How far content can be proved, from the least.
_LEVELS = ("written", "hashed", "equal", "readable", "boots", "restored")


@click.command("list", short_help="List recovery points.")
@click.argument("vm", required=False)
@repository_options
@json_option
@click.pass_obj
def list_(invocation: Invocation, /, vm: str | None, as_json: bool, **options: Any) -> None:
    """List recovery points, of one VM when its name or id is given."""
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        points = [
            point
            for point in repository.catalog.points()
            if vm is None or vm.casefold() in (point.vm_name.casefold(), str(point.vm_id))
        ]
        proofs = {point.point_id: _proofs(repository, point) for point in points}
    if as_json:
        summaries = tuple(point_summary(point, proofs[point.point_id]) for point in points)
        console.document(PointList(repository.repository_id, summaries))
        return
    rows = tuple(
        (
            point.short_id,
            point.vm_name,
            _moment(point.created),
            point.manifest.host,
            str(len(point.disks)),
            size_text(sum(disk.size_bytes for disk in point.disks)),
            "+".join(sorted({disk.mode for disk in point.disks})),
            point.manifest.consistency,
            _level(proofs[point.point_id], point),
        )
        for point in points
    )
    columns = ("point", "VM", "created", "host", "disks", "size", "mode", "consistency", "proof")
    console.table(Table("points", columns, rows, frozenset({4, 5})))


@click.command("show", short_help="Show one recovery point.")
@click.argument("point")
@repository_options
@json_option
@click.pass_obj
def show_(invocation: Invocation, /, point: str, as_json: bool, **options: Any) -> None:
    """Show one recovery point: VM@latest, VM@latest~1, VM@TIME or a short id."""
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        found = repository.catalog.find_point(point)
        has_ids = repository.catalog.ids(found) is not None
        proofs = _proofs(repository, found)
    manifest = found.manifest
    if as_json:
        console.document(PointShown(point_summary(found, proofs), has_ids))
        return
    for name, value in (
        ("point", str(manifest.point_id)),
        ("VM", f"{manifest.vm_name} ({manifest.vm_id})"),
        ("host", f"{manifest.host}, build {manifest.os_build}"),
        ("created", _moment(manifest.created)),
        ("made by", f"hvps {manifest.hvps_version}, contract {manifest.contract}, run {manifest.run_id}"),
        ("consistency", f"{manifest.consistency} (asked for {manifest.consistency_asked})"),
        ("in its line", f"number {manifest.sequence}"),
        ("base", "usable for the next increment" if has_ids else "not usable for an increment"),
        ("files", ", ".join(file.name for file in manifest.files) or "none"),
    ):
        console.line(f"{name:<12} {value}")
    rows = tuple(
        (
            str(number),
            disk.slot,
            size_text(disk.size_bytes),
            disk.mode,
            disk.reason,
            size_text(disk.stats.changed_bytes),
            size_text(disk.stats.wire_bytes),
            size_text(disk.stats.stored_bytes),
            _LEVELS[0] if (proof := proofs[disk.slot]) is None else f"{proof.level} {_moment(proof.at)}",
        )
        for number, disk in enumerate(found.disks)
    )
    columns = ("number", "disk", "size", "mode", "reason", "changed", "wire", "stored", "proof")
    console.table(Table("disks", columns, rows, frozenset({2, 5, 6, 7})))
    if manifest.excluded:
        out = tuple(
            (disk.slot, size_text(disk.size_bytes), disk.path or "physical disk", disk.pattern)
            for disk in manifest.excluded
        )
        console.table(Table("left out", ("disk", "size", "file", "by"), out, frozenset({1})))


@click.command("verify", short_help="Verify points, or the whole repository.")
@click.argument("points", nargs=-1)
@click.option(
    "--level",
    type=click.Choice([level.value for level in Level]),
    default=Level.HASHED.value,
    show_default=True,
    help="written: everything is there; hashed: every chunk is read and hashed.",
)
@repository_options
@json_option
@click.pass_obj
def verify_(
    invocation: Invocation, /, points: tuple[str, ...], level: str, as_json: bool, **options: Any
) -> ExitCode:
    """Verify POINTS, or the whole repository; exit 7 when anything is not as it was written."""
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        chosen = [repository.catalog.find_point(selector) for selector in points] if points else None
        report = repository.verify(Level(level), chosen)
        looked_at = repository.catalog.points() if chosen is None else chosen
        write_down(repository, report, looked_at, invocation.run_id, whole=True)
    if as_json:
        console.document(Verified(report.good, report))
    else:
        _tell(report)
    return ExitCode.DONE if report.good else ExitCode.DAMAGE


def _tell(report: VerifyReport) -> None:
    rows = tuple(
        (problem.name, problem.what, _touched(problem.touches) or "no point") for problem in report.problems
    )
    if rows:
        console.table(Table("damage", ("object", "what", "touches"), rows))
    if any(_is_of_index(problem) for problem in report.problems):
        console.line("hvps repo rebuild-index makes an index again from what the packs say of themselves")
    console.line(
        f"{report.level.value}: {report.points} points, {report.chunks} chunks, "
        f"{size_text(report.hashed_bytes)} hashed in "
        f"{duration_text(report.seconds)}: " + ("good" if report.good else f"{len(rows)} problems")
    )


def _is_of_index(problem: VerifyProblem) -> bool:
    return problem.name.startswith("index/") or NOT_INDEXED in problem.what


def _touched(points: Sequence[TouchedPoint]) -> str:
    return "; ".join(
        f"{point.vm_name}@{point.point_id.hex[:8]} ({', '.join(point.parts)})" for point in points
    )


def _moment(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _level(proofs: Proofs, point: Point) -> str:
    """How far the least proved disk of a point was proved."""
    levels = [_LEVELS[0] if (proof := proofs[disk.slot]) is None else proof.level for disk in point.disks]
    return min(levels, key=_LEVELS.index, default=_LEVELS[0])


def _proofs(repository: Repository, point: Point) -> Proofs:
    """The furthest proof of each disk: its manifest's, or one that was written down later."""
    best: Proofs = {}
    later = repository.catalog.proofs(point)
    for disk in point.disks:
        found = [entry.proof for entry in later if entry.slot in ("", disk.slot)]
        if disk.proof is not None:
            found.append(disk.proof)
        best[disk.slot] = max(found, key=lambda proof: (_LEVELS.index(proof.level), proof.at), default=None)
    return best
