"""``hvps verify``: check stored recovery points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.buffers import keep_buffers
from hvpsbridge.cli.declared import OptionGroup
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.proofs import unverified_text
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ExitCode
from hvpsbridge.report.documents.points import Verified
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Level, Point, Repository, TouchedPoint, VerifyProblem, VerifyReport
from hvpsbridge.repository.check.coverage import Checked
from hvpsbridge.repository.frames import NOT_INDEXED
from hvpsbridge.tasks.boots import BootCheck, BootOptions, check_boots, record_boots
from hvpsbridge.tasks.files.readable import ReadableCheck, check_readable, record_readable
from hvpsbridge.tasks.verify import coverage_text, record_findings, too_small_text
from hvpsbridge.tasks.verify_options import VerifyOptions
from hvpsbridge.units import duration_text, size_text

_OPTIONS = OptionGroup(
    VerifyOptions,
    {
        "level": "--level",
        "budget": "--budget",
        "boot_wait": "--boot-wait",
        "boot_stay": "--boot-stay",
        "boot_mark": "--boot-mark",
        "screenshots": "--screenshots",
        "accelerator": "--accelerator",
    },
)


@click.command("verify")
@click.argument("points", nargs=-1)
@_OPTIONS
@repository_options
@json_option
@click.pass_obj
def verify_(invocation: Invocation, /, points: tuple[str, ...], as_json: bool, **options: Any) -> ExitCode:
    """Verify POINTS, or the whole repository. Exits with 7 if anything is damaged or missing.

    The level readable opens the file systems of each point and reads a sample of files (exit 3 if that is not
    possible for some).

    With --budget, the level hashed reads whole packs, those first that were not read for longest, for that
    time or up to that size. Exits with 3 if that is less than backups store meanwhile.

    The level boots starts each point in QEMU, without a network, on disks whose changes are thrown away. A
    login prompt or a mark on the serial line, an answer of the guest agent, or a screen of the system that
    stays shows that it boots. Otherwise that is not shown (exit 3); it may boot all the same.

    Read access is enough. With write access, damaged chunks are recorded, so that the next backup stores
    them again, and so are the points that were found intact.
    """
    try:
        wanted = VerifyOptions(**_OPTIONS.given(options))
    except ValueError as err:
        raise click.UsageError(str(err)) from err
    keep_buffers()
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        chosen = [repository.catalog.find_point(selector) for selector in points] if points else None
        checked = Checked()
        report = repository.verify(wanted.level, chosen, budget=wanted.budget, checked=checked)
        looked_at = repository.catalog.points() if chosen is None else chosen
        shown: tuple[ReadableCheck, ...] = ()
        if wanted.level is Level.READABLE and report.good:
            shown = tuple(check_readable(repository, point) for point in looked_at)
        boots: tuple[BootCheck, ...] = ()
        if wanted.level is Level.BOOTS and report.good:
            boots = tuple(_booted(repository, point, wanted.boot) for point in looked_at)
        # Reported before anything is written: the store may be read-only or full.
        if as_json:
            console.document(Verified(report.good, report, shown, boots))
        else:
            _print(report)
            _print_readable(shown)
            _print_boots(boots)
        console.flush()
        warning = record_findings(
            repository, report, looked_at, invocation.run_id, whole=True, checked=checked
        )
        if warning is not None:
            console.note(f"hvps: warning: {warning}")
        for point, check in zip(looked_at, shown, strict=False):
            warning = record_readable(repository, point, check, invocation.run_id)
            if warning is not None:
                console.note(f"hvps: warning: {warning}")
        for point, boot in zip(looked_at, boots, strict=False):
            warning = record_boots(repository, point, boot, invocation.run_id)
            if warning is not None:
                console.note(f"hvps: warning: {warning}")
    if not report.good:
        return ExitCode.DAMAGE
    every = [check.shown for check in shown] + [check.shown for check in boots]
    if report.coverage is not None:
        every.append(report.coverage.enough)
    return ExitCode.DONE if all(every) else ExitCode.DEGRADED


def _booted(repository: Repository, point: Point, options: BootOptions) -> BootCheck:
    console.note(f"booting {point.vm_name}@{point.short_id}")
    return check_boots(repository, point, options)


def _print(report: VerifyReport) -> None:
    rows = tuple(
        (problem.name, problem.what, _touched(problem.touches) or "none") for problem in report.problems
    )
    if rows:
        console.table(Table("damage", ("object", "problem", "affected points"), rows))
    if report.notes:
        noted = tuple((note.name, note.what) for note in report.notes)
        console.table(Table("notes", ("object", "note"), noted))
    if any(_is_of_index(problem) for problem in report.problems):
        console.line("run `hvps repo rebuild-index` to rebuild the index from the packs")
    console.line(
        f"{report.level.value}: {report.points} points, {report.chunks} chunks, "
        f"{size_text(report.hashed_bytes)} hashed in "
        f"{duration_text(report.seconds)}: " + ("good" if report.good else f"{len(rows)} problems")
    )
    covered = report.coverage
    if covered is not None:
        console.line(coverage_text(covered) if covered.enough else too_small_text(covered))
        if covered.unverified_since is not None:
            console.line(unverified_text(covered.unverified_since))


def _print_readable(shown: Sequence[ReadableCheck]) -> None:
    rows = tuple(
        (
            check.point_id.hex[:8],
            ", ".join(check.volumes) or "none",
            f"{check.files} files, {size_text(check.read_bytes)}",
            "; ".join(check.not_shown) or "-",
        )
        for check in shown
    )
    if rows:
        console.table(Table("readable", ("point", "volumes", "sample", "not shown"), rows))


def _print_boots(boots: Sequence[BootCheck]) -> None:
    rows = tuple(
        (
            check.point_id.hex[:8],
            f"shown by {check.by}" if check.shown else "not shown",
            check.what,
            check.accelerator,
            duration_text(check.seconds),
            size_text(check.read_bytes),
            check.screenshot or "none",
        )
        for check in boots
    )
    if rows:
        columns = ("point", "boots", "seen", "accelerator", "time", "read", "screenshot")
        console.table(Table("boots", columns, rows))
    for check in boots:
        for note in check.notes:
            console.line(f"point {check.point_id.hex[:8]}: {note}")


def _is_of_index(problem: VerifyProblem) -> bool:
    return problem.name.startswith("index/") or NOT_INDEXED in problem.what


def _touched(points: Sequence[TouchedPoint]) -> str:
    return "; ".join(
        f"{point.vm_name}@{point.point_id.hex[:8]} ({', '.join(point.parts)})" for point in points
    )
