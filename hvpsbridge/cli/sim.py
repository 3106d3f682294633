"""``hvps sim``: a simulated Hyper-V host to try playbooks on.

``serve`` runs it. The other commands control it, and act as its guests, through a socket in its state folder.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import click

from hvpsbridge.cli import console
from hvpsbridge.cli.options import json_option, size_bytes
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.cli.sim_documents import (
    SimCheckpoints,
    SimCheckpointTaken,
    SimDiskImported,
    SimFaultsArmed,
    SimFaultsKnown,
    SimGoldenImage,
    SimImageApplied,
    SimInfo,
    SimKnobs,
    SimVmCreated,
    SimVms,
)
from hvpsbridge.cli.sim_serve import folder_option, serve
from hvpsbridge.errors import UsageError
from hvpsbridge.report.documents import Document
from hvpsbridge.report.views import Table
from hvpsbridge.sim.control import Control, SimulatedVm
from hvpsbridge.sim.faults import FaultKind, fault_table
from hvpsbridge.sim.model.faults import MODEL_FAULTS
from hvpsbridge.units import MIB, size_text

# Most bytes of one write command, which the control socket carries on one line.
MAX_WRITE_BYTES = 64 * MIB
_STATES = ("start", "stop", "save", "pause", "resume", "power_off")


_slot_option = click.option(
    "--slot",
    default="scsi 0:0",
    show_default=True,
    help="Controller and position of the disk, such as scsi 0:1 or ide 0:0.",
)


def _slot(text: str) -> str:
    """A slot as the model writes it: without the space that reports have."""
    return text.replace(" ", "").lower()


@contextmanager
def _control(folder: Path) -> Iterator[Control]:
    with interrupting(), Control(folder) as control:
        yield control


def _done(as_json: bool, facts: Document, text: str) -> None:
    if as_json:
        console.document(facts)
    else:
        console.line(text)


@click.group("sim")
def sim_() -> None:
    """Run and control a simulated Hyper-V host."""


sim_.add_command(serve)


@sim_.command("info")
@folder_option
@json_option
def info(folder: Path, as_json: bool) -> None:
    """Show the address and engine of the host."""
    with _control(folder) as control:
        facts = control.info()
    _done(as_json, SimInfo(**facts), ", ".join(f"{name} {value}" for name, value in facts.items()))


@sim_.command("stop")
@folder_option
def stop(folder: Path) -> None:
    """Save the state of the host and stop it."""
    with _control(folder) as control:
        control.shutdown()


@sim_.command("create")
@click.argument("vm")
@folder_option
@click.option(
    "--state", default="running", show_default=True, help="State of the VM, such as running or off."
)
@json_option
def create(vm: str, folder: Path, state: str, as_json: bool) -> None:
    """Create a VM without disks."""
    with _control(folder) as control:
        vm_id = control.create_vm(vm, state=state)
    _done(as_json, SimVmCreated(vm, vm_id), f"created VM {vm} ({vm_id})")


@sim_.command("import", short_help="Add a disk with the content of an image.")
@click.argument("vm")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@folder_option
@_slot_option
@click.option(
    "--sector", type=click.Choice(["512", "4096"]), default="512", help="Logical sector size in bytes."
)
@click.option("--fixed", is_flag=True, help="Use a disk file of fixed size.")
@click.option("--vhd", is_flag=True, help="Use a VHD file, which has no change tracking.")
@click.option("--disk-id", type=click.UUID, help="VirtualDiskId [default: a new one].")
@json_option
def import_(
    vm: str,
    image: Path,
    folder: Path,
    slot: str,
    sector: str,
    fixed: bool,
    vhd: bool,
    disk_id: UUID | None,
    as_json: bool,
) -> None:
    """Add a disk with the content of a raw, VHDX or qcow2 IMAGE to VM, which is created if necessary."""
    with _control(folder) as control:
        known = [entry for entry in control.vms() if vm in (entry.name, str(entry.vm_id))]
        vm_id = known[0].vm_id if known else control.create_vm(vm)
        control.import_image(
            str(vm_id),
            image,
            _slot(slot),
            logical_sector_bytes=int(sector),
            fixed=fixed,
            vhd=vhd,
            disk_id=disk_id,
        )
    _done(as_json, SimDiskImported(vm, vm_id, slot), f"{vm} {slot}: has the content of {image}")


@sim_.command("disk")
@click.argument("vm")
@click.argument("size", callback=size_bytes)
@folder_option
@_slot_option
def disk(vm: str, size: int, folder: Path, slot: str) -> None:
    """Add an empty disk of SIZE, such as 4GiB, to VM."""
    with _control(folder) as control:
        control.add_empty_disk(vm, size, _slot(slot))


@sim_.command("apply", short_help="Write the differences of a newer image.")
@click.argument("vm")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@folder_option
@_slot_option
@json_option
def apply(vm: str, image: Path, folder: Path, slot: str, as_json: bool) -> None:
    """Write what differs in a newer IMAGE of a disk, as the guest would."""
    with _control(folder) as control:
        written = control.apply_image(vm, image, _slot(slot))
    _done(as_json, SimImageApplied(vm, slot, written), f"{vm} {slot}: the guest wrote {size_text(written)}")


@sim_.command("write", short_help="Write to a disk.")
@click.argument("vm")
@click.argument("offset", callback=size_bytes)
@folder_option
@_slot_option
@click.option(
    "--file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the bytes to write.",
)
@click.option("--random", "count", callback=size_bytes, metavar="SIZE", help="Number of random bytes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random bytes.")
def write(
    vm: str, offset: int, folder: Path, slot: str, file: Path | None, count: int | None, seed: int
) -> None:
    """Write whole sectors at OFFSET, from a file or random ones, as the guest would."""
    if (file is None) == (count is None):
        raise UsageError("use either --file or --random")
    length = file.stat().st_size if file is not None else count or 0
    if length > MAX_WRITE_BYTES:
        raise UsageError(f"cannot write more than {size_text(MAX_WRITE_BYTES)} at once")
    # Guest data, not a secret: the same seed must give the same bytes.
    data = file.read_bytes() if file is not None else random.Random(seed).randbytes(length)  # noqa: S311
    with _control(folder) as control:
        control.write(vm, _slot(slot), offset, data)


@sim_.command("list", short_help="List the VMs and their disks.")
@folder_option
@json_option
def list_vms(folder: Path, as_json: bool) -> None:
    """List the VMs with their disks and the number of their checkpoints and reference points."""
    with _control(folder) as control:
        vms = control.vms()
    if as_json:
        console.document(SimVms(vms))
    else:
        console.table(_vm_table(vms))


def _vm_table(vms: tuple[SimulatedVm, ...]) -> Table:
    rows = []
    for vm in vms:
        counts = (str(vm.checkpoints), str(vm.reference_points))
        head: tuple[str, ...] = (vm.name, str(vm.vm_id), vm.state, *counts)
        for entry in vm.disks or (None,):
            cells = ("", "", "") if entry is None else (entry.slot, size_text(entry.size_bytes), entry.path)
            rows.append((*head, *(cell or "" for cell in cells)))
            head = ("",) * len(head)
    columns = ("VM", "id", "state", "checkpoints", "reference points", "disk", "size", "file")
    return Table("VMs", columns, tuple(rows), frozenset({3, 4, 6}))


@sim_.command("state")
@click.argument("vm")
@click.argument("what", type=click.Choice(_STATES))
@folder_option
def state(vm: str, what: str, folder: Path) -> None:
    """Start, stop, save, pause or resume VM, or cut its power."""
    with _control(folder) as control:
        control.set_state(vm, what)


@sim_.command("checkpoint")
@click.argument("vm")
@click.argument("name", default="")
@folder_option
@click.option("--recovery", is_flag=True, help="Take a recovery checkpoint, as another backup product would.")
@json_option
def checkpoint(vm: str, name: str, folder: Path, recovery: bool, as_json: bool) -> None:
    """Take a checkpoint of VM, as a user would."""
    with _control(folder) as control:
        made = control.checkpoint(vm, name, recovery=recovery)
    _done(as_json, SimCheckpointTaken(made), f"created checkpoint {made}")


@sim_.command("checkpoints")
@click.argument("vm")
@folder_option
@json_option
def checkpoints(vm: str, folder: Path, as_json: bool) -> None:
    """List the checkpoints of VM."""
    with _control(folder) as control:
        found = control.checkpoints(vm)
    if as_json:
        console.document(SimCheckpoints(found))
        return
    rows = tuple(
        (str(point.checkpoint_id), point.kind, point.name, ", ".join(point.slots)) for point in found
    )
    console.table(Table("checkpoints", ("id", "kind", "name", "disks"), rows))


@sim_.command("remove")
@click.argument("checkpoint_id", type=click.UUID)
@folder_option
def remove(checkpoint_id: UUID, folder: Path) -> None:
    """Remove a checkpoint."""
    with _control(folder) as control:
        control.remove_checkpoint(checkpoint_id)


@sim_.command("image", short_help="Print the path of a golden image.")
@click.argument("checkpoint_id", type=click.UUID)
@folder_option
@_slot_option
@json_option
def image_(checkpoint_id: UUID, folder: Path, slot: str, as_json: bool) -> None:
    """Print the path of the golden image of a checkpoint's disk, to compare a restored disk with."""
    with _control(folder) as control:
        path = control.golden_image(checkpoint_id, _slot(slot))
    _done(as_json, SimGoldenImage(path), str(path))


# The name of this command in earlier releases.
_kept = copy.copy(image_)
_kept.hidden = True
sim_.add_command(_kept, "kept")


@sim_.command("fault", short_help="Inject faults.")
@click.argument("name", required=False)
@click.argument("count", type=click.IntRange(min=0), default=1)
@click.option("--known", is_flag=True, help="List all faults. Needs no running host.")
@folder_option
@json_option
def fault(name: str | None, count: int, known: bool, folder: Path, as_json: bool) -> None:
    """Inject fault NAME the next COUNT times; 0 disarms it. Without NAME, list the armed faults.

    Faults of the wire take settings, such as reply_cut:bytes=4096,after=2.
    """
    if known:
        faults = {**MODEL_FAULTS, **{kind.name: _fault_text(kind) for kind in fault_table().values()}}
        if as_json:
            console.document(SimFaultsKnown(faults))
        else:
            console.table(Table("faults", ("fault", "what happens"), tuple(faults.items())))
        return
    with _control(folder) as control:
        if name is not None:
            control.set_fault(name, count)
        armed = control.faults()
    text = ", ".join(f"{fault_name} x{left}" for fault_name, left in armed.items()) or "no fault is armed"
    _done(as_json, SimFaultsArmed(armed), text)


def _fault_text(kind: FaultKind) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in kind.parameters.items())
    return f"{kind.what} [{settings}]"


@sim_.command("knob", short_help="Show or change how the host behaves.")
@click.argument("name", required=False)
@click.argument("value", required=False)
@folder_option
@json_option
def knob(name: str | None, value: str | None, folder: Path, as_json: bool) -> None:
    """Set knob NAME to VALUE. Without VALUE, show it; without NAME, show all."""
    with _control(folder) as control:
        if name is not None and value is not None:
            control.set_knob(name, value)
        knobs = control.knobs()
    if name is not None and name not in knobs:
        raise UsageError(f"no knob {name!r}; use one of {', '.join(sorted(knobs))}")
    shown = knobs if name is None else {name: knobs[name]}
    if as_json:
        console.document(SimKnobs(shown))
    else:
        rows = tuple((key, str(setting)) for key, setting in shown.items())
        console.table(Table("knobs", ("knob", "value"), rows))
