"""A small world for backups: a model, a repository, and functions to run backups and check them."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

from hvpsbridge.formats.chunk import FRAME_BYTES
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.ids import IdWay, PointIds
from hvpsbridge.receiver.settings import RetryLimits
from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.repository import Repository
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.state import ControllerType, Slot
from hvpsbridge.tasks import backup
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.planning.mark import parse_mark
from hvpsbridge.tasks.policy import BackupLimits, BackupOptions, ProofPolicy
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.task import TaskContext
from hvpsbridge.tasks.transfer.limits import SharedLimits
from hvpsbridge.units import KIB, MIB
from tests.tasks.model_host import ModelHost

GRID = ChunkGrid(64 * KIB)
SLOT = Slot(ControllerType.SCSI, 0, 0)
SECOND = Slot(ControllerType.SCSI, 0, 1)
SIZE = 8 * MIB


class Died(BaseException):
    """The process is gone at this point: nothing undoes, nothing is written."""


def die() -> None:
    """What an observer does to a process."""
    raise Died


# Pauses are short. What ends a wait without success is long, since the machine may be busy: no test may run
# into it that does not say so.
QUICK = BackupOptions(
    proof=ProofPolicy.SAMPLE,  # as on a proved build
    limits=BackupLimits(
        free_space_floor=1 * MIB,
        watch_seconds=0.05,
        wait=0.3,
        merge_seconds=120.0,
        held_merge_seconds=120.0,
        undo_seconds=120.0,
        appear_seconds=0.05,
        poll_seconds=0.02,
    ),
    retry_limits=RetryLimits(
        resume_seconds=120, stall_seconds=60, first_pause_seconds=0.01, longest_pause_seconds=0.1
    ),
)
# For a host that does not come back.
IMPATIENT = replace(QUICK, retry_limits=replace(QUICK.retry_limits, resume_seconds=0.2))


class World:
    """One node, VMs, a repository in a folder beside.

    Args:
        folder: for both.
        seed: of the model and of what guests write.
    """

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.model = Model(folder / "sim", seed=seed)
        self.model.set_knob("job_seconds", 0.0)
        self.model.set_knob("merge_seconds", 0.0)
        self.model.set_knob("visibility_seconds", 0.0)
        self.chance = random.Random(seed)
        self.store = folder / "repository"
        self.store.mkdir(exist_ok=True)
        self.repository = create_on_store(LocalStore(self.store), GRID)
        self.shared = SharedLimits()
        self.records = self.shared.records
        self.before: Callable[[str], None] | None = None

    def close(self) -> None:
        self.repository.close()
        self.model.close()

    def reopen(self) -> None:
        """A new process would see it like this."""
        self.repository.close()
        self.repository = open_on_store(LocalStore(self.store))

    # -- guests -----------------------------------------------------------------------------------------

    def vm(self, name: str = "web", disks: Sequence[int] = (SIZE,), **settings: object) -> UUID:
        vm = self.model.setup.create_vm(name, **settings)  # type: ignore[arg-type]
        for index, size in enumerate(disks):
            slot = Slot(ControllerType.SCSI, 0, index)
            self.model.setup.add_disk(vm.vm_id, slot, size_bytes=size, block_bytes=1 * MIB)
            if vm.started is not None:
                self.churn(vm.vm_id, slot, writes=6, longest=size // 8)
        return vm.vm_id

    def churn(self, vm_id: UUID, slot: Slot = SLOT, writes: int = 3, longest: int = 64 * KIB) -> None:
        """The guest writes here and there, and trims now and then."""
        size = self.model.golden.live(vm_id, slot).stat().st_size
        unit = 4096
        for _ in range(writes):
            length = self.chance.randrange(1, max(longest // unit, 2)) * unit
            offset = self.chance.randrange((size - length) // unit + 1) * unit
            if self.chance.random() < 0.2:
                self.model.guests.unmap(vm_id, slot, offset, length)
            else:
                self.model.guests.write(vm_id, slot, offset, self.chance.randbytes(length))

    def _drive(self, vm_id: UUID, slot: Slot) -> int:
        return next(drive.layer for drive in self.model.disks.drives(vm_id) if drive.slot == slot)  # type: ignore[return-value]

    # -- hvps -------------------------------------------------------------------------------------------

    def host(self, node: str | None = None, run_id: UUID | None = None) -> ModelHost:
        return ModelHost(self.model, node, lambda name: self.before(name) if self.before else None, run_id)

    def context(self, vm: VmRef) -> TaskContext:
        """For a task that needs no host."""
        return TaskContext(
            vm=vm, repository=self.repository, run_id=uuid4(), observer=Observer(), cancel=Cancellation()
        )

    def backup(
        self,
        vm_id: UUID,
        *,
        policy: BackupOptions = QUICK,
        observer: Observer | None = None,
        cancel: Cancellation | None = None,
        repository: Repository | None = None,
        check: bool = False,
        node: str | None = None,
        **changes: object,
    ) -> BackupResult:
        """One backup, as the runner would make it. ``changes`` are fields of the policy or limits."""
        known = BackupLimits.__dataclass_fields__
        limits = {name: changes.pop(name) for name in list(changes) if name in known}
        policy = replace(policy, limits=replace(policy.limits, **limits), **changes)  # type: ignore[arg-type]
        run_id = uuid4()
        with self.host(node, run_id) as host:
            context = backup.BackupContext(
                host=host,  # type: ignore[arg-type]
                vm_id=vm_id,
                vm_name=host.vm(vm_id).name,
                options=policy,
                repository=repository or self.repository,
                run_id=run_id,
                observer=observer or Observer(),
                cancel=cancel or Cancellation(),
                budget=ByteBudget(16 * MIB),
                shared=self.shared,
                connect=lambda: self.host(node, run_id),  # type: ignore[arg-type,return-value]
            )
            return backup.check(context) if check else backup.run(context)

    def good_backup(self, vm_id: UUID, **options: object) -> BackupResult:
        """A backup that must end well and leave the host clean."""
        result = self.backup(vm_id, **options)  # type: ignore[arg-type]
        assert result.error is None, result.error
        assert not result.leftovers, result.leftovers
        self.assert_clean(vm_id)
        return result

    def damage(self, kind: Kind, identity: bytes) -> None:
        """Flip a bit in the body of the one frame of this chunk or node."""
        (place,) = [place for place in self.repository._cache.find(identity) if place.kind is kind]
        pack = self.store / pack_name(kind, place.pack)
        data = bytearray(pack.read_bytes())
        data[place.offset + FRAME_BYTES + 20] ^= 1
        pack.write_bytes(data)
        self.reopen()

    def sources(self, point: Point) -> list[DiskSource]:
        """Disks of a point, for a target of a restore."""
        return [DiskSource(self.repository, point, disk) for disk in point.disks]

    # -- judging ----------------------------------------------------------------------------------------

    def assert_clean(self, vm_id: UUID, reference_points: int | None = None) -> None:
        """hvps has nothing on the host but one reference point, or perhaps none if no point can be a base."""
        ours = [
            point.name
            for point in self.model.checkpoints.all(vm_id, hidden=True)
            if (mark := parse_mark(point.name)) and mark.repository_id == self.repository.repository_id
        ]
        assert not ours, f"checkpoints left: {ours}"
        assert not self.model.driver.attached(), "a disk is left attached"
        assert not [one for one in self.model.planned.all() if one.settings["notes"].startswith("hvps")]
        there = len(self.model.reference_points.all(vm_id))
        if reference_points is None:
            # The first one whose ids are not those of the frozen disks is destroyed at once.
            points = self.repository.catalog.with_ids(vm_id)
            assert there == 1 or (there == 0 and points and not any(gave_back(ids) for _, ids in points))
        else:
            assert there == reference_points

    def assert_points_equal(self, vm_id: UUID, repository: Repository | None = None) -> int:
        """Every disk of every committed point equals its golden image; the number of points."""
        repository = repository or self.repository
        points = repository.catalog.points(vm_id)
        for point in points:
            self.assert_point_equal(point, repository)
        return len(points)

    def assert_point_equal(self, point: Point, repository: Repository | None = None) -> None:
        repository = repository or self.repository
        assert point.manifest.checkpoint_id is not None
        for disk in point.disks:
            kind, place = disk.slot.split(" ")
            kept = self.model.golden.at_checkpoint(point.manifest.checkpoint_id, Slot.parse(kind + place))
            stored = repository.image(point, disk)
            assert disk.size_bytes == kept.stat().st_size
            assert digest_of(stored) == digest_of(kept.open("rb")), f"{disk.slot} of point {point.short_id}"


def gave_back(ids: PointIds | None) -> bool:
    """Whether a conversion gave back the ids of the frozen disks."""
    return ids is not None and any(disk.way is IdWay.FROZEN for disk in ids.disks)


def digest_of(file: object) -> str:
    sha = hashlib.sha256()
    with file as opened:  # type: ignore[attr-defined]
        while piece := opened.read(1 * MIB):
            sha.update(piece)
    return sha.hexdigest()


class Steps(Observer):
    """An observer that remembers steps and calls back at one of them."""

    def __init__(self, at: tuple[str, str] | None = None, then: Callable[[], None] | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.notes: list[str] = []
        self._at = at
        self._then = then
        self._lock = threading.Lock()

    def step(self, vm: object, step: object, moment: str) -> None:
        with self._lock:
            self.seen.append((step.name, moment))  # type: ignore[attr-defined]
        if self._then is not None and (step.name, moment) == self._at:  # type: ignore[attr-defined]
            self._then()

    def noted(self, vm: object, text: str) -> None:
        self.notes.append(text)
