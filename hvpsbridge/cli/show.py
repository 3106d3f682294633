"""``hvps show``: one recovery point."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import lost_chunks_text, moment_text, proofs_of, tags_text, unverified_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import Damaged, ExitCode
from hvpsbridge.formats.definition import missing_sections
from hvpsbridge.formats.manifest import PROOF_LEVELS
from hvpsbridge.report.documents.points import PointShown, point_summary
from hvpsbridge.report.views import Table
from hvpsbridge.units import size_text


@click.command("show")
@click.argument("point")
@repository_options
@json_option
@click.pass_obj
def show_(invocation: Invocation, /, point: str, as_json: bool, **options: Any) -> ExitCode:
    """Show one recovery point.

    POINT is VM, VM@latest, VM@latest~1, VM@TIME, a short id or id:PREFIX; the name of a VM comes before a
    short id. Exits with 7 if chunks of it are known to be lost.
    """
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        found = repository.catalog.find_point(point)
        ids = repository.catalog.ids(found)
        has_ids = ids is not None and ids.may_be_base
        proofs = proofs_of(repository, found)
        tags = repository.catalog.states.read().tags_of(found.manifest)
        unverified = None
        lost_chunks = repository.lost_chunks([found])
        with contextlib.suppress(Damaged):  # a node that is lost; lost_chunks counts it
            unverified = repository.unverified_since(found)
    code = ExitCode.DAMAGE if lost_chunks else ExitCode.DONE
    manifest = found.manifest
    if as_json:
        console.document(
            PointShown(
                point_summary(found, proofs.best, proofs.levels, tags), has_ids, lost_chunks, unverified
            )
        )
        return code
    for name, value in (
        ("point", str(manifest.point_id)),
        ("VM", f"{manifest.vm_name} ({manifest.vm_id})"),
        ("host", f"{manifest.host}, Windows {manifest.os}"),
        ("created", moment_text(manifest.created)),
        ("created by", f"hvps {manifest.hvps_version}, contract {manifest.contract}, run {manifest.run_id}"),
        ("consistency", f"{manifest.consistency} (asked for {manifest.consistency_asked})"),
        ("sequence", f"number {manifest.sequence} of this VM"),
        (
            "base",
            "the next backup can be an increment" if has_ids else "the next backup cannot be an increment",
        ),
        ("tags", tags_text(tags) or "none"),
        ("files", ", ".join(file.name for file in manifest.files) or "none"),
    ):
        console.line(f"{name:<12} {value}")
    rows = tuple(
        (
            str(number),
            disk.slot,
            size_text(disk.size_bytes),
            str(disk.sector_bytes),
            disk.mode,
            disk.reason,
            size_text(disk.stats.changed_bytes),
            size_text(disk.stats.wire_bytes),
            size_text(disk.stats.stored_bytes),
            PROOF_LEVELS[0]
            if (proof := proofs.best[disk.slot]) is None
            else f"{proof.level} {moment_text(proof.at)}",
        )
        for number, disk in enumerate(found.disks)
    )
    columns = ("number", "disk", "size", "sector", "mode", "reason", "changed", "wire", "stored", "proof")
    console.table(Table("disks", columns, rows, frozenset({2, 3, 6, 7, 8})))
    if proofs.levels:
        proved = tuple(
            (proof.level, proof.slot or "all", moment_text(proof.at), size_text(proof.proved_bytes))
            for proof in proofs.levels
        )
        console.table(Table("proofs", ("level", "disk", "time", "checked"), proved, frozenset({3})))
    if manifest.excluded:
        out = tuple(
            (disk.slot, size_text(disk.size_bytes), disk.path or "physical disk", disk.pattern)
            for disk in manifest.excluded
        )
        console.table(Table("left out", ("disk", "size", "file", "pattern"), out, frozenset({1})))
    for lacking in missing_sections(manifest.definition):
        console.line(f"the VM's definition in this point lacks {lacking}")
    if lost_chunks:
        console.line(lost_chunks_text(lost_chunks))
    if unverified is not None:
        console.line(unverified_text(unverified))
    return code
