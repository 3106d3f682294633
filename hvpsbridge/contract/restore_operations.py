"""Operations that only restores need; accounts for backups get no right to them."""

from __future__ import annotations

from hvpsbridge.contract import restoring, results
from hvpsbridge.contract.operation import Effect, Operation, Parameter
from hvpsbridge.contract.parameters import CHECKPOINT, DISK_ERRORS, JOB_ERRORS, PATH, VM

_FILE_ERRORS = ("Hvps.FileNotFound", "Hvps.DiskBusy", "Hvps.WriteFailed", "Hvps.NoSpace")

_PLANNED = Parameter("PlannedId", "guid", "id of the planned VM")

RESTORING: tuple[Operation, ...] = (
    Operation(
        "Get-HvpsFolder",
        (
            Parameter("Path", "string", "folder; the host's folder of VMs without it", required=False),
            Parameter("Files", "string[]", "files and folders to look for", required=False),
        ),
        restoring.FolderInfo,
        Effect.READS,
        120,
        _FILE_ERRORS,
        restores=True,
    ),
    Operation("Get-HvpsSwitch", (), restoring.SwitchInfo, Effect.READS, 60, many=True, restores=True),
    Operation(
        "New-HvpsFile",
        (
            Parameter("Path", "string", "file on the host; one that exists is left alone"),
            Parameter("SizeBytes", "uint64", "size of the file, bytes"),
        ),
        restoring.FileMade,
        Effect.CREATES,
        300,
        ("Hvps.BadRequest", "Hvps.FileExists", "Hvps.FormatUnsupported", *_FILE_ERRORS),
        restores=True,
    ),
    Operation(
        "Write-HvpsFile",
        (PATH,),
        restoring.WrittenPart,
        Effect.CREATES,
        86400,
        ("Hvps.BadRequest", *_FILE_ERRORS),
        many=True,
        takes_input=True,
        restores=True,
    ),
    Operation(
        "Write-HvpsDisk",
        (PATH,),
        restoring.WrittenPart,
        Effect.CREATES,
        86400,
        ("Hvps.BadRequest", "Hvps.WriteFailed", "Hvps.NoSpace", *DISK_ERRORS),
        many=True,
        takes_input=True,
        restores=True,
    ),
    Operation(
        "Close-HvpsFile",
        (PATH,),
        restoring.FileClosed,
        Effect.REMOVES,
        600,
        _FILE_ERRORS,
        restores=True,
    ),
    Operation(
        "Move-HvpsFile",
        (PATH, Parameter("Destination", "string", "its new path on the same volume")),
        restoring.FileMoved,
        Effect.CREATES,
        120,
        ("Hvps.BadRequest", "Hvps.FileExists", *_FILE_ERRORS),
        restores=True,
    ),
    Operation(
        "Copy-HvpsFile",
        (
            PATH,
            Parameter("Destination", "string", "path of the copy"),
            Parameter(
                "Overwrite",
                "bool",
                "replace the content of the file there; without it, one that exists is left alone",
                required=False,
            ),
        ),
        restoring.FileCopied,
        Effect.CREATES,
        86400,
        ("Hvps.BadRequest", "Hvps.FileExists", *_FILE_ERRORS),
        restores=True,
    ),
    Operation(
        "Resize-HvpsDisk",
        (
            PATH,
            Parameter("SizeBytes", "uint64", "size of the disk in the file, bytes; it is never made smaller"),
        ),
        restoring.DiskEnlarged,
        # May be repeated: a disk that has the size is left alone.
        Effect.REMOVES,
        3600,
        ("Hvps.BadRequest", "Hvps.NoSpace", *DISK_ERRORS),
        restores=True,
    ),
    Operation(
        "Remove-HvpsFile",
        (
            Parameter("Files", "string[]", "files to remove", required=False),
            Parameter(
                "Folders",
                "string[]",
                "folders to remove if they are empty, the innermost first",
                required=False,
            ),
        ),
        restoring.FilesRemoved,
        Effect.REMOVES,
        300,
        ("Hvps.BadRequest", *_FILE_ERRORS),
        restores=True,
    ),
    Operation(
        "New-HvpsVm",
        (
            Parameter("Name", "string", "name of the VM"),
            Parameter("Folder", "string", "folder in which the folder of the VM is"),
            Parameter("Json", "string", "what to make, formats/vm_plan.py"),
        ),
        restoring.VmMade,
        Effect.CREATES,
        600,
        DISK_ERRORS,
        restores=True,
    ),
    Operation("Get-HvpsPlannedVm", (), restoring.PlannedVm, Effect.READS, 60, many=True, restores=True),
    Operation(
        "New-HvpsPlannedVm",
        (
            Parameter("Path", "string", "configuration file on the host (.vmcx)"),
            Parameter("Name", "string", "name of the VM"),
            Parameter("Folder", "string", "folder of the VM"),
            Parameter("Mark", "string", "its notes while it is made"),
        ),
        restoring.PlannedVmMade,
        Effect.CREATES,
        900,
        JOB_ERRORS,
        restores=True,
    ),
    Operation(
        "Complete-HvpsPlannedVm",
        (_PLANNED, Parameter("Json", "string", "what to change, formats/planned_vm.py")),
        restoring.VmMade,
        Effect.CREATES,
        1900,
        ("Hvps.VmNotFound", *JOB_ERRORS, *DISK_ERRORS),
        restores=True,
    ),
    Operation(
        "Remove-HvpsPlannedVm",
        (
            _PLANNED,
            Parameter("Name", "string", "its name; one of another name is left alone"),
            Parameter(
                "Mark",
                "string",
                "its notes; one with other notes is left alone. Without it, one that has notes",
                required=False,
            ),
        ),
        results.Removal,
        Effect.REMOVES,
        600,
        ("Hvps.BadRequest", *JOB_ERRORS),
        restores=True,
    ),
    Operation(
        "Remove-HvpsVm",
        (
            VM,
            Parameter("Folder", "string", "its folder; a VM that is elsewhere is left alone"),
            Parameter("Mark", "string", "its notes; a VM with other notes is left alone"),
            Parameter("TurnOff", "bool", "turn it off first if it runs", required=False),
        ),
        results.Removal,
        Effect.REMOVES,
        600,
        ("Hvps.BadRequest",),
        restores=True,
    ),
    Operation(
        "Start-HvpsVm",
        (VM,),
        restoring.VmStarted,
        Effect.CREATES,
        600,
        ("Hvps.VmNotFound", *DISK_ERRORS),
        restores=True,
    ),
    Operation(
        "Get-HvpsHeartbeat",
        (VM,),
        restoring.VmHeartbeat,
        Effect.READS,
        120,
        ("Hvps.VmNotFound",),
        restores=True,
    ),
    Operation(
        "Get-HvpsClusterRole",
        (VM,),
        restoring.ClusterRole,
        Effect.READS,
        120,
        restores=True,
    ),
    Operation(
        "Set-HvpsClusterRole",
        (
            VM,
            Parameter(
                "Online", "bool", "bring it online, which starts the VM; otherwise offline", required=False
            ),
            Parameter("Seconds", "int", "how long to wait, seconds; 120 without it", required=False),
        ),
        restoring.ClusterRole,
        # May be repeated: a resource that is there already is left alone.
        Effect.REMOVES,
        300,
        ("Hvps.JobFailed", "Hvps.JobTimedOut"),
        restores=True,
    ),
    Operation(
        "Remove-HvpsSavedState",
        (VM,),
        results.Removal,
        Effect.REMOVES,
        300,
        ("Hvps.VmNotFound",),
        restores=True,
    ),
    Operation(
        "Remove-HvpsSnapshot",
        (
            VM,
            CHECKPOINT,
            Parameter("Name", "string", "its name; a checkpoint of another name is left alone"),
        ),
        results.Removal,
        Effect.REMOVES,
        1900,
        ("Hvps.BadRequest", "Hvps.VmNotFound"),
        restores=True,
    ),
)
