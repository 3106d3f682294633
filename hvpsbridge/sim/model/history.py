"""Random histories: what guests, users, administrators, other products and accidents do to a VM over time.

For property tests. A seed gives a history, each step describes what it did, and golden images record every
byte. A test takes some steps between two backups; :meth:`History.settle` then brings the VM to a state in
which a backup can be taken.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from uuid import UUID

from hvpsbridge.sim.model.clock import ManualClock
from hvpsbridge.sim.model.errors import HyperVError
from hvpsbridge.sim.model.model import Model
from hvpsbridge.sim.model.state import ControllerType, Job, Slot, SnapshotType, VMState

# Steps and their weights.
_WEIGHTS = {
    "write": 30,
    "write_much": 4,
    "unmap": 4,
    "user_checkpoint": 4,
    "remove_user_checkpoint": 3,
    "apply_user_checkpoint": 2,
    "restart": 3,
    "save_and_start": 2,
    "pause_and_resume": 2,
    "power_loss": 2,
    "crash_host": 1,
    "migrate": 2,
    "move_disk": 1,
    "grow_disk": 2,
    "add_disk": 1,
    "remove_disk": 1,
    "swap_disk": 1,
    "lose_tracking": 1,
    "foreign_reference_point": 2,
    "destroy_reference_points": 1,
    "edit_tracked": 1,
}
# Limit for waiting for jobs and merges.
_LIMIT_SECONDS = 60.0
MAX_DISKS = 3


class History:
    """Steps of one VM's life, chosen by a seed.

    Args:
        model: the world; with a ``ManualClock`` no real time passes.
        vm_id: a VM with at least one disk.
        seed: seed of every choice.
        leave_out: names of steps to leave out.
    """

    def __init__(
        self, model: Model, vm_id: UUID, seed: int, *, leave_out: frozenset[str] = frozenset()
    ) -> None:
        unknown = leave_out - _WEIGHTS.keys()
        if unknown:
            raise ValueError(f"unknown steps {sorted(unknown)}; use some of {sorted(_WEIGHTS)}")
        self.model = model
        self.vm_id = vm_id
        self.log: list[str] = []
        self._chance = random.Random(f"history|{seed}")
        self._steps = {name: weight for name, weight in _WEIGHTS.items() if name not in leave_out}

    def step(self) -> str:
        """Take one step and describe it."""
        names = list(self._steps)
        name = self._chance.choices(names, [self._steps[name] for name in names])[0]
        done: Callable[[], str | None] = getattr(self, f"_{name}")
        self._running()
        try:
            said = done()
        except HyperVError as err:
            said = f"refused: {err}"
        line = f"{name}{'' if said is None else ' ' + said}"
        self.log.append(line)
        return line

    def run(self, steps: int) -> None:
        """Take ``steps`` steps."""
        for _ in range(steps):
            self.step()

    def settle(self) -> None:
        """Start the VM and wait for its jobs and merges, so that a backup can be taken."""
        self._running()
        end = self._now() + _LIMIT_SECONDS
        while self.model.jobs.all(self.vm_id, unfinished=True) or len(self.model.vms.status(self.vm_id)) > 1:
            if self._now() > end:
                raise TimeoutError("jobs or merges of the VM do not end")
            self.pass_time(0.05)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, by the model's own clock."""
        clock = self.model.clock
        if isinstance(clock, ManualClock):
            clock.advance(seconds)
        else:
            time.sleep(seconds)

    # -- steps, by name -------------------------------------------------------------------------------

    def _write(self) -> str | None:
        slot = self._slot()
        size, sector = self._geometry(slot)
        start = self._chance.randrange(size // sector) * sector
        length = min(self._chance.randrange(1, 64) * sector, size - start)
        self.model.guests.write(self.vm_id, slot, start, self._data(length))
        return f"{length}@{start} {slot}"

    def _write_much(self) -> str | None:
        slot = self._slot()
        size, sector = self._geometry(slot)
        start = self._chance.randrange(size // sector) * sector
        length = min(self._chance.randrange(1, 2048) * sector, size - start)
        self.model.guests.write(self.vm_id, slot, start, self._data(length))
        return f"{length}@{start} {slot}"

    def _unmap(self) -> str | None:
        slot = self._slot()
        size, sector = self._geometry(slot)
        start = self._chance.randrange(size // sector) * sector
        length = min(self._chance.randrange(1, 1024) * sector, size - start)
        self.model.guests.unmap(self.vm_id, slot, start, length)
        return f"{length}@{start} {slot}"

    def _user_checkpoint(self) -> str | None:
        if len(self._user_checkpoints()) >= 3:
            return "no: there are three"
        self.settle()
        self._wait(self.model.checkpoints.create(self.vm_id, kind=SnapshotType.Standard))
        return None

    def _remove_user_checkpoint(self) -> str | None:
        points = self._user_checkpoints()
        if not points:
            return "no: there is none"
        self.settle()
        self._wait(self.model.checkpoints.remove(self._chance.choice(points)))
        return None

    def _apply_user_checkpoint(self) -> str | None:
        points = self._user_checkpoints()
        if not points:
            return "no: there is none"
        self.settle()
        self._wait(self.model.checkpoints.apply(self._chance.choice(points)))
        return None

    def _restart(self) -> str | None:
        self._act("stop", "start")
        return None

    def _save_and_start(self) -> str | None:
        self._act("save", "start")
        return None

    def _pause_and_resume(self) -> str | None:
        self._act("pause", "resume")
        return None

    def _power_loss(self) -> str | None:
        self._act("power_off", "start")
        return None

    def _crash_host(self) -> str | None:
        self.model.incidents.crash_host(self.model.vms.get(self.vm_id).node)
        self._running()
        return None

    def _migrate(self) -> str | None:
        here = self.model.vms.get(self.vm_id).node
        others = [node.name for node in self.model.nodes.all() if node.alive and node.name != here]
        if not others:
            return "no: there is one host"
        self.settle()
        to = self._chance.choice(others)
        self.model.incidents.migrate(self.vm_id, to)
        return f"to {to}"

    def _move_disk(self) -> str | None:
        self.settle()
        folder = f"C:\\Moved\\{self._chance.randrange(1_000_000)}"
        self.model.setup.move_disk(self.vm_id, self._slot(), folder)
        return f"to {folder}"

    def _grow_disk(self) -> str | None:
        slot = self._slot()
        size, sector = self._geometry(slot)
        self.settle()
        grown = size + self._chance.randrange(1, 256) * sector
        self.model.setup.resize_disk(self.vm_id, slot, grown)
        return f"{slot} to {grown}"

    def _add_disk(self) -> str | None:
        taken = {drive.slot for drive in self.model.disks.drives(self.vm_id)}
        if len(taken) >= MAX_DISKS:
            return "no: there are enough"
        free = next(
            slot for number in range(64) if (slot := Slot(ControllerType.SCSI, 0, number)) not in taken
        )
        self.model.setup.add_disk(
            self.vm_id,
            free,
            size_bytes=self._chance.randrange(1, 512) * 4096,
            path=f"C:\\Added\\{self._chance.randrange(1_000_000_000)}.vhdx",
            logical_sector_bytes=self._chance.choice([512, 4096]),
        )
        return str(free)

    def _remove_disk(self) -> str | None:
        slots = self._slots()
        if len(slots) < 2:
            return "no: there is one"
        self.settle()
        slot = self._chance.choice(slots)
        self.model.setup.remove_disk(self.vm_id, slot)
        return str(slot)

    def _swap_disk(self) -> str | None:
        self.settle()
        if self.model.checkpoints.all(self.vm_id, hidden=True):  # a backup's that was killed, too
            return "no: there are checkpoints"
        slot = self._slot()
        drive = next(drive for drive in self.model.disks.drives(self.vm_id) if drive.slot == slot)
        assert drive.layer is not None
        same = self.model.disks.layer(drive.layer).disk_id if self._chance.random() < 0.5 else None
        self.model.setup.swap_disk(self.vm_id, slot, disk_id=same)
        return f"{slot}{' with the same VirtualDiskId' if same else ''}"

    def _lose_tracking(self) -> str | None:
        slot = self._slot()
        self.model.incidents.lose_tracking(self.vm_id, slot)
        return str(slot)

    def _foreign_reference_point(self) -> str | None:
        return self.model.incidents.add_reference_point(self.vm_id)

    def _destroy_reference_points(self) -> str | None:
        return str(self.model.incidents.destroy_reference_points(self.vm_id))

    def _edit_tracked(self) -> str | None:
        slot = self._slot()
        self.settle()
        self.model.vms.set_state(self.vm_id, "stop")
        _, sector = self._geometry(slot)
        self.model.incidents.edit_offline(self.vm_id, slot, 0, self._data(sector), tracked=True)
        self.model.vms.set_state(self.vm_id, "start")
        return str(slot)

    # -- inside -----------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self.model.clock.now()

    def _running(self) -> None:
        """Wait for the VM's jobs and start it unless it is running."""
        end = self._now() + _LIMIT_SECONDS
        while self.model.jobs.all(self.vm_id, unfinished=True):
            if self._now() > end:
                raise TimeoutError("jobs of the VM do not end")
            self.pass_time(0.05)
        if self.model.vms.get(self.vm_id).state is not VMState.Running:
            self.model.vms.set_state(self.vm_id, "start")

    def _act(self, *actions: str) -> None:
        self.settle()
        for action in actions:
            self.model.vms.set_state(self.vm_id, action)

    def _wait(self, job: Job) -> None:
        end = self._now() + _LIMIT_SECONDS
        while not job.done:
            if self._now() > end:
                raise TimeoutError("a job of the VM does not end")
            self.pass_time(0.05)
            self.model.jobs.all(self.vm_id)

    def _slots(self) -> list[Slot]:
        return [drive.slot for drive in self.model.disks.drives(self.vm_id) if drive.layer is not None]

    def _slot(self) -> Slot:
        return self._chance.choice(self._slots())

    def _geometry(self, slot: Slot) -> tuple[int, int]:
        drive = next(drive for drive in self.model.disks.drives(self.vm_id) if drive.slot == slot)
        assert drive.layer is not None
        layer = self.model.disks.layer(drive.layer)
        return layer.size_bytes, layer.logical_sector_bytes

    def _user_checkpoints(self) -> list[UUID]:
        points = self.model.checkpoints.all(self.vm_id, hidden=True)
        return [point.checkpoint_id for point in points if point.kind is SnapshotType.Standard]

    def _data(self, length: int) -> bytes:
        """Bytes as disks hold them: random, repeating, or zeros."""
        kind = self._chance.random()
        if kind < 0.1:
            return bytes(length)
        if kind < 0.3:
            return (self._chance.randbytes(16) * (length // 16 + 1))[:length]
        return self._chance.randbytes(length)
