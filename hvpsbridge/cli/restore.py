"""``hvps restore``: disks of a recovery point, written out here. No host is needed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.run_output import output_format, print_report
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.cli.targets import target_path
from hvpsbridge.errors import ExitCode, HvpsError
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore import RestoredDisk, RestoreResult, choose_disks, file_name, restore_disk
from hvpsbridge.tasks.results import RunResult


@click.command("restore", short_help="Write disks of a point out as raw images.")
@click.argument("point")
@click.option("--to", "target", required=True, metavar="raw:PATH", help="Where to write.")
@click.option("--disk", "number", type=click.IntRange(min=0), help="One disk by its number (hvps show).")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@repository_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_obj
def restore_(
    invocation: Invocation,
    /,
    point: str,
    target: str,
    number: int | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Write the disks of POINT out as sparse raw images.

    POINT is VM@latest, VM@latest~1, VM@TIME or a short id. With --disk PATH is the file; without it PATH
    is a folder that gets a file for each disk, named for where it hangs (scsi-0-0.raw). A file appears
    when it is whole.
    """
    path = target_path(target)
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        found = repository.catalog.find_point(point)
        disks = choose_disks(found, number)
    cancel = Cancellation()
    started, clock = datetime.now(UTC), time.monotonic()
    vm = VmRef(found.manifest.host, found.vm_id, found.vm_name)
    done: list[RestoredDisk] = []
    error: HvpsError | None = None
    with catch_signals(cancel), console.observer(quiet=quiet) as observer:
        try:
            for disk in disks:
                where = path if number is not None and not path.is_dir() else path / file_name(disk.slot)
                done.append(
                    restore_disk(
                        repository,
                        found,
                        disk,
                        where,
                        overwrite=overwrite,
                        cancel=cancel,
                        tell=lambda progress: observer.progress(vm, progress),
                    )
                )
        except HvpsError as err:
            error = err
    seconds = time.monotonic() - clock
    result = RestoreResult(
        vm,
        "restore",
        started,
        seconds,
        error,
        point_id=found.point_id,
        disks=tuple(done),
        excluded=found.manifest.excluded,
    )
    run = RunResult(invocation.run_id, started, seconds, (result,))
    return print_report(
        run_report(run, name="restore", check=False), output_format(as_json=as_json, as_lines=False)
    )
