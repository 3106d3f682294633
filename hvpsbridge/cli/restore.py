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
from hvpsbridge.tasks.restore.in_place import InPlaceOptions, InPlaceVm
from hvpsbridge.tasks.restore.onto_host import HostOptions, HostVm
from hvpsbridge.tasks.restore.stream import StreamTarget
from hvpsbridge.tasks.restore.targets import RestoreTarget, open_target, target_path
from hvpsbridge.tasks.restore.task import RestoreOptions, choose_disks, restore_vm
from hvpsbridge.tasks.results import RunResult
from hvpsbridge.tasks.task import TaskContext

_OPTIONS = OptionGroup(
    RestoreOptions,
    {
        "disk": "--disk",
        "overwrite": "--overwrite",
        "skip_damaged": "--skip-damaged",
        "keep_ids": "--keep-ids",
    },
)


# As a target: one disk goes there.
STANDARD_OUTPUT = "-"
HOST_PREFIX = "hyperv:"


@click.command("restore")
@click.argument("point")
@click.option(
    "--to",
    required=True,
    metavar="FORMAT:PATH",
    help="Where to write, or hyperv:HOST; - is standard output.",
)
@_OPTIONS
@click.option(
    "--name", metavar="NAME", help="Name of the new VM on HOST [default: NAME and time of the point]."
)
@click.option("--path", "folder", metavar="FOLDER", help="Folder on HOST for the VM [default: the host's].")
@click.option("--connect-network", is_flag=True, help="Connect the new VM to the switches of the old one.")
@click.option("--start", is_flag=True, help="Start the new VM when all of it is proven.")
@click.option("--keep-macs", is_flag=True, help="Keep static MAC addresses.")
@click.option(
    "--new-tpm",
    is_flag=True,
    help="Make a new vTPM if the host cannot use the old one; BitLocker will ask for its recovery key.",
)
@click.option(
    "--replace", "in_place", is_flag=True, help="Write into the disks of the VM itself, which is off."
)
@click.option(
    "--discard-saved-state", is_flag=True, help="With --replace, discard the saved state of the VM."
)
@click.option("--remove-checkpoints", is_flag=True, help="With --replace, remove checkpoints of the VM.")
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
    name: str | None,
    folder: str | None,
    connect_network: bool,
    start: bool,
    keep_macs: bool,
    new_tpm: bool,
    in_place: bool,
    discard_saved_state: bool,
    remove_checkpoints: bool,
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
    what its definition says.

    With --replace it is restored into the disks of the VM itself on that host: only chunks that differ are
    written. What the disks were before is kept there as copies; `hvps host undo` puts them back, and
    `hvps host forget` removes them.

    New files get new disk ids, since the source may still run; --keep-ids keeps those of the source.
    """
    host = to.removeprefix(HOST_PREFIX) if to.startswith(HOST_PREFIX) else None
    onto = HostOptions(
        name=name,
        folder=folder,
        start=start,
        connect_network=connect_network,
        keep_macs=keep_macs,
        new_tpm=new_tpm,
    )
    if host is None and onto != HostOptions():
        raise click.UsageError(
            "--name, --path, --start, --connect-network, --keep-macs and --new-tpm are for --to hyperv:HOST"
        )
    giving_up = InPlaceOptions(discard_saved_state=discard_saved_state, remove_checkpoints=remove_checkpoints)
    if (in_place and host is None) or (giving_up != InPlaceOptions() and not in_place):
        raise click.UsageError(
            "--replace is for --to hyperv:HOST, --discard-saved-state and --remove-checkpoints for --replace"
        )
    if in_place and onto != HostOptions():
        raise click.UsageError("--replace restores into the VM as it is, without options for a new one")
    reached = (
        None
        if host is None
        else compose.connection(host_name(host, invocation), host_spec(host, options, invocation), invocation)
    )
    wanted = RestoreOptions(to=to, point=point, **_OPTIONS.given(options))
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
    if reached is not None:
        with interrupting():
            connected = compose.connect(reached, invocation.run_id)
            invocation.closing.enter_context(connected)
        if in_place:
            target = InPlaceVm(connected, repository, invocation.run_id, giving_up, cancel)
        else:
            target = HostVm(connected, repository, invocation.run_id, onto)
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
