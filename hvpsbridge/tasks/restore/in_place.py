"""Restore into the disks of the VM itself (``hyperv:HOST --replace``): only chunks that differ are written.

The order is: copies of the disk files for an undo, the ledger, our reference points, other names for the
files, the chunks, the names back. A restore that was killed leaves the VM without its disks, so that it
cannot start half-restored; doing it again finishes it.
"""

from __future__ import annotations

import logging
import ntpath
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    DiskFormat,
    DiskInfo,
    ReplicationMode,
    VmInfo,
    VmState,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import ConfigurationError, HostNotClean, VmNotFound
from hvpsbridge.formats.extents import total_bytes
from hvpsbridge.formats.in_place import InPlaceDisk, InPlaceRestore, Stage
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Repository
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.cleaner import clean_up, close_run
from hvpsbridge.tasks.cleanup.context import CleanupContext
from hvpsbridge.tasks.cleanup.merge_wait import children_of, wait_for_merge
from hvpsbridge.tasks.cleanup.reference_points import ReferencePoints
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.journal import Journal
from hvpsbridge.tasks.planning.mark import parse_mark
from hvpsbridge.tasks.planning.restored import record_restored
from hvpsbridge.tasks.policy import BackupLimits
from hvpsbridge.tasks.restore.images import view_of
from hvpsbridge.tasks.restore.in_place_disk import HostDisk
from hvpsbridge.tasks.restore.in_place_ledger import InPlaceLedger, OpenInPlace, open_in_place
from hvpsbridge.tasks.restore.results import Finished, RestoredDisk
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.units import size_text

logger = logging.getLogger(__name__)

FORMAT = "hyperv"


@dataclass(frozen=True, slots=True, kw_only=True)
class InPlaceOptions:
    """What may be given up for a restore in place.

    Attributes:
        discard_saved_state: the memory of a VM that is saved.
        remove_checkpoints: checkpoints of the VM.
    """

    discard_saved_state: bool = False
    remove_checkpoints: bool = False


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
        before = next(
            (one for one in open_in_place(self.repository, machine) if one.restore.vm_id == vm.vm_id), None
        )
        problems = list(self._vm_problems(vm))
        checkpoints = self.host.checkpoints(vm.vm_id)
        if not self.options.remove_checkpoints:
            problems += checkpoint_problems(self.repository, checkpoints)
        there = {slot_of(disk): disk for disk in self.host.disks(vm.vm_id)}
        if before is not None and before.restore.stage is Stage.COPYING:
            # Nothing was changed, and this one may be another restore.
            self.host.restoring.remove_files(disk.undo for disk in before.restore.disks)
            InPlaceLedger(self.repository, self.host.name, before.run_id).settled(
                before.restore, "begun again"
            )
            before = None
        if before is None:
            problems += self._disk_problems(sources, there)
        else:
            problems += self._earlier_problems(before, disks, vm)
        if problems:
            raise ConfigurationError(where, "; ".join(problems))
        if self._give_up(vm, checkpoints, tuple(there.values())) and before is None:
            there = {slot_of(disk): disk for disk in self.host.disks(vm.vm_id)}
            problems = self._disk_problems(sources, there, merged=True)
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

    def _vm_problems(self, vm: VmInfo) -> list[str]:
        problems = []
        if vm.is_clustered:
            problems.append("the VM is highly available, which is not supported yet; restore it as a copy")
        if vm.replication_mode is not ReplicationMode.NONE:
            problems.append("Hyper-V Replica works on the VM; remove its replication first")
        if vm.state is VmState.SAVED:
            if not self.options.discard_saved_state:
                problems.append("the VM is saved; shut it down, or use --discard-saved-state")
        elif vm.state is not VmState.OFF:
            problems.append(f"the VM is {vm.state}; shut it down first")
        return problems

    def _give_up(self, vm: VmInfo, checkpoints: Sequence[CheckpointInfo], disks: Sequence[DiskInfo]) -> bool:
        """Discard the saved state and remove checkpoints, as the options allow; whether any was removed."""
        if vm.state is VmState.SAVED:
            self.host.restoring.discard_saved_state(vm.vm_id)
            self._notes.append("the saved state of the VM was discarded")
        others = [one for one in checkpoints if not _is_ours(self.repository, one)]
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

    def _disk_problems(
        self, sources: Sequence[DiskSource], there: dict[str, DiskInfo], *, merged: bool | None = None
    ) -> list[str]:
        merged = not self.options.remove_checkpoints if merged is None else merged
        problems = []
        wanted: dict[str, int] = {}
        for source in sources:
            disk = source.disk
            found = there.get(disk.slot)
            problem = _unfit(disk, found, merged=merged)
            if problem:
                problems.append(f"disk {disk.slot} {problem}")
                continue
            assert found is not None
            assert found.path is not None
            view = view_of(source, "vhdx")
            # The copy, and what the file may grow by.
            needed = found.file_bytes + max(0, view.size_bytes - found.file_bytes)
            volume = ntpath.splitdrive(found.path)[0].casefold()
            wanted[volume] = wanted.get(volume, 0) + needed
            names = InPlaceDisk.of(disk.slot, found.path)
            folder = self.host.restoring.folder(ntpath.dirname(found.path), [names.undo, names.written])
            problems += [f"{path} exists" for path in folder.found]
            if wanted[volume] > folder.free_bytes:
                problems.append(
                    f"a copy for an undo and the restored data need {size_text(wanted[volume])}, and "
                    f"{ntpath.dirname(found.path)} has {size_text(folder.free_bytes)} free"
                )
        return problems

    def _earlier_problems(self, before: OpenInPlace, disks: Sequence[ManifestDisk], vm: VmInfo) -> list[str]:
        """What an earlier restore in place forbids; one that was killed is finished by this one."""
        host = self.host.name
        if before.kept:
            return [
                f"the copies of an earlier restore are kept; use `hvps host undo {host} {vm.name}` or "
                f"`hvps host forget {host} {vm.name}` first"
            ]
        if before.restore.stage is Stage.UNDOING:
            return [f"an undo did not end; do `hvps host undo {host} {vm.name}` again"]
        slots = [disk.slot for disk in disks]
        if sorted(slots) != sorted(disk.slot for disk in before.restore.disks):
            began = ", ".join(disk.slot for disk in before.restore.disks)
            return [f"an earlier restore of disks {began} did not end; restore the same disks to finish it"]
        return []

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


def checkpoint_problems(repository: Repository, checkpoints: Iterable[CheckpointInfo]) -> list[str]:
    """A line if the VM has checkpoints that this repository's backups did not leave."""
    names = ", ".join(repr(one.name) for one in checkpoints if not _is_ours(repository, one))
    return [f"the VM has checkpoints ({names}); remove them, or use --remove-checkpoints"] if names else []


def _is_ours(repository: Repository, checkpoint: CheckpointInfo) -> bool:
    mark = parse_mark(checkpoint.name)
    recovery = checkpoint.kind is CheckpointKind.RECOVERY
    return recovery and mark is not None and mark.repository_id == repository.repository_id


def forget_tracking(
    host: HyperVHost,
    repository: Repository,
    run_id: UUID,
    restore: InPlaceRestore,
    pause: Callable[[float], bool],
) -> tuple[str, ...]:
    """Clean up after earlier backups of a VM and destroy our reference points; a line for those of others.

    Args:
        host: the host.
        repository: the one whose reference points are destroyed.
        run_id: of this run, which holds the lease of the VM.
        restore: into the disks of the VM.
        pause: waits for that many seconds; false ends the waiting.

    Raises:
        HostNotClean: one of them is left.
    """
    journal = Journal(repository.ledger(restore.vm_id), run_id, restore.vm_id, host.name)
    cleanup = CleanupContext(
        host=host,
        repository=repository,
        vm_id=restore.vm_id,
        journal=journal,
        limits=BackupLimits(),
        own_run=run_id,
        pause=pause,
        note=lambda text: logger.info("%s", text),
    )
    references = ReferencePoints(cleanup)
    left = (*clean_up(cleanup, references), *references.forget())
    if left:
        raise HostNotClean(host.name, restore.vm_name, left)
    close_run(cleanup, references, note="before a restore in place")
    others = [one.instance_id for one in host.reference_points(restore.vm_id)]
    if not others:
        return ()
    line = (
        f"other products have reference points of the VM ({', '.join(others)}); their next backup may miss "
        "what the restore writes, so make a full one with them"
    )
    logger.warning("%s", line)
    return (line,)


def _unfit(disk: ManifestDisk, found: DiskInfo | None, *, merged: bool) -> str:
    """Why a disk of the VM cannot be written in place; empty if it can."""
    if found is None or found.path is None:
        return "is not in the VM; attach a disk of its size, or restore as a copy"
    if found.pass_through or found.shared:
        return "is a physical or shared disk"
    if found.error is not None:
        return f"cannot be read: {found.error}"
    if found.format is not DiskFormat.VHDX:
        return f"is a {found.format.value}, and only VHDX files are written in place"
    if merged and len(found.chain) > 1:
        return "has a parent file; merge it first"
    if found.size_bytes != disk.size_bytes or found.logical_sector_bytes != disk.sector_bytes:
        return (
            f"has {found.size_bytes} bytes in sectors of {found.logical_sector_bytes}, and in the point "
            f"{disk.size_bytes} in sectors of {disk.sector_bytes}"
        )
    return ""
