"""Facts for pure tests: complete and harmless by default, changed by keyword."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    CheckpointPolicy,
    Consistency,
    ControllerType,
    DiskFormat,
    DiskInfo,
    DiskKind,
    DiskTracking,
    FrozenDisk,
    HostInfo,
    ReferencePointInfo,
    ReferencePointKind,
    ReplicationMode,
    VmInfo,
    VmState,
)
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.manifest import DiskStats, Manifest, ManifestDisk, Proof
from hvpsbridge.formats.node import TreeRoot
from hvpsbridge.formats.os_build import OsBuild
from hvpsbridge.tasks.planning.lineage import KnownPoint, Lineage
from hvpsbridge.units import GIB

NAMES = UUID("5f1f1e9e-0c3c-4ec0-8f5c-0b8c2f1f7c11")
VM_ID = uuid5(NAMES, "vm")
DISK_ID = uuid5(NAMES, "disk")
OTHER_ID = uuid5(NAMES, "other disk")
REPOSITORY_ID = uuid5(NAMES, "repository")
RUN_ID = uuid5(NAMES, "run")
SLOT = "scsi 0:0"
CHAIN = ("C:\\VMs\\web\\web.vhdx",)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BUILD = OsBuild(20348, 2700)


def host(**changes: object) -> HostInfo:
    facts: dict[str, object] = {
        "name": "HV01",
        "fqdn": "hv01.example.net",
        "machine_id": uuid5(NAMES, "machine"),
        "os_version": "10.0.20348",
        "os_build": BUILD.build,
        "os_revision": BUILD.revision,
        "powershell_version": "5.1.20348.1",
        "language_mode": "FullLanguage",
        "is_64bit": True,
        "is_administrator": True,
        "culture": "en-US",
        "hyperv_module_version": "2.0.0.0",
        "supported_vm_versions": ("10.0",),
        "secure_boot_templates": ("MicrosoftWindows",),
        "logical_processors": 16,
        "memory_bytes": 128 * GIB,
        "cluster": None,
        "time": NOON,
        "boot_time": NOON - timedelta(days=1),
        "process_id": 1234,
        "process_started": NOON,
    }
    return HostInfo(**{**facts, **changes})  # type: ignore[arg-type]


def vm(**changes: object) -> VmInfo:
    facts: dict[str, object] = {
        "vm_id": VM_ID,
        "name": "web",
        "state": VmState.RUNNING,
        "operational_status": (2,),
        "generation": 2,
        "version": "10.0",
        "checkpoint_policy": CheckpointPolicy.PRODUCTION,
        "automatic_checkpoints": False,
        "parent_checkpoint_id": None,
        "replication_mode": ReplicationMode.NONE,
        "is_clustered": False,
        "shielded": False,
        "tpm_enabled": False,
        "merge_enabled": True,
        "commit_fork_events": 0,
        "last_commit_fork": None,
        "configuration_path": "C:\\VMs\\web",
        "checkpoint_path": "C:\\VMs\\web",
        "uptime_seconds": 3600,
        "processor_count": 2,
        "memory_bytes": 4 * GIB,
        "settings_error": None,
    }
    return VmInfo(**{**facts, **changes})  # type: ignore[arg-type]


def drive(**changes: object) -> DiskInfo:
    facts: dict[str, object] = {
        "vm_id": VM_ID,
        "instance_id": "Microsoft:web\\0\\0",
        "controller_type": ControllerType.SCSI,
        "controller_number": 0,
        "controller_location": 0,
        "path": CHAIN[0],
        "chain": CHAIN,
        "pass_through": False,
        "shared": False,
        "format": DiskFormat.VHDX,
        "kind": DiskKind.DYNAMIC,
        "size_bytes": 1 * GIB,
        "file_bytes": 1 * GIB,
        "logical_sector_bytes": 512,
        "physical_sector_bytes": 4096,
        "block_bytes": 0,
        "disk_id": DISK_ID,
        "error": None,
    }
    return DiskInfo(**{**facts, **changes})  # type: ignore[arg-type]


def frozen(**changes: object) -> FrozenDisk:
    facts: dict[str, object] = {
        "vm_id": VM_ID,
        "checkpoint_id": uuid5(NAMES, "checkpoint"),
        "controller_type": ControllerType.SCSI,
        "controller_number": 0,
        "controller_location": 0,
        "path": CHAIN[0],
        "chain": CHAIN,
        "size_bytes": 1 * GIB,
        "logical_sector_bytes": 512,
        "disk_id": DISK_ID,
        "tracking_enabled": True,
        "newer_changes": False,
        "rct_id": "rctX:2",
        "tracking_code": 0,
    }
    return FrozenDisk(**{**facts, **changes})  # type: ignore[arg-type]


def tracking(**changes: object) -> DiskTracking:
    facts: dict[str, object] = {
        "size_bytes": 1 * GIB,
        "logical_sector_bytes": 512,
        "tracking_enabled": True,
        "newer_changes": False,
        "rct_id": "rctX:2",
        "tracking_code": 0,
    }
    return DiskTracking(**{**facts, **changes})  # type: ignore[arg-type]


def disk(**changes: object) -> ManifestDisk:
    facts: dict[str, object] = {
        "slot": SLOT,
        "disk_id": DISK_ID,
        "size_bytes": 1 * GIB,
        "sector_bytes": 512,
        "path": CHAIN[0],
        "chain": CHAIN,
        "tree": TreeRoot(bytes(32), 1 * GIB),
        "rct_id": "rctX:1",
        "mode": "full",
        "reason": "first_backup",
        "stats": DiskStats(),
    }
    return ManifestDisk(**{**facts, **changes})  # type: ignore[arg-type]


def manifest(*disks: ManifestDisk, age: int = 0, **changes: object) -> Manifest:
    """A point made ``age`` hours before noon."""
    facts: dict[str, object] = {
        "point_id": uuid5(NAMES, f"point {age}"),
        "vm_id": VM_ID,
        "vm_name": "web",
        "host": "hv01",
        "run_id": RUN_ID,
        "created": NOON - timedelta(hours=age),
        "hvps_version": "0",
        "contract": 1,
        "consistency_asked": "crash",
        "consistency": Consistency.CRASH,
        "checkpoint_id": uuid5(NAMES, f"checkpoint {age}"),
        "disks": disks or (disk(),),
        "os_build": BUILD.build,
        "os_revision": BUILD.revision,
    }
    return Manifest(**{**facts, **changes})  # type: ignore[arg-type]


def ids(point: Manifest, reference_point: str = "rp-1", **changes: object) -> PointIds:
    facts: dict[str, object] = {
        "manifest_digest": point.digest(),
        "vm_id": point.vm_id,
        "reference_point": reference_point,
        "disks": tuple(DiskIds(one.slot, one.disk_id, one.rct_id or "") for one in point.disks if one.rct_id),
    }
    return PointIds(**{**facts, **changes})  # type: ignore[arg-type]


def known(point: Manifest, reference_point: str = "rp-1") -> KnownPoint:
    return KnownPoint(point, ids(point, reference_point))


def lineage(*points: KnownPoint) -> Lineage:
    """A lineage of the points given, oldest first; of one ordinary point without any."""
    return Lineage(points or (known(manifest()),))


def proved(size_bytes: int = 1 * GIB) -> Proof:
    return Proof("equal", NOON, size_bytes, RUN_ID)


def checkpoint(**changes: object) -> CheckpointInfo:
    facts: dict[str, object] = {
        "vm_id": VM_ID,
        "checkpoint_id": uuid5(NAMES, "stranger"),
        "name": "web - (01.03.2026)",
        "kind": CheckpointKind.RECOVERY,
        "created": NOON,
        "parent_id": None,
        "disk_paths": CHAIN,
    }
    return CheckpointInfo(**{**facts, **changes})  # type: ignore[arg-type]


def reference_point(**changes: object) -> ReferencePointInfo:
    facts: dict[str, object] = {
        "vm_id": VM_ID,
        "instance_id": "rp-1",
        "kind": ReferencePointKind.RCT,
        "consistency": Consistency.CRASH,
        "disk_instance_ids": ("Microsoft:web\\0\\0",),
        "rct_ids": ("rctX:1",),
    }
    return ReferencePointInfo(**{**facts, **changes})  # type: ignore[arg-type]


def entry(kind: LedgerKind, **changes: object) -> LedgerEntry:
    facts: dict[str, object] = {"kind": kind, "run_id": RUN_ID, "vm_id": VM_ID, "host": "hv01", "at": NOON}
    return LedgerEntry(**{**facts, **changes})  # type: ignore[arg-type]
