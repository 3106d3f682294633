"""Restore into the disks of the VM itself (``hyperv:HOST --replace``): only chunks that differ are written.

The order is: the role of a clustered VM offline, copies of the disk files for an undo, the ledger, our
reference points, other names for the files, the chunks, the names back, the role. A restore that was killed
leaves the VM without its disks, so that it cannot start half-restored; doing it again finishes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from hvpsbridge.contract.results import (
    CheckpointInfo,
    DiskInfo,
    VmInfo,
    VmState,
)
from hvpsbridge.contract.slots import slot_of
from hvpsbridge.errors import ConfigurationError, HostError, HostNotClean, HvpsError, VmNotFound
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
from hvpsbridge.tasks.restore.in_place_ledger import (
    InPlaceLedger,
    OpenInPlace,
    end_restore,
    in_place_of,
)
from hvpsbridge.tasks.restore.in_place_role import (
    bring_back,
    check_still_off,
    role_problems,
    take_offline,
    with_role,
)
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
    _vm: VmInfo | None = None
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
        except BaseException as err:
            try:
                if isinstance(err, HvpsError):
                    self._withdraw()
            finally:
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
        role: tuple[str, ...] = ()
        warnings: tuple[str, ...] = ()
        try:
            for names in self._known.disks:
                HostDisk(self.host, names).show()
            self._reach(Stage.KEPT)
            try:
                role = self._bring_back()
            except HostError as err:
                warnings = (f"{self._known.role} is not online again, start it in the cluster: {err}",)
        except BaseException:
            self._say_unfinished()
            raise
        finally:
            self.release()
        name, host = self._known.vm_name, self.host.name
        state = "" if role else "; it is off"
        return Finished(
            (
                *self._notes,
                f"VM {name} holds the point{state}",
                *role,
                *(f"kept what disk {disk.slot} was before as {disk.undo}" for disk in self._known.disks),
                f"`hvps host undo {host} {name}` puts it back, `hvps host forget {host} {name}` removes it",
            ),
            warnings,
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

    def _bring_back(self) -> tuple[str, ...]:
        lines = bring_back(self.host, self._known)
        if lines:
            self._restore = replace(self._known, role="")
            self._reach(Stage.KEPT)
        return lines

    def _withdraw(self) -> None:
        """Leave nothing behind if the disks were not changed yet.

        Raises:
            ConfigurationError: the cluster started the VM, which explains what went wrong.
        """
        if self._restore is None or self._restore.stage is not Stage.COPYING:
            return
        assert self._ledger is not None, "check comes first"
        assert self._vm is not None, "check comes first"
        cause: ConfigurationError | None = None
        try:
            with suppress(HostError):
                check_still_off(self.host, self._vm)
        except ConfigurationError as err:
            cause = err
        try:
            end_restore(self.host, self._ledger, self._restore)
        except HvpsError as err:
            logger.warning(
                "what the restore of %s made on %s is left: %s", self._restore.vm_name, self.host.name, err
            )
        if cause is not None:
            raise cause

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
        self._vm = vm
        before = in_place_of(self.repository, machine, vm.vm_id)
        problems = vm_problems(vm, self.options)
        problems += role_problems(self.host, vm)
        checkpoints = self.host.checkpoints(vm.vm_id)
        if not self.options.remove_checkpoints:
            problems += checkpoint_problems(self.repository, checkpoints)
        there = {slot_of(disk): disk for disk in self.host.disks(vm.vm_id)}
        offline: OpenInPlace | None = None
        if before is not None and before.restore.stage is Stage.COPYING:
            # Nothing was changed, and this one may be another restore.
            if before.restore.role:
                offline = before
                self.host.restoring.remove_files(disk.undo for disk in before.restore.disks)
            else:
                end_restore(self.host, self._ledger_of(before), before.restore)
            before = None
        elif before is not None and before.kept and bring_back(self.host, before.restore):
            self._ledger_of(before).reached(replace(before.restore, role=""), Stage.KEPT)
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
        earlier = before or offline
        self._ledger = (
            InPlaceLedger(self.repository, self.host.name, self.run_id)
            if earlier is None
            else self._ledger_of(earlier)
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
            role="" if earlier is None else earlier.restore.role,
        )

    def _ledger_of(self, earlier: OpenInPlace) -> InPlaceLedger:
        return InPlaceLedger(self.repository, self.host.name, earlier.run_id)

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
        assert self._vm is not None, "check comes first"
        fresh = self._known.stage is Stage.COPYING
        if fresh:
            self._restore = with_role(self.host, self._vm, self._known)
            self._reach(Stage.COPYING)
        take_offline(self.host, self._vm)
        if fresh:
            for disk in self._known.disks:
                self.host.restoring.copy_file(disk.path, disk.undo)
            check_still_off(self.host, self._vm)
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
        try:
            for names in self._known.disks:
                HostDisk(self.host, names).hide()
        except HvpsError:
            # As when a cluster started the VM meanwhile.
            if fresh:
                for names in self._known.disks:
                    HostDisk(self.host, names).show()
                self._reach(Stage.COPYING)
            raise
        self._begun = True
