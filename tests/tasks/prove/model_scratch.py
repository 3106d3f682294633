"""A scratch VM of the simulator's model, and a proof of it without a wire."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from hvpsbridge.contract.results import ControllerType as Controller
from hvpsbridge.contract.results import DiskInfo
from hvpsbridge.formats.extents import Extent
from hvpsbridge.sim.guests.pattern import PatternWriter
from hvpsbridge.sim.model.errors import HyperVError
from hvpsbridge.sim.model.state import ControllerType, Slot, SnapshotType, VhdFormat
from hvpsbridge.tasks.backup import vm as backup_of_vm
from hvpsbridge.tasks.backup.context import BackupContext
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.host_records import machine_key
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.prove.cycle import Cycle
from hvpsbridge.tasks.prove.findings import Findings, NotPossible
from hvpsbridge.tasks.prove.operations import Operations
from hvpsbridge.tasks.prove.prover import Prover, ProveResult
from hvpsbridge.tasks.prove.scratch import Earlier, ScratchEntry, ScratchLedger, mark_of
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import MIB
from tests.tasks.world import QUICK, SLOT, Died, Steps, World, die

SIZE = 16 * MIB
RECORD_SECONDS = 0.25


class ModelScratch:
    """What the probes do to a scratch VM, done to the model."""

    writes_online = False

    def __init__(self, world: World, vm_id: UUID) -> None:
        self._model = world.model
        self._vm_id = vm_id
        self._chance = world.chance
        self._moves = 0

    def write(self, disk: DiskInfo, extents: tuple[Extent, ...], seed: int) -> tuple[Extent, ...]:
        for extent in extents:
            data = self._chance.randbytes(extent.length)
            self._model.guests.write(self._vm_id, _slot(disk), extent.offset, data)
        return extents

    def unmap(self, disk: DiskInfo, extent: Extent) -> None:
        self._model.guests.unmap(self._vm_id, _slot(disk), extent.offset, extent.length)

    def reads_zeros(self, disk: DiskInfo, extent: Extent) -> bool:
        return not any(self._model.guests.read(self._vm_id, _slot(disk), extent.offset, extent.length))

    def user_checkpoint(self) -> str:
        job = self._model.jobs.wait(
            self._model.checkpoints.create(self._vm_id, name="user", kind=SnapshotType.Standard)
        )
        assert not job.error_code, job.error_text
        return str(job.results["checkpoint"])

    def remove_user_checkpoint(self, checkpoint: str) -> None:
        self._model.jobs.wait(self._model.checkpoints.remove(UUID(checkpoint)))

    def apply_user_checkpoint(self, checkpoint: str) -> None:
        self._model.jobs.wait(self._model.checkpoints.apply(UUID(checkpoint)))
        self._model.vms.set_state(self._vm_id, "start")

    def cut(self) -> None:
        self._model.vms.set_state(self._vm_id, "power_off")
        self._model.vms.set_state(self._vm_id, "start")

    def clean(self) -> None:
        for checkpoint in self._model.checkpoints.all(self._vm_id):
            if checkpoint.name == "user":
                self.remove_user_checkpoint(str(checkpoint.checkpoint_id))

    def move_storage(self) -> None:
        self._moves += 1
        for drive in self._model.disks.drives(self._vm_id):
            self._model.setup.move_disk(self._vm_id, drive.slot, f"C:\\Moved\\{self._moves}")

    def migrate(self) -> None:
        here = self._model.vms.get(self._vm_id).node
        others = [node.name for node in self._model.nodes.all() if node.name != here]
        if not others:
            raise NotPossible("the host is not in a cluster")
        self._model.incidents.migrate(self._vm_id, others[0])
        self._model.incidents.migrate(self._vm_id, here)

    def observe(self, question: str) -> dict[str, Any]:
        raise NotPossible("the model runs no scripts")


class GuestScratch(ModelScratch):
    """A scratch VM in which the Linux disk of the kit runs: what it writes, and where, is its own affair."""

    writes_online = True

    def write(self, disk: DiskInfo, extents: tuple[Extent, ...], seed: int) -> tuple[Extent, ...]:
        return ()

    def unmap(self, disk: DiskInfo, extent: Extent) -> None:
        raise NotPossible("only a guest trims")


class Guest:
    """The guest of the kit, which writes a record at each message of hvps to the host, on a clock of its own.

    Args:
        records: of a round.
    """

    def __init__(self, world: World, vm_id: UUID, records: int) -> None:
        def write(offset: int, data: bytes) -> None:
            with contextlib.suppress(HyperVError):  # it is off for a moment
                world.model.guests.write(vm_id, SLOT, offset, data)

        self.stopped = False
        self._writer = PatternWriter(write, start_bytes=1 * MIB, records=records)
        self._seconds = 1000.0
        self._lock = threading.Lock()
        world.before = lambda name: self.work(RECORD_SECONDS)

    def clock(self) -> float:
        return self._seconds

    def work(self, seconds: float) -> bool:
        """Let time pass."""
        with self._lock:
            for _ in range(max(1, round(seconds / RECORD_SECONDS))):
                self._seconds += RECORD_SECONDS
                if not self.stopped:
                    self._writer.write_record(self._seconds + 77)  # the guest started earlier than hvps
        return True


def _slot(disk: DiskInfo) -> Slot:
    kind = ControllerType.SCSI if disk.controller_type is Controller.SCSI else ControllerType.IDE
    return Slot(kind, disk.controller_number, disk.controller_location)


def scratch_vm(world: World, ledger: ScratchLedger, **settings: object) -> tuple[UUID, ScratchEntry]:
    """A VM that the kit takes for its own."""
    vm_id = world.vm("scratch", disks=(SIZE, SIZE), **settings)
    old = Slot(ControllerType.SCSI, 0, 2)
    world.model.setup.add_disk(vm_id, old, size_bytes=4 * MIB, format=VhdFormat.VHD, block_bytes=1 * MIB)
    with world.host() as host:
        entry = ledger.made(ledger.begin(host.host_info(), "scratch"), vm_id)
        assert entry.host == machine_key(host.host_info())
    world.model.setup.change_vm(vm_id, notes=mark_of(vm_id, entry.token))
    return vm_id, entry


def crash(make: Callable[[], BackupContext], step: Step) -> None:
    """The backup ends before a step as if its process was killed."""
    with contextlib.suppress(Died):
        backup_of_vm.run(replace(make(), observer=Steps(at=(step.name, "before"), then=die)))


def prove(
    world: World,
    vm_id: UUID,
    folder: Path,
    only: Collection[str],
    guest: Guest | None = None,
    *,
    earlier: Earlier | None = None,
    record: Callable[[Iterable[str]], object] = lambda ids: None,
) -> ProveResult:
    """A proof on the model. ``Died`` leaves what a killed process leaves."""
    found = Findings()
    with world.host() as host:
        operations = Operations(
            host=host,
            vm_id=vm_id,
            repository_id=world.repository.repository_id,
            scratch=GuestScratch(world, vm_id) if guest else ModelScratch(world, vm_id),
            found=found,
            limits=QUICK.limits,
            pause=guest.work if guest else lambda seconds: True,
            clock=guest.clock if guest else time.monotonic,
            record=record,
        )
        cycle = Cycle(
            vm=host.vm(vm_id),
            operations=operations,
            repository=world.repository,
            options=QUICK,
            observer=Observer(),
            cancel=Cancellation(),
            found=found,
            connect=lambda run_id: world.host(run_id=run_id),
            crash=crash,
            folder=folder,
            earlier=earlier or Earlier(),
        )
        prover = Prover(
            host=host,
            info=host.host_info(),
            vm=host.vm(vm_id),
            operations=operations,
            cycle=cycle,
            found=found,
            only=only,
        )
        return prover.run()
