"""Restore into the disks of the VM itself (``hyperv:HOST --replace``): only chunks that differ are written.

The order is: copies of the disk files for an undo, the ledger, our reference points, other names for the
files, the chunks, the names back. A restore that was killed leaves the VM without its disks, so that it
cannot start half-restored; doing it again finishes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    DiskInfo,
    VmInfo,
    VmState,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import ConfigurationError, HostNotClean, VmNotFound
from hvpsbridge.formats.extents import total_bytes
from hvpsbridge.formats.in_place import InPlaceDisk, InPlaceRestore, Stage
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.merge_wait import children_of, wait_for_merge
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.planning.restored import record_restored
from hvpsbridge.tasks.policy import BackupLimits
from hvpsbridge.tasks.restore.in_place_checks import (
    InPlaceOptions,
    checkpoint_problems,
    disk_problems,
    earlier_problems,
    is_ours,
    vm_problems,
)
from hvpsbridge.tasks.restore.in_place_disk import HostDisk
from hvpsbridge.tasks.restore.in_place_ledger import InPlaceLedger, in_place_of, remove_copies
from hvpsbridge.tasks.restore.in_place_tracking import forget_tracking
from hvpsbridge.tasks.restore.results import Finished, RestoredDisk
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import size_text

logger = logging.getLogger(__name__)

FORMAT = "hyperv"


@dataclass(slots=True)
class InPlaceVm:
    """The VM of a point, whose disks get what the point has.

    Args:
        host: the host.
        repository: the one that is restored from.
        run_id: of this restore.
        options: what may be given up.
        cancel: ends waiting.
    """

    host: HyperVHost
    repository: Repository
    run_id: UUID
    options: InPlaceOptions
    cancel: Cancellation = field(default_factory=Cancellation)
    mapped: tuple[MappedName, ...] = ()
    _ledger: InPlaceLedger | None = None
    _restore: InPlaceRestore | None = None
    _lease: Lease | None = None
    _begun: bool = False
    _notes: list[str] = field(default_factory=list)

    def check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        """Look at everything that may be in the way, before anything is changed.

        Raises:
            ConfigurationError: names all that is.
            RepositoryLocked: a backup or another restore is working on the VM.
            HostError: the host cannot be asked.
        """
        self._lease = self.repository.lease(point.vm_id, current_holder(self.run_id))
        try:
            self._check(point, sources)
        except BaseException:
            self.release()
            raise

    def unfinished(self) -> tuple[Path, ...]:
        """Nothing on this machine."""
        return ()

    def write(self, source: DiskSource) -> RestoredDisk:
        """Write the chunks of a disk that differ.

        Raises:
            HostNotClean: something of an earlier run is left, so nothing was written.
            HostDiskFull: a copy does not fit, or the file cannot grow.
            RestoreDiffers: the host reads something else than was written.
            DiskDamaged: a chunk is not what was stored.
        """
        started = time.monotonic()
        try:
            if not self._begun:
                self._begin(source.point)
            (names,) = (disk for disk in self._known.disks if disk.slot == source.disk.slot)
            written = HostDisk(self.host, names).write(source)
        except BaseException:
            self._say_unfinished()
            self.release()
            raise
        self._notes.append(
            f"disk {names.slot}: {size_text(total_bytes(written))} of "
            f"{size_text(source.size_bytes)} differed and were written"
        )
        return source.restored(started, f"{self.host.name}:{names.path}", format=FORMAT)

    def finish(self, point: Point, disks: Sequence[RestoredDisk]) -> Finished:
        """Give the disks their names back, so that the VM can start.

        Raises:
            HostError: it can be done again.
        """
        try:
            for names in self._known.disks:
                HostDisk(self.host, names).show()
            self._reach(Stage.KEPT)
        except BaseException:
            self._say_unfinished()
            raise
        finally:
            self.release()
        name, host = self._known.vm_name, self.host.name
        return Finished(
            (
                *self._notes,
                f"VM {name} holds the point; it is off",
                *(f"kept what disk {disk.slot} was before as {disk.undo}" for disk in self._known.disks),
                f"`hvps host undo {host} {name}` puts it back, `hvps host forget {host} {name}` removes it",
            )
        )

    def release(self) -> None:
        """Give the lease back."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    # -- inside ---------------------------------------------------------------------------------------

    @property
    def _known(self) -> InPlaceRestore:
        assert self._restore is not None, "check comes first"
        return self._restore

    def _reach(self, stage: Stage) -> None:
        assert self._ledger is not None, "check comes first"
        self._restore = self._ledger.reached(self._known, stage)

    def _say_unfinished(self) -> None:
        if self._restore is not None and self._restore.stage is Stage.WRITING:
            logger.warning(
                "the restore of %s on %s is not finished, and the VM cannot start: do it again, "
                "or `hvps host undo`",
                self._restore.vm_name,
                self.host.name,
            )

    def _check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        disks = [source.disk for source in sources]
        where, machine = f"restore onto {self.host.name}", self.host.host_info().name
        try:
            vm = self.host.vm(point.vm_id)
        except VmNotFound as err:
            what = f"it has no VM {point.vm_id}; restore {point.vm_name!r} as a copy, without --replace"
            raise ConfigurationError(where, what) from err
        before = in_place_of(self.repository, machine, vm.vm_id)
        problems = vm_problems(vm, self.options)
        checkpoints = self.host.checkpoints(vm.vm_id)
        if not self.options.remove_checkpoints:
            problems += checkpoint_problems(self.repository, checkpoints)
        there = {slot_of(disk): disk for disk in self.host.disks(vm.vm_id)}
        if before is not None and before.restore.stage is Stage.COPYING:
            # Nothing was changed, and this one may be another restore.
            ledger = InPlaceLedger(self.repository, self.host.name, before.run_id)
            remove_copies(self.host, ledger, before.restore)
            before = None
        if before is None:
            merged = not self.options.remove_checkpoints
            problems += disk_problems(self.host, sources, there, merged=merged)
        else:
            problems += earlier_problems(before, disks, self.host.name, vm)
        if problems:
            raise ConfigurationError(where, "; ".join(problems))
        if self._give_up(vm, checkpoints, tuple(there.values())) and before is None:
            there = {slot_of(disk): disk for disk in self.host.disks(vm.vm_id)}
            problems = disk_problems(self.host, sources, there, merged=True)
            if problems:
                raise ConfigurationError(where, "; ".join(problems))
        self._ledger = InPlaceLedger(
            self.repository, self.host.name, self.run_id if before is None else before.run_id
        )
        self._restore = InPlaceRestore(
            machine,
            vm.vm_id,
            vm.name,
            point.point_id,
            Stage.COPYING if before is None else Stage.WRITING,
            tuple(InPlaceDisk.of(disk.slot, there[disk.slot].path or "") for disk in disks)
            if before is None
            else before.restore.disks,
        )

    def _give_up(self, vm: VmInfo, checkpoints: Sequence[CheckpointInfo], disks: Sequence[DiskInfo]) -> bool:
        """Discard the saved state and remove checkpoints, as the options allow; whether any was removed."""
        if vm.state is VmState.SAVED:
            self.host.restoring.discard_saved_state(vm.vm_id)
            self._notes.append("the saved state of the VM was discarded")
        others = [one for one in checkpoints if not is_ours(self.repository, one)]
        for one in others:
            self.host.restoring.remove_snapshot(vm.vm_id, one.checkpoint_id, one.name)
            self._notes.append(f"checkpoint {one.name!r} was removed")
        if others:
            frozen = [path for one in others for path in one.disk_paths]
            left = wait_for_merge(
                self.host, vm.vm_id, children_of(frozen, disks), BackupLimits(), self.cancel.pause
            )
            if left:
                raise HostNotClean(self.host.name, vm.name, left)
        return bool(others)

    def _begin(self, point: Point) -> None:
        """Everything before the first byte."""
        if self._known.stage is Stage.COPYING:
            self._reach(Stage.COPYING)
            for disk in self._known.disks:
                self.host.restoring.copy_file(disk.path, disk.undo)
        self._reach(Stage.WRITING)
        record_restored(
            self.repository,
            run_id=self.run_id,
            vm_id=self._known.vm_id,
            host=self.host.name,
            point_id=point.point_id,
            source_vm_id=point.vm_id,
            slots=(disk.slot for disk in self._known.disks),
        )
        self._notes += forget_tracking(
            self.host, self.repository, self.run_id, self._known, self.cancel.pause
        )
        for names in self._known.disks:
            HostDisk(self.host, names).hide()
        self._begun = True
