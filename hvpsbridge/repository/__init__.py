"""Deduplicating repositories: stores, packs, chunk index, recovery points, leases, verification."""

from hvpsbridge.repository.check.rebuild import RebuildReport
from hvpsbridge.repository.check.repair import RepairReport
from hvpsbridge.repository.check.verify import Level, TouchedPoint, VerifyProblem, VerifyReport
from hvpsbridge.repository.copying import CopyReport, copy_points
from hvpsbridge.repository.disk import DiskWriter, WriterStats
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.key_export import ExportedKey
from hvpsbridge.repository.keys import KeyRing, SlotInfo
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.ledger import Ledger
from hvpsbridge.repository.opening import (
    DEFAULT_CHUNK_BYTES,
    create_repository,
    open_repository,
    repository_around,
)
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.probe import Holds, ProbeReport, ProbeResult, probe
from hvpsbridge.repository.repository import Repository
from hvpsbridge.repository.writer import Writer

__all__ = [
    "DEFAULT_CHUNK_BYTES",
    "CopyReport",
    "DiskImage",
    "DiskWriter",
    "ExportedKey",
    "Holds",
    "KeyRing",
    "Lease",
    "Ledger",
    "Level",
    "Point",
    "ProbeReport",
    "ProbeResult",
    "RebuildReport",
    "RepairReport",
    "Repository",
    "SlotInfo",
    "TouchedPoint",
    "VerifyProblem",
    "VerifyReport",
    "Writer",
    "WriterStats",
    "copy_points",
    "create_repository",
    "current_holder",
    "open_repository",
    "probe",
    "repository_around",
]
