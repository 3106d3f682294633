"""A VM made of its own configuration files (``--from-config``): written to the host, planned, and realized.

The planned VM is made before disks are sent, so that a configuration that the host refuses is found at once.
"""

from __future__ import annotations

import ntpath
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.contract.restoring import PlannedVmMade, VmMade
from hvpsbridge.errors import ConfigurationError, HvpsError, OperationFailed, TargetExists
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.ledger import RestoreIntent
from hvpsbridge.formats.manifest import FileRef
from hvpsbridge.formats.planned_vm import MovedDisk, connected_adapters, planned_vm
from hvpsbridge.formats.vm_plan import wants_tpm
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.planned_vms import remove_planned, unclear_planned
from hvpsbridge.tasks.events import Meter
from hvpsbridge.tasks.file_names import path_part
from hvpsbridge.tasks.restore.host_file import PIECE_BYTES
from hvpsbridge.tasks.restore.host_place import IMPORT_FOLDER
from hvpsbridge.tasks.restore.host_send import HostSend

if TYPE_CHECKING:
    from hvpsbridge.host.hyperv import HyperVHost

_CONFIG, _STATES = ".vmcx", (".vmrs", ".vmgs")
_LEAVE_OUT = "leave out --from-config"


@dataclass(slots=True)
class ConfiguredVm:
    """A VM that comes from the configuration files of a point.

    Args:
        host: the host.
        repository: the one with the point.
        point: the point.
        name: of the new VM.
        place: its folder.
        mark: its notes until it is finished.

    Attributes:
        written: paths of files that were made on the host.
        asked: the host was asked for the planned VM.
    """

    host: HyperVHost
    repository: Repository
    point: Point
    name: str
    place: str
    mark: str
    written: list[str] = field(default_factory=list)
    asked: bool = False
    _before: tuple[UUID, ...] = ()
    _made: PlannedVmMade | None = None

    @property
    def folder(self) -> str:
        """Folder of the files on the host."""
        return ntpath.join(self.place, IMPORT_FOLDER)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the files on the host."""
        return tuple(ntpath.join(self.folder, file.name) for file in stored_files(self.point))

    def problems(self) -> list[str]:
        """What the point lacks, one line each."""
        files = stored_files(self.point)
        configs = [file for file in files if _extension(file) == _CONFIG]
        if len(configs) != 1:
            has = "no configuration file (.vmcx)" if not configs else f"{len(configs)} configuration files"
            return [f"the point has {has}; {_LEAVE_OUT}"]
        problems = []
        stem = configs[0].name[: -len(_CONFIG)]
        for file in files:
            # Names come from a host, and become parts of paths on another one.
            if path_part(file.name) != file.name or not file.name.startswith(stem):
                problems.append(f"the point has a configuration file named {file.name!r}; {_LEAVE_OUT}")
        states = {_extension(file) for file in files}
        if wants_tpm(self.point.manifest.definition) and ".vmgs" not in states:
            problems.append(f"the point has no .vmgs file, which holds the vTPM; {_LEAVE_OUT}")
        return problems

    def planned_before(self) -> tuple[str, ...]:
        """Ids of planned VMs that are there before one is made.

        Raises:
            HostError: the host cannot be asked.
        """
        self._before = tuple(one.vm_id for one in self.host.restoring.planned_vms())
        return tuple(map(str, self._before))

    def plan(self, slots: Collection[str], cancel: Cancellation) -> None:
        """Write the files and make the planned VM.

        Args:
            slots: of the disks that will be restored.
            cancel: to be checked before each piece.

        Raises:
            TargetExists: something has the name of a file.
            ConfigurationError: the configuration does not fit the point, or refers to checkpoints.
            OperationFailed: the host refuses it.
        """
        for file, path in zip(stored_files(self.point), self.paths, strict=True):
            self._write(file, path, cancel)
        config = next(path for path in self.paths if path.lower().endswith(_CONFIG))
        self.asked = True
        made = self.host.restoring.new_planned_vm(
            config, self.name, self.place, self.mark, existing=self._before
        )
        self._made = made
        where = f"restore onto {self.host.name}"
        if made.checkpoints:
            what = f"refers to {made.checkpoints} checkpoints, which the point does not have"
            raise ConfigurationError(where, f"the configuration of the VM {what}; {_LEAVE_OUT}")
        there = {path.casefold() for path in made.disk_paths}
        missing = [
            disk.slot for disk in self.point.disks if disk.slot in slots and disk.path.casefold() not in there
        ]
        if missing:
            what = f"does not have disk {', '.join(missing)} as it was backed up"
            raise ConfigurationError(where, f"the configuration of the VM {what}; {_LEAVE_OUT}")

    def complete(
        self, files: Sequence[tuple[str, str]], isos: Collection[str], *, connect: bool, keep_macs: bool
    ) -> VmMade:
        """Make the VM of the planned VM, off.

        Args:
            files: slot and new path of each restored disk.
            isos: files for DVD drives that the host has.
            connect: connect adapters to the switches that the definition names.
            keep_macs: keep addresses of adapters.

        Raises:
            OperationFailed: the host refuses.
        """
        assert self._made is not None
        old = {disk.slot: disk.path for disk in self.point.disks}
        plan = planned_vm(
            self.mark,
            self._made.notes,
            [MovedDisk(old[slot], path) for slot, path in files],
            isos=isos,
            adapters=connected_adapters(self.point.manifest.definition) if connect else (),
            keep_macs=keep_macs,
        )
        return self.host.restoring.complete_planned_vm(self._made.vm_id, plan)

    def remove_files(self) -> str | None:
        """Remove the files that the planned VM was made of; why they are still there, or None."""
        try:
            self.host.restoring.remove_files(self.paths, [self.folder])
        except HvpsError as err:
            return f"{self.folder} is still there: {err}"
        return None

    def remove_planned(self, intent: RestoreIntent) -> tuple[str, ...]:
        """Remove the planned VM, if it is there; ids of those that may be it, but have no mark.

        Raises:
            HostError: it cannot be removed.
        """
        remove_planned(self.host, self.mark)
        there = self.host.restoring.planned_vms()
        return tuple(str(one.vm_id) for one in unclear_planned(there, self.mark, intent))

    def _write(self, file: FileRef, path: str, cancel: Cancellation) -> None:
        restoring = self.host.restoring
        try:
            restoring.new_file(path, file.size_bytes)
        except OperationFailed as err:
            if err.error_id == "Hvps.FileExists":
                raise TargetExists(f"{self.host.name}:{path}") from err
            raise
        self.written.append(path)
        if file.size_bytes:
            send = HostSend(
                host=self.host,
                path=path,
                open_writer=restoring.open_writer,
                piece_bytes=PIECE_BYTES,
                cancel=cancel,
                meter=Meter(lambda progress: None, file.name, "restore", file.size_bytes),
            )
            content = _Stored(self.repository.image_of(file.tree))
            send.send(content, [Extent(0, file.size_bytes)])
        restoring.close_file(path)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored file, for one thread."""

    image: DiskImage

    @property
    def size_bytes(self) -> int:
        """Size of the file."""
        return self.image.size_bytes

    def pread(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, all within it.

        Raises:
            Damaged: some of them cannot be read.
        """
        content, done = bytearray(length), 0
        self.image.seek(offset)
        while done < length:
            done += self.image.readinto(memoryview(content)[done:])
        return bytes(content)


def stored_files(point: Point) -> tuple[FileRef, ...]:
    """The configuration files in a point."""
    return tuple(file for file in point.manifest.files if _extension(file) in (_CONFIG, *_STATES))


def _extension(file: FileRef) -> str:
    return ntpath.splitext(file.name)[1].lower()
