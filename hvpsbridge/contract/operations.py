"""All operations of the contract. Tests compare the scripts in ``ps_scripts/`` with this table."""

from __future__ import annotations

from hvpsbridge.contract import checks, readings, restoring, results
from hvpsbridge.contract.operation import Effect, Operation, Parameter

# Incremented whenever a parameter, a field or a meaning changes. It is in the first line of every rendered
# script and in every manifest.
CONTRACT = 1

_VM = Parameter("VmId", "guid", "id of the VM")
_CHECKPOINT = Parameter("CheckpointId", "guid", "id of a checkpoint of that VM")
_PATH = Parameter("Path", "string", "file on the host")
_CHUNK = Parameter("ChunkBytes", "int", "chunk size of the repository's grid, bytes")
_OFFSET = Parameter("OffsetBytes", "uint64", "where to start, bytes from the disk's start")
_LENGTH = Parameter("LengthBytes", "uint64", "how much from there, bytes")

_DISK_ERRORS = ("Hvps.FileNotFound", "Hvps.DiskBusy", "Hvps.DiskUnreadable", "Hvps.ChainBroken")
_FILE_ERRORS = ("Hvps.FileNotFound", "Hvps.DiskBusy", "Hvps.WriteFailed", "Hvps.NoSpace")
_JOB_ERRORS = (
    "Hvps.JobFailed",
    "Hvps.JobBusy",
    "Hvps.JobTimedOut",
    "Hvps.FileLocked",
    "Hvps.CommitForkFailed",
)

_TABLE: tuple[Operation, ...] = (
    Operation("Get-HvpsHost", (), results.HostInfo, Effect.READS, 60),
    Operation("Test-HvpsReader", (), readings.ReaderCheck, Effect.READS, 120),
    Operation("Get-HvpsAccess", (), checks.HostAccess, Effect.READS, 60),
    Operation("Test-HvpsDisk", (_PATH,), checks.DiskProbe, Effect.READS, 120),
    Operation(
        "Read-HvpsSample",
        (Parameter("LengthBytes", "int", "how much to send, bytes"),),
        readings.BlockMessage,
        Effect.READS,
        120,
        many=True,
    ),
    Operation(
        "Get-HvpsVm",
        (
            Parameter("VmId", "guid", "id of one VM; all VMs without it", required=False),
            Parameter("ReadEvents", "bool", "read the event log, too", required=False),
        ),
        results.VmInfo,
        Effect.READS,
        300,
        ("Hvps.VmNotFound",),
        many=True,
        # Some hosts have a thousand VMs.
        seconds_each=10,
    ),
    Operation(
        "Get-HvpsDisk",
        (_VM,),
        results.DiskInfo,
        Effect.READS,
        300,
        ("Hvps.VmNotFound",),
        many=True,
        seconds_each=10,
    ),
    Operation(
        "Get-HvpsVolume", (_VM,), results.VolumeInfo, Effect.READS, 60, ("Hvps.VmNotFound",), many=True
    ),
    Operation(
        "Get-HvpsStorage", (_VM,), checks.StorageInfo, Effect.READS, 60, ("Hvps.VmNotFound",), many=True
    ),
    Operation(
        "Get-HvpsEvent",
        (
            _VM,
            Parameter("Seconds", "int", "age of the oldest entry"),
            Parameter("Disks", "string[]", "its disk files without drive and extension", required=False),
            Parameter("Most", "int", "maximum number of entries"),
        ),
        checks.EventInfo,
        Effect.READS,
        60,
        many=True,
    ),
    Operation("Get-HvpsVmDefinition", (_VM,), results.VmDefinition, Effect.READS, 120, ("Hvps.VmNotFound",)),
    Operation(
        "Get-HvpsCheckpoint",
        (_VM,),
        results.CheckpointInfo,
        Effect.READS,
        60,
        ("Hvps.VmNotFound",),
        many=True,
    ),
    Operation(
        "Get-HvpsReferencePoint",
        (_VM,),
        results.ReferencePointInfo,
        Effect.READS,
        60,
        ("Hvps.VmNotFound",),
        many=True,
    ),
    Operation("Get-HvpsJob", (_VM,), results.JobInfo, Effect.READS, 60, ("Hvps.VmNotFound",), many=True),
    Operation(
        "New-HvpsCheckpoint",
        (
            _VM,
            Parameter("Name", "string", "name of the checkpoint"),
            Parameter("Consistency", "string", "application or crash"),
            Parameter("IgnoreDisks", "bool", "leave out disks that cannot be checkpointed"),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.CheckpointInfo,
        Effect.CREATES,
        1900,
        ("Hvps.VmNotFound", "Hvps.ConsistencyFailed", "Hvps.NoSpace", *_JOB_ERRORS),
    ),
    Operation(
        "Get-HvpsFrozenDisk",
        (_VM, _CHECKPOINT),
        results.FrozenDisk,
        Effect.READS,
        300,
        ("Hvps.VmNotFound", "Hvps.CheckpointNotFound", *_DISK_ERRORS),
        many=True,
    ),
    Operation("Get-HvpsDiskTracking", (_PATH,), results.DiskTracking, Effect.READS, 300, _DISK_ERRORS),
    Operation(
        "Get-HvpsDiskChange",
        (
            _PATH,
            Parameter("RctId", "string", "id of the base; the changes after it are returned"),
            _OFFSET,
            _LENGTH,
        ),
        readings.ExtentPage,
        Effect.READS,
        600,
        ("Hvps.TrackingUnusable", *_DISK_ERRORS),
        many=True,
    ),
    Operation(
        "Get-HvpsAllocation",
        (Parameter("Chain", "string[]", "frozen file and its parents, top first"),),
        readings.ExtentPage,
        Effect.READS,
        600,
        ("Hvps.FormatUnsupported", *_DISK_ERRORS),
        many=True,
    ),
    Operation(
        "Get-HvpsDiskDigest",
        (_PATH, _CHUNK, _OFFSET, _LENGTH),
        readings.DigestPage,
        Effect.READS,
        86400,
        _DISK_ERRORS,
        many=True,
    ),
    Operation(
        "Read-HvpsExtent",
        (
            _PATH,
            # A source has several pipelines, since each must end before it has received 50 MB.
            Parameter("FirstBlock", "int", "number of its first block; 0 without it", required=False),
        ),
        readings.BlockMessage,
        Effect.READS,
        86400,
        ("Hvps.BadRequest", "Hvps.ReadFailed", *_DISK_ERRORS),
        many=True,
        takes_input=True,
    ),
    Operation(
        "Close-HvpsReader",
        (Parameter("Path", "string", "disk to close; all without it", required=False),),
        readings.ReaderState,
        Effect.REMOVES,
        60,
    ),
    Operation(
        "Read-HvpsConfiguration",
        (_VM, _CHECKPOINT),
        readings.FilePiece,
        Effect.READS,
        300,
        ("Hvps.VmNotFound", "Hvps.CheckpointNotFound", "Hvps.FileNotFound"),
        many=True,
    ),
    Operation(
        "ConvertTo-HvpsReferencePoint",
        (
            _VM,
            _CHECKPOINT,
            Parameter(
                "RctIds", "string[]", "ids that it must have, or it is destroyed at once", required=False
            ),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.ReferencePointInfo,
        Effect.CREATES,
        1900,
        ("Hvps.VmNotFound", "Hvps.CheckpointNotFound", "Hvps.LogonRightMissing", *_JOB_ERRORS),
    ),
    Operation(
        "Remove-HvpsCheckpoint",
        (
            _VM,
            _CHECKPOINT,
            Parameter("Name", "string", "its name; a checkpoint of another name or kind is left alone"),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.Removal,
        Effect.REMOVES,
        1900,
        ("Hvps.BadRequest", *_JOB_ERRORS),
    ),
    Operation(
        "Remove-HvpsReferencePoint",
        (
            _VM,
            Parameter("InstanceId", "string", "InstanceID of the reference point"),
            Parameter("RctIds", "string[]", "ids that it must have, or it is left alone", required=False),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.Removal,
        Effect.REMOVES,
        1900,
        ("Hvps.BadRequest", *_JOB_ERRORS),
    ),
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
        (_PATH,),
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
        (_PATH,),
        restoring.WrittenPart,
        Effect.CREATES,
        86400,
        ("Hvps.BadRequest", "Hvps.WriteFailed", "Hvps.NoSpace", *_DISK_ERRORS),
        many=True,
        takes_input=True,
        restores=True,
    ),
    Operation(
        "Close-HvpsFile",
        (_PATH,),
        restoring.FileClosed,
        Effect.REMOVES,
        600,
        _FILE_ERRORS,
        restores=True,
    ),
    Operation(
        "Move-HvpsFile",
        (_PATH, Parameter("Destination", "string", "its new path on the same volume")),
        restoring.FileMoved,
        Effect.CREATES,
        120,
        ("Hvps.BadRequest", "Hvps.FileExists", *_FILE_ERRORS),
        restores=True,
    ),
    Operation(
        "Copy-HvpsFile",
        (
            _PATH,
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
        _DISK_ERRORS,
        restores=True,
    ),
    Operation(
        "Remove-HvpsVm",
        (
            _VM,
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
        (_VM,),
        restoring.VmStarted,
        Effect.CREATES,
        600,
        ("Hvps.VmNotFound", *_DISK_ERRORS),
        restores=True,
    ),
    Operation(
        "Get-HvpsHeartbeat",
        (_VM,),
        restoring.VmHeartbeat,
        Effect.READS,
        120,
        ("Hvps.VmNotFound",),
        restores=True,
    ),
    Operation(
        "Remove-HvpsSavedState",
        (_VM,),
        results.Removal,
        Effect.REMOVES,
        300,
        ("Hvps.VmNotFound",),
        restores=True,
    ),
    Operation(
        "Remove-HvpsSnapshot",
        (
            _VM,
            _CHECKPOINT,
            Parameter("Name", "string", "its name; a checkpoint of another name is left alone"),
        ),
        results.Removal,
        Effect.REMOVES,
        1900,
        ("Hvps.BadRequest", "Hvps.VmNotFound"),
        restores=True,
    ),
    Operation("Get-HvpsMerge", (_VM,), results.MergeState, Effect.READS, 120, ("Hvps.VmNotFound",)),
)

OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
