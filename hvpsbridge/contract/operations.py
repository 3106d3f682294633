"""All operations of the contract. Tests compare the scripts in ``ps_scripts/`` with this table."""

from __future__ import annotations

from hvpsbridge.contract import checks, readings, results
from hvpsbridge.contract.operation import Effect, Operation, Parameter
from hvpsbridge.contract.parameters import CHECKPOINT, DISK_ERRORS, JOB_ERRORS, PATH, VM
from hvpsbridge.contract.restore_operations import RESTORING

# Incremented whenever a parameter, a field or a meaning changes. It is in the first line of every rendered
# script and in every manifest.
CONTRACT = 1

_CHUNK = Parameter("ChunkBytes", "int", "chunk size of the repository's grid, bytes")
_OFFSET = Parameter("OffsetBytes", "uint64", "where to start, bytes from the disk's start")
_LENGTH = Parameter("LengthBytes", "uint64", "how much from there, bytes")


_TABLE: tuple[Operation, ...] = (
    Operation("Get-HvpsHost", (), results.HostInfo, Effect.READS, 60),
    Operation("Test-HvpsReader", (), readings.ReaderCheck, Effect.READS, 120),
    Operation("Get-HvpsAccess", (), checks.HostAccess, Effect.READS, 60),
    Operation("Test-HvpsDisk", (PATH,), checks.DiskProbe, Effect.READS, 120),
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
        (VM,),
        results.DiskInfo,
        Effect.READS,
        300,
        ("Hvps.VmNotFound",),
        many=True,
        seconds_each=10,
    ),
    Operation("Get-HvpsVolume", (VM,), results.VolumeInfo, Effect.READS, 60, ("Hvps.VmNotFound",), many=True),
    Operation(
        "Get-HvpsStorage", (VM,), checks.StorageInfo, Effect.READS, 60, ("Hvps.VmNotFound",), many=True
    ),
    Operation(
        "Get-HvpsEvent",
        (
            VM,
            Parameter("Seconds", "int", "age of the oldest entry"),
            Parameter("Disks", "string[]", "its disk files without drive and extension", required=False),
            Parameter("Most", "int", "maximum number of entries"),
        ),
        checks.EventInfo,
        Effect.READS,
        60,
        many=True,
    ),
    Operation("Get-HvpsVmDefinition", (VM,), results.VmDefinition, Effect.READS, 120, ("Hvps.VmNotFound",)),
    Operation(
        "Get-HvpsCheckpoint",
        (VM,),
        results.CheckpointInfo,
        Effect.READS,
        60,
        ("Hvps.VmNotFound",),
        many=True,
    ),
    Operation(
        "Get-HvpsReferencePoint",
        (VM,),
        results.ReferencePointInfo,
        Effect.READS,
        60,
        ("Hvps.VmNotFound",),
        many=True,
    ),
    Operation("Get-HvpsJob", (VM,), results.JobInfo, Effect.READS, 60, ("Hvps.VmNotFound",), many=True),
    Operation(
        "New-HvpsCheckpoint",
        (
            VM,
            Parameter("Name", "string", "name of the checkpoint"),
            Parameter("Consistency", "string", "application or crash"),
            Parameter("IgnoreDisks", "bool", "leave out disks that cannot be checkpointed"),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.CheckpointInfo,
        Effect.CREATES,
        1900,
        ("Hvps.VmNotFound", "Hvps.ConsistencyFailed", "Hvps.NoSpace", *JOB_ERRORS),
    ),
    Operation(
        "Get-HvpsFrozenDisk",
        (VM, CHECKPOINT),
        results.FrozenDisk,
        Effect.READS,
        300,
        ("Hvps.VmNotFound", "Hvps.CheckpointNotFound", *DISK_ERRORS),
        many=True,
    ),
    Operation("Get-HvpsDiskTracking", (PATH,), results.DiskTracking, Effect.READS, 300, DISK_ERRORS),
    Operation(
        "Get-HvpsDiskChange",
        (
            PATH,
            Parameter("RctId", "string", "id of the base; the changes after it are returned"),
            _OFFSET,
            _LENGTH,
        ),
        readings.ExtentPage,
        Effect.READS,
        600,
        ("Hvps.TrackingUnusable", *DISK_ERRORS),
        many=True,
    ),
    Operation(
        "Get-HvpsAllocation",
        (Parameter("Chain", "string[]", "frozen file and its parents, top first"),),
        readings.ExtentPage,
        Effect.READS,
        600,
        ("Hvps.FormatUnsupported", *DISK_ERRORS),
        many=True,
    ),
    Operation(
        "Get-HvpsDiskDigest",
        (PATH, _CHUNK, _OFFSET, _LENGTH),
        readings.DigestPage,
        Effect.READS,
        86400,
        DISK_ERRORS,
        many=True,
    ),
    Operation(
        "Read-HvpsExtent",
        (
            PATH,
            # A source has several pipelines, since each must end before it has received 50 MB.
            Parameter("FirstBlock", "int", "number of its first block; 0 without it", required=False),
        ),
        readings.BlockMessage,
        Effect.READS,
        86400,
        ("Hvps.BadRequest", "Hvps.ReadFailed", *DISK_ERRORS),
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
        (VM, CHECKPOINT),
        readings.FilePiece,
        Effect.READS,
        300,
        ("Hvps.VmNotFound", "Hvps.CheckpointNotFound", "Hvps.FileNotFound"),
        many=True,
    ),
    Operation(
        "ConvertTo-HvpsReferencePoint",
        (
            VM,
            CHECKPOINT,
            Parameter(
                "RctIds", "string[]", "ids that it must have, or it is destroyed at once", required=False
            ),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.ReferencePointInfo,
        Effect.CREATES,
        1900,
        ("Hvps.VmNotFound", "Hvps.CheckpointNotFound", "Hvps.LogonRightMissing", *JOB_ERRORS),
    ),
    Operation(
        "Remove-HvpsCheckpoint",
        (
            VM,
            CHECKPOINT,
            Parameter("Name", "string", "its name; a checkpoint of another name or kind is left alone"),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.Removal,
        Effect.REMOVES,
        1900,
        ("Hvps.BadRequest", *JOB_ERRORS),
    ),
    Operation(
        "Remove-HvpsReferencePoint",
        (
            VM,
            Parameter("InstanceId", "string", "InstanceID of the reference point"),
            Parameter("RctIds", "string[]", "ids that it must have, or it is left alone", required=False),
            Parameter("JobSeconds", "int", "how long to wait for the WMI job"),
        ),
        results.Removal,
        Effect.REMOVES,
        1900,
        ("Hvps.BadRequest", *JOB_ERRORS),
    ),
    *RESTORING,
    Operation("Get-HvpsMerge", (VM,), results.MergeState, Effect.READS, 120, ("Hvps.VmNotFound",)),
)

OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _TABLE}
