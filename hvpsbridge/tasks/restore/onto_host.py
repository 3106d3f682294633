"""Restore as a new VM on a Hyper-V host (``hyperv:HOST``): disk files, then a VM of the definition."""

from __future__ import annotations

import logging
import ntpath
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge import stopping
from hvpsbridge.contract.restoring import VmMade
from hvpsbridge.contract.results import VmInfo
from hvpsbridge.errors import (
    ConfigurationError,
    HostError,
    HvpsError,
    OperationFailed,
    TargetExists,
)
from hvpsbridge.formats.ledger import RestoreIntent
from hvpsbridge.formats.manifest import ManifestDisk
from hvpsbridge.formats.vm_devices import PlannedDisk
from hvpsbridge.formats.vm_plan import PlanOptions, vm_plan
from hvpsbridge.repository import Repository
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cleanup.restores import RestoreJournal, sweep_restores
from hvpsbridge.tasks.file_names import MappedName, disk_file_name, path_part
from hvpsbridge.tasks.planning.restored import record_restored
from hvpsbridge.tasks.proofs import record_proof
from hvpsbridge.tasks.restore.from_config import ConfiguredVm, stored_files
from hvpsbridge.tasks.restore.host_capacity import find_isos, host_lacks
from hvpsbridge.tasks.restore.host_file import HostDiskFile
from hvpsbridge.tasks.restore.host_notes import left_out_notes
from hvpsbridge.tasks.restore.host_place import DISK_FOLDER, IMPORT_FOLDER, find_place
from hvpsbridge.tasks.restore.images import view_of
from hvpsbridge.tasks.restore.results import Finished, RestoredDisk
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.starting import Drill, start_problem

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

logger = logging.getLogger(__name__)

FORMAT = "hyperv"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How a VM is made.

    Attributes:
        name: of the new VM; None for a name made of the old one and the time of the point.
        folder: in which the folder of the VM is made; None for the host's.
        start: start the VM.
        connect_network: connect adapters to the switches that the definition names.
        keep_macs: keep static MAC addresses.
        new_tpm: make a new vTPM if the host cannot use the key protector in the point.
        from_config: make it of the configuration files in the point, instead of the definition.
    """

    name: str | None = None
    folder: str | None = None
    start: bool = False
    connect_network: bool = False
    keep_macs: bool = False
    new_tpm: bool = False
    from_config: bool = False


@dataclass(slots=True)
class HostVm:
    """A new VM on a host.

    Args:
        host: the host.
        repository: the one that is restored from.
        run_id: of this restore.
        options: how it is made.
        drill: how it is watched before it is removed again; None for a VM that stays.

    Attributes:
        mapped: names that had to be changed to become parts of a path.
    """

    host: HyperVHost
    repository: Repository
    run_id: UUID
    options: HostOptions
    drill: Drill | None = None
    mapped: tuple[MappedName, ...] = ()
    _name: str = ""
    _base: str = ""
    _vms: tuple[VmInfo, ...] = ()
    _isos: frozenset[str] = frozenset()
    _planned: list[PlannedDisk] = field(default_factory=list)
    _intent: RestoreIntent | None = None
    _journal: RestoreJournal | None = None
    _config: ConfiguredVm | None = None

    @property
    def place(self) -> str:
        """Folder of the new VM."""
        return ntpath.join(self._base, self._name)

    def file(self, disk: ManifestDisk) -> str:
        """Path of the file of a disk."""
        return ntpath.join(self.place, DISK_FOLDER, disk_file_name(disk.slot, "vhdx"))

    def check(self, point: Point, sources: Sequence[DiskSource]) -> None:
        """Look at everything that may be in the way, before anything is made.

        Raises:
            ConfigurationError: names all that is.
            HostError: the host cannot be asked.
        """
        self._choose_name(point)
        info = self.host.host_info()
        machine = info.name
        swept = sweep_restores(self.host, self.repository, machine)
        for line in swept.done:
            logger.info(line)
        self._vms, _ = self.host.list_vms()
        disks = [source.disk for source in sources]
        parts = tuple(ntpath.join(DISK_FOLDER, disk_file_name(disk.slot, "vhdx")) for disk in disks)
        needed_bytes = sum(view_of(source, "vhdx").size_bytes for source in sources)
        if self.options.from_config:
            config_files = stored_files(point)
            parts += tuple(ntpath.join(IMPORT_FOLDER, file.name) for file in config_files)
            needed_bytes += sum(file.size_bytes for file in config_files)
        found = find_place(self.host, self.options.folder, self._name, parts, needed_bytes, swept.open)
        self._base = found.base
        problems = list(found.problems)
        if any(vm.name.casefold() == self._name.casefold() for vm in self._vms):
            problems.insert(0, f"a VM named {self._name!r} exists; choose another --name")
        definition = point.manifest.definition
        self._isos = find_isos(self.host, definition)
        planned = [PlannedDisk(disk.slot, self.file(disk)) for disk in disks]
        options = self._plan_options()
        if self.options.from_config:
            self._config = ConfiguredVm(
                self.host, self.repository, point, self._name, self.place, options.mark
            )
            problems += self._config.problems()
        problems += host_lacks(
            self.host, info, definition, planned, options, needed=not self.options.from_config
        )
        if problems:
            raise ConfigurationError(f"restore onto {self.host.name}", "; ".join(problems))
        files = [self.file(disk) for disk in disks]
        config = () if self._config is None else self._config.paths
        self._intent = RestoreIntent(
            machine,
            self._name,
            self.place,
            (*(HostDiskFile(self.host, path).partial for path in files), *files, *config),
            found.folders,
            "" if self.drill is None else self.drill.expires.isoformat(),
            config,
            () if self._config is None else self._config.planned_before(),
            point.vm_name,
        )
        self._journal = RestoreJournal(self.repository, self.run_id, self.host.name)
        self._journal.intended(options.mark, self._intent)
        if self._config is not None:
            self._plan(self._config, sources)

    def _plan(self, config: ConfiguredVm, sources: Sequence[DiskSource]) -> None:
        """Make the planned VM, before anything large is sent."""
        try:
            config.plan({source.disk.slot for source in sources}, sources[0].cancel)
        except TargetExists:
            # Another restore, of another repository, made it.
            self._undo(config.written)
            raise
        except HvpsError as err:
            if config.asked and isinstance(err, HostError) and not isinstance(err, OperationFailed):
                # The host may still be making it: the next restore or sweep finds out.
                self._leave()
            else:
                self._undo()
            raise

    def unfinished(self) -> tuple[Path, ...]:
        """Nothing on this machine."""
        return ()

    def write(self, source: DiskSource) -> RestoredDisk:
        """Write the file of a disk, and compare it with the repository through the driver.

        Raises:
            TargetExists: something has the name.
            HostDiskFull: it does not fit.
            RestoreDiffers: the host reads something else than was written.
            DiskDamaged: a chunk is not what was stored; the host keeps nothing.
        """
        started = time.monotonic()
        view = view_of(source, "vhdx")
        path = self.file(source.disk)
        try:
            HostDiskFile(self.host, path).write(view, source)
        except TargetExists:
            # Another restore, of another repository, made it.
            self._undo([disk.path for disk in self._planned])
            raise
        except HvpsError:
            self._undo()
            raise
        self._planned.append(PlannedDisk(source.disk.slot, path))
        return source.restored(started, f"{self.host.name}:{path}", format=FORMAT)

    def finish(self, point: Point, disks: Sequence[RestoredDisk]) -> Finished:
        """Make the VM. That of a drill is started, watched and removed, whatever happens.

        Raises:
            OperationFailed: the host refuses; nothing is left.
            SessionLost: the VM may have been made; the next restore or sweep finds out.
            HostError: the VM of a drill could not be removed; the next restore or sweep does.
            Interrupted: a drill was stopped; its VM was removed.
        """
        made = self._make(point)
        if self.drill is not None:
            return self._finish_drill(self.drill, made, point, disks)
        record_restored(
            self.repository,
            run_id=self.run_id,
            vm_id=made.vm_id,
            host=self.host.name,
            point_id=point.point_id,
            source_vm_id=point.vm_id,
            slots=(disk.slot for disk in disks),
        )
        left = None if self._config is None else self._config.remove_files()
        if self._journal is not None:
            self._journal.settled("finished")
        problem = start_problem(self.host, made.vm_id, made.name) if self.options.start else None
        runs = self.options.start and problem is None
        lines = [f"made VM {made.name} ({made.vm_id}) in {self.place}; it {'runs' if runs else 'is off'}"]
        if not self.options.connect_network:
            lines.append("its network adapters are not connected")
        lines += (f"not set: {warning}" for warning in made.warnings)
        lines += left_out_notes(
            self.repository,
            point,
            {disk.slot for disk in disks},
            self._isos,
            from_config=self._config is not None,
            new_tpm=self.options.new_tpm,
        )
        return Finished(
            tuple(lines),
            () if left is None else (left,),
            conditions=() if problem is None else (problem,),
        )

    # -- inside ---------------------------------------------------------------------------------------

    def _make(self, point: Point) -> VmMade:
        try:
            if self._config is not None:
                return self._config.complete(
                    [(disk.slot, disk.path) for disk in self._planned],
                    self._isos,
                    connect=self.options.connect_network,
                    keep_macs=self.options.keep_macs,
                )
            plan = vm_plan(point.manifest.definition, self._planned, self._plan_options())
            return self.host.restoring.new_vm(
                self._name, self._base, plan, existing=(vm.vm_id for vm in self._vms)
            )
        except OperationFailed:
            self._undo()
            raise

    def _finish_drill(
        self, drill: Drill, made: VmMade, point: Point, disks: Sequence[RestoredDisk]
    ) -> Finished:
        started = time.monotonic()
        try:
            problem = drill.problem(self.host, made.vm_id, made.name)
            seconds = time.monotonic() - started
        finally:
            with stopping.to_the_end():
                self._remove(made.vm_id)
        if problem is not None:
            return Finished((f"removed VM {made.name}",), conditions=(problem,))
        note = f"VM {made.name} started and showed a heartbeat after {seconds:.0f} s; it is removed"
        proved_bytes = sum(disk.size_bytes for disk in disks)
        warning = record_proof(self.repository, point, "restored", proved_bytes, drill.run_id)
        return Finished((note,), () if warning is None else (warning,))

    def _remove(self, vm_id: UUID) -> None:
        """Turn off and remove the VM, with its files. What cannot be removed stays in the ledger."""
        if self._journal is None or self._intent is None:
            return
        try:
            mark = self._plan_options().mark
            self.host.restoring.remove_vm(vm_id, self.place, mark, turn_off=True)
            self.host.restoring.remove_files(self._intent.files, self._intent.folders)
            self._journal.settled("removed")
        finally:
            self._journal.release()

    def _undo(self, files: Sequence[str] | None = None) -> None:
        """Remove what was made: all files, or only these.

        What cannot be removed stays in the ledger, for the next restore or sweep.
        """
        if self._journal is None or self._intent is None:
            return
        try:
            with stopping.to_the_end():
                unclear = () if self._config is None else self._config.remove_planned(self._intent)
                self.host.restoring.remove_files(
                    self._intent.files if files is None else files, self._intent.folders
                )
            if not unclear:
                self._journal.settled("undone")
                return
            logger.warning("planned VMs on %s may be of this restore: %s", self.host.name, ", ".join(unclear))
            self._leave()
        except HvpsError as err:
            logger.warning("what the restore made on %s is still there: %s", self.host.name, err)
            self._leave()

    def _leave(self) -> None:
        """Leave what was made to the next restore or sweep."""
        if self._journal is not None:
            with suppress(HvpsError):
                self._journal.release()

    def _choose_name(self, point: Point) -> None:
        wanted = self.options.name or f"{point.vm_name} {point.created:%Y-%m-%d %H.%M}"
        self._name = path_part(wanted)
        if self._name != wanted:
            self.mapped = (MappedName(wanted, self._name),)

    def _plan_options(self) -> PlanOptions:
        return PlanOptions(
            mark=f"hvps restore {self.run_id}",
            connect_network=self.options.connect_network,
            keep_macs=self.options.keep_macs,
            new_tpm=self.options.new_tpm,
            isos=self._isos,
            keep_mark=self.drill is not None,
        )
