"""``hvps restore``: write disks of a recovery point to image files or standard output. Needs no host."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.buffers import keep_buffers
from hvpsbridge.cli.declared import OptionGroup
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    connection_options,
    host_name,
    host_spec,
    json_option,
    repository_options,
    repository_spec,
)
from hvpsbridge.cli.run_output import output_format, print_problems, print_report
from hvpsbridge.cli.signals import interrupting, report_first
from hvpsbridge.errors import ConfigurationError, ExitCode
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.tasks.cancel import Cancellation, catch_signals
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.stream import StreamTarget
from hvpsbridge.tasks.restore.targets import RestoreTarget, open_target, target_host, target_path
from hvpsbridge.tasks.restore.task import RestoreOptions, choose_disks, host_target, restore_vm
from hvpsbridge.tasks.results import RunResult
from hvpsbridge.tasks.task import TaskContext

_OPTIONS = OptionGroup(
    RestoreOptions,
    {
        "disk": "--disk",
        "overwrite": "--overwrite",
        "skip_damaged": "--skip-damaged",
        "keep_ids": "--keep-ids",
        "name": "--name",
        "path": "--path",
        "connect_network": "--connect-network",
        "start": "--start",
        "keep_macs": "--keep-macs",
        "new_tpm": "--new-tpm",
        "from_config": "--from-config",
        "replace": "--replace",
        "discard_saved_state": "--discard-saved-state",
        "remove_checkpoints": "--remove-checkpoints",
    },
)


# As a target: one disk goes there.
STANDARD_OUTPUT = "-"


@click.command("restore")
@click.argument("point")
@click.option(
    "--to",
    required=True,
    metavar="FORMAT:PATH",
    help="Where to write, or hyperv:HOST; - is standard output.",
)
@_OPTIONS
@connection_options
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
    """Restore the disks of POINT as image files.

    POINT is VM, VM@latest, VM@latest~1, VM@TIME, a short id or id:PREFIX; the name of a VM comes before a
    short id. FORMAT is raw, vhdx, vhdx-fixed, vhd, vhd-fixed, qcow2 or libvirt; all files are sparse. Without
    --disk, PATH is a folder that gets a file for each disk, named for its slot (scsi-0-0.vhdx). With --disk,
    it is the file, or a block device, which is written in place with --overwrite (raw only). A file appears
    when it is complete. With --to - the only disk, or the one of --disk, goes to standard output, as a raw
    image.

    With --to hyperv:HOST the point becomes a new VM on a Hyper-V host, off and not connected: its disks, and
    what its definition says. With --from-config it is made of the configuration files in the point instead.

    With --replace it is restored into the disks of the VM itself on that host: only chunks that differ are
    written. What the disks were before is kept there as copies; `hvps host undo` puts them back, and
    `hvps host forget` removes them.

    New files get new disk ids, since the source may still run; --keep-ids keeps those of the source.
    """
    host = target_host(to)
    wanted = RestoreOptions(to=to, point=point, **_OPTIONS.given(options))
    if wanted.conflict is not None:
        raise click.UsageError(wanted.conflict)
    reached = (
        None
        if host is None
        else compose.connection(host_name(host, invocation), host_spec(host, options, invocation), invocation)
    )
    if to == STANDARD_OUTPUT and as_json:
        raise click.UsageError("--json and --to - both write to standard output")
    place = _place(to) if host is None else None
    keep_buffers()
    with interrupting():
        repository = compose.repository(repository_spec(options, invocation), invocation)
        found = repository.catalog.find_point(point)
        choose_disks(found, wanted.disk)
    cancel = Cancellation()
    target: RestoreTarget
    streamed = place is None and reached is None
    connected = None
    if reached is not None:
        with interrupting():
            connected = compose.connect(reached, invocation.run_id)
            invocation.closing.enter_context(connected)
    elif place is None:
        target = StreamTarget(sys.stdout.buffer)
    else:
        single = wanted.disk is not None and not _is_folder(place)
        target = open_target(to, {}, repository, overwrite=wanted.overwrite, is_file=single)
    with catch_signals(cancel, report_first), console.observer(quiet=quiet or streamed) as observer:
        context = TaskContext(
            vm=VmRef(found.manifest.host, found.vm_id, found.vm_name),
            repository=repository,
            run_id=invocation.run_id,
            observer=observer,
            cancel=cancel,
        )
        if connected is not None:
            target = host_target(connected, context, wanted)
        result = restore_vm(context, replace(wanted, point=str(found.point_id)), target)
    run = RunResult(invocation.run_id, result.started, result.seconds, (result,))
    report = run_report(run, name="restore", check=False)
    if streamed:
        return print_problems(report)
    return print_report(report, output_format(as_json=as_json, as_lines=False))


def _place(to: str) -> Path | None:
    """Where a target is; None for standard output."""
    if to == STANDARD_OUTPUT:
        return None
    try:
        return target_path(to, {})[0]
    except ValueError as err:
        raise ConfigurationError("--to", str(err)) from err


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False  # whatever is wrong there, opening the file says it
