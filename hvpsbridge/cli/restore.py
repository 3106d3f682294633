"""``hvps restore``: write disks of a recovery point to files on this machine. Needs no host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.declared import OptionGroup
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import json_option, repository_options, repository_spec
from hvpsbridge.cli.run_output import output_format, print_report
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.errors import ConfigurationError, ExitCode
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore import RestoreOptions, choose_disks, restore_vm
from hvpsbridge.tasks.results import RunResult
from hvpsbridge.tasks.targets import RawImages, target_path
from hvpsbridge.tasks.task import TaskContext

_OPTIONS = OptionGroup(RestoreOptions, {"disk": "--disk", "overwrite": "--overwrite"})


@click.command("restore")
@click.argument("point")
@click.option("--to", required=True, metavar="raw:PATH", help="Where to write.")
@_OPTIONS
@repository_options
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.pass_obj
def restore_(
    invocation: Invocation,
    /,
    point: str,
    to: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> ExitCode:
    """Restore the disks of POINT as sparse raw images.

    POINT is VM, VM@latest, VM@latest~1, VM@TIME, a short id or id:PREFIX; the name of a VM comes before a
    short id. Without --disk, PATH is a folder that gets a file for each disk, named for its slot
    (scsi-0-0.raw). With --disk, it is the file, or a block device, which is written in place with
    --overwrite. A file appears when it is complete.
    """
    wanted = RestoreOptions(to=to, point=point, **_OPTIONS.given(options))
    try:
        path, _ = target_path(to, {})
    except ValueError as err:
        raise ConfigurationError("--to", str(err)) from err
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        found = repository.catalog.find_point(point)
        choose_disks(found, wanted.disk)
    cancel = Cancellation()
    single = wanted.disk is not None and not _is_folder(path)
    target = RawImages(path, repository, wanted.overwrite, is_file=single)
    with catch_signals(cancel, report_first), console.observer(quiet=quiet) as observer:
        context = TaskContext(
            vm=VmRef(found.manifest.host, found.vm_id, found.vm_name),
            repository=repository,
            run_id=invocation.run_id,
            observer=observer,
            cancel=cancel,
        )
        result = restore_vm(context, replace(wanted, point=str(found.point_id)), target)
    run = RunResult(invocation.run_id, result.started, result.seconds, (result,))
    return print_report(
        run_report(run, name="restore", check=False), output_format(as_json=as_json, as_lines=False)
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # whatever is wrong there, opening the file says it
