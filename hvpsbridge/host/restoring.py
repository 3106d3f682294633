"""What a host is asked when a VM is restored onto it, one short method each."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from hvpsbridge.contract.restoring import (
    ClusterRole,
    DiskEnlarged,
    FileClosed,
    FileCopied,
    FileMade,
    FileMoved,
    FilesRemoved,
    FolderInfo,
    PlannedVm,
    PlannedVmMade,
    SwitchInfo,
    VmHeartbeat,
    VmMade,
    VmStarted,
)
from hvpsbridge.contract.results import Removal
from hvpsbridge.host.runner import OperationRunner
from hvpsbridge.host.writer import FileWriter


class HostRestore:
    """Makes files and VMs on a host."""

    def __init__(self, runner: OperationRunner) -> None:
        self._runner = runner

    def folder(self, path: str | None = None, files: Iterable[str] = ()) -> FolderInfo:
        """A folder, and which of the files are there.

        Args:
            path: None for the host's folder of VMs.
            files: files and folders, with their paths.
        """
        return self._runner.one(FolderInfo, "Get-HvpsFolder", Path=path, Files=tuple(files) or None)

    def switches(self) -> tuple[SwitchInfo, ...]:
        """Virtual switches of the host."""
        return self._runner.many("Get-HvpsSwitch")

    def new_file(self, path: str, size_bytes: int) -> FileMade:
        """Make a file, and its folders. Never retried.

        Raises:
            OperationFailed: ``Hvps.FileExists``; ``Hvps.FormatUnsupported`` if it would be encrypted.
            HostDiskFull: it does not fit.
        """
        return self._runner.one(FileMade, "New-HvpsFile", Path=path, SizeBytes=size_bytes)

    def open_writer(self, path: str) -> FileWriter:
        """A pipeline that writes a file of :meth:`new_file`, in the current shell.

        Raises:
            SessionLost: the shell is gone.
        """
        return self._runner.open_writer(path)

    def open_disk_writer(self, path: str) -> FileWriter:
        """A pipeline that writes a disk through the driver, in the current shell.

        Raises:
            SessionLost: the shell is gone.
        """
        return self._runner.open_writer(path, disk=True)

    def renew(self) -> None:
        """Open a new shell if the current one is lost, and end the old one."""
        self._runner.renew()

    def close_file(self, path: str) -> FileClosed:
        """Write what Windows holds of the file to the disk, and close it or detach the disk in it."""
        return self._runner.one(FileClosed, "Close-HvpsFile", Path=path)

    def move_file(self, path: str, destination: str) -> FileMoved:
        """Rename a disk file, or one of its change tracking. Never retried.

        Raises:
            OperationFailed: ``Hvps.FileExists`` if something has the name.
        """
        return self._runner.one(FileMoved, "Move-HvpsFile", Path=path, Destination=destination)

    def copy_file(self, path: str, destination: str, *, overwrite: bool = False) -> FileCopied:
        """Copy a disk file. Never retried.

        Args:
            path: of a file that nothing has open to write.
            destination: its copy.
            overwrite: replace the content of a file, which keeps its access rights.

        Raises:
            OperationFailed: ``Hvps.FileExists`` if there is one, without ``overwrite``.
            HostDiskFull: it does not fit.
        """
        return self._runner.one(
            FileCopied, "Copy-HvpsFile", Path=path, Destination=destination, Overwrite=overwrite
        )

    def enlarge_disk(self, path: str, size_bytes: int) -> DiskEnlarged:
        """Enlarge the disk in a file that nothing has open; one of that size is left alone.

        Raises:
            OperationFailed: ``Hvps.BadRequest`` if it is larger.
            HostDiskFull: it does not fit.
            DiskBusy: something has it open.
        """
        return self._runner.one(DiskEnlarged, "Resize-HvpsDisk", Path=path, SizeBytes=size_bytes)

    def new_vm(self, name: str, folder: str, plan: str, *, existing: Iterable[UUID] = ()) -> VmMade:
        """Make a VM, off. Never retried.

        Args:
            name: of the VM.
            folder: in which the folder of the VM is.
            plan: of ``formats.vm_plan``.
            existing: ids of VMs that are there already; none of them is taken for the new one.

        Raises:
            DiskUnreadable: a file is not a virtual disk.
        """
        made: VmMade = self._runner.new(
            "New-HvpsVm", lambda vm: vm.vm_id, existing, Name=name, Folder=folder, Json=plan
        )
        return made

    def planned_vms(self) -> tuple[PlannedVm, ...]:
        """Planned VMs of the host, which are not among its VMs."""
        return self._runner.many("Get-HvpsPlannedVm")

    def new_planned_vm(
        self, path: str, name: str, folder: str, mark: str, *, existing: Iterable[UUID] = ()
    ) -> PlannedVmMade:
        """Make a planned VM of a configuration file, with a new id. Never retried.

        Args:
            path: of the configuration file on the host.
            name: of the VM.
            folder: of the VM.
            mark: its notes while it is made.
            existing: ids of planned VMs that are there already; none of them is taken for the new one.
        """
        made: PlannedVmMade = self._runner.new(
            "New-HvpsPlannedVm",
            lambda planned: planned.vm_id,
            existing,
            Path=path,
            Name=name,
            Folder=folder,
            Mark=mark,
        )
        return made

    def complete_planned_vm(self, planned_id: UUID, plan: str) -> VmMade:
        """Make a VM of a planned VM, off. Never retried.

        Args:
            planned_id: the planned VM.
            plan: of ``formats.planned_vm``.

        Raises:
            VmNotFound: the planned VM is gone.
        """
        return self._runner.one(VmMade, "Complete-HvpsPlannedVm", PlannedId=planned_id, Json=plan)

    def remove_planned_vm(self, planned_id: UUID, name: str, mark: str) -> Removal:
        """Remove a planned VM that a restore made.

        Args:
            planned_id: the planned VM.
            name: its name.
            mark: and its notes; the host removes no other one.

        Raises:
            OperationFailed: ``Hvps.BadRequest`` if it is another one.
        """
        return self._runner.one(
            Removal, "Remove-HvpsPlannedVm", PlannedId=planned_id, Name=name, Mark=mark or None
        )

    def heartbeat(self, vm_id: UUID) -> VmHeartbeat:
        """Whether a VM runs, and what the heartbeat of its guest says."""
        return self._runner.one(VmHeartbeat, "Get-HvpsHeartbeat", VmId=vm_id)

    def remove_vm(self, vm_id: UUID, folder: str, mark: str, *, turn_off: bool = False) -> Removal:
        """Remove a VM that a restore was making, but not its files.

        Args:
            vm_id: the VM.
            folder: its folder. The host removes no VM of another folder,
            mark: and none with other notes.
            turn_off: turn it off if it runs.

        Raises:
            OperationFailed: ``Hvps.BadRequest`` if it is another VM, or running.
        """
        return self._runner.one(
            Removal, "Remove-HvpsVm", VmId=vm_id, Folder=folder, Mark=mark, TurnOff=turn_off
        )

    def start_vm(self, vm_id: UUID) -> VmStarted:
        """Start a VM. Never retried.

        Raises:
            DiskBusy: something has one of its disks open.
            AccessDenied: the VM has no right to one of its disks.
        """
        return self._runner.one(VmStarted, "Start-HvpsVm", VmId=vm_id)

    def cluster_role(self, vm_id: UUID) -> ClusterRole:
        """The cluster resource that starts and stops a VM.

        Raises:
            HostError: the cluster cannot be asked, or does not have the VM.
        """
        return self._runner.one(ClusterRole, "Get-HvpsClusterRole", VmId=vm_id)

    def set_cluster_role(self, vm_id: UUID, *, online: bool, seconds: int = 120) -> ClusterRole:
        """Take that resource offline, or bring it online, which starts the VM; waits for it.

        Raises:
            OperationFailed: ``Hvps.JobFailed`` if the VM does not start, or the cluster starts it again at
                once; ``Hvps.JobTimedOut``.
        """
        return self._runner.one(
            ClusterRole, "Set-HvpsClusterRole", VmId=vm_id, Online=online, Seconds=seconds
        )

    def discard_saved_state(self, vm_id: UUID) -> Removal:
        """Discard the saved state of a VM, which is off afterwards."""
        return self._runner.one(Removal, "Remove-HvpsSavedState", VmId=vm_id)

    def remove_snapshot(self, vm_id: UUID, checkpoint_id: UUID, name: str) -> Removal:
        """Remove a checkpoint of any kind of a VM that is off; its merge continues in the background.

        Raises:
            OperationFailed: ``Hvps.BadRequest`` if it has another name, or the VM is not off.
        """
        return self._runner.one(
            Removal, "Remove-HvpsSnapshot", VmId=vm_id, CheckpointId=checkpoint_id, Name=name
        )

    def remove_files(self, files: Iterable[str] = (), folders: Iterable[str] = ()) -> FilesRemoved:
        """Remove files, and then folders that are empty, the innermost first."""
        return self._runner.one(
            FilesRemoved, "Remove-HvpsFile", Files=tuple(files) or None, Folders=tuple(folders) or None
        )
