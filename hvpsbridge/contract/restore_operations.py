"""Operations that only restores need; accounts for backups get no right to them."""

from __future__ import annotations

from hvpsbridge.contract import restoring, results
from hvpsbridge.contract.operation import Effect, Operation, Parameter
from hvpsbridge.contract.parameters import CHECKPOINT, DISK_ERRORS, PATH, VM

_FILE_ERRORS = ("Hvps.FileNotFound", "Hvps.DiskBusy", "Hvps.WriteFailed", "Hvps.NoSpace")

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
