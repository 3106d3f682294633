"""``hvps demo``: back up and restore two simulated VMs, and check every byte.

Guests with real file systems, a simulated Hyper-V host in a process of its own, a full backup, a day of
changes and an increment. Then every disk of every point is restored and checked by programs that know
nothing about hvps. The demo uses public commands only, and takes all figures from their ``--json``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from hvpsbridge.cli import console
from hvpsbridge.cli.options import json_option
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.cli.sim_documents import DemoPlayed
from hvpsbridge.demo.play import DemoResult, DiskProof, play
from hvpsbridge.errors import ConfigurationError, ExitCode
from hvpsbridge.report.views import Table
from hvpsbridge.units import duration_text, rate_text, size_text


@click.command("demo")
@click.option(
    "--engine",
    type=click.Choice(["builtin", "powershell"]),
    default="builtin",
    show_default=True,
    help="Run the scripts in Python (builtin) or in the PowerShell of HVPS_PWSH.",
)
@click.option("--small", is_flag=True, help="Use a tenth of the files.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Empty folder to work in, which is kept [default: a temporary one].",
)
@json_option
def demo_(engine: str, small: bool, folder: Path | None, as_json: bool) -> ExitCode:
    """Back up two simulated VMs, change them, back them up again, restore all points and check every byte.

    Exits with 7 if a restored disk differs.
    """
    with interrupting(), _place(folder) as place:
        outcome = play(place, engine=engine, small=small, note=console.note)
    if as_json:
        console.document(
            DemoPlayed(
                good=outcome.good,
                engine=outcome.engine,
                seconds=round(outcome.seconds, 1),
                left_out=outcome.left_out,
                backups=outcome.backups,
                proofs=outcome.proofs,
            )
        )
    else:
        _print(outcome)
    return ExitCode.DONE if outcome.good else ExitCode.DAMAGE


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigurationError(str(folder), "is not empty; use a new folder")
        yield folder.resolve()
        return
    made = Path(tempfile.mkdtemp(prefix="hvps-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _print(outcome: DemoResult) -> None:
    console.table(
        Table(
            "backups",
            ("run", "VM", "disk", "mode", "reason", "changed", "on the wire", "stored", "time", "rate"),
            tuple(
                (
                    str(row.run),
                    row.vm,
                    row.slot,
                    row.mode,
                    row.reason,
                    size_text(row.changed_bytes),
                    size_text(row.wire_bytes),
                    size_text(row.stored_bytes),
                    duration_text(row.seconds),
                    rate_text(row.read_bytes, row.seconds),
                )
                for row in outcome.backups
            ),
            frozenset({5, 6, 7, 8, 9}),
        )
    )
    console.table(
        Table(
            "every disk of every point, restored",
            (
                "point",
                "VM",
                "disk",
                "file systems",
                "equal to the frozen disk",
                "fsck",
                "files as in the guest",
            ),
            tuple(_proof_row(proof) for proof in outcome.proofs),
            frozenset({6}),
        )
    )
    for left in outcome.left_out:
        console.line(f"left out: {left.file_system}: {left.reason}")
    files = sum(proof.files for proof in outcome.proofs)
    console.line(
        f"all good: {len(outcome.proofs)} disks restored, {files} files as they were, "
        f"{duration_text(outcome.seconds)}, {outcome.engine} engine"
        if outcome.good
        else f"NOT GOOD: {sum(not proof.good for proof in outcome.proofs)} of {len(outcome.proofs)} disks"
    )


def _proof_row(proof: DiskProof) -> tuple[str, ...]:
    return (
        proof.point_id[:8],
        proof.vm,
        proof.slot,
        "+".join(proof.file_systems),
        proof.unequal or "yes",
        "; ".join(proof.unclean) or "clean",
        "; ".join(proof.different) or f"{proof.files} of {proof.files_expected}",
    )
