"""Deduplicating repositories: stores, packs, chunk index, recovery points, leases, verification."""

from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.lease import Lease, current_holder
from hvpsbridge.repository.ledger import Ledger
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.repository import (
    DEFAULT_CHUNK_BYTES,
    Repository,
    create_repository,
    open_repository,
)
from hvpsbridge.repository.verify import Level, Problem, TouchedPoint, VerifyReport
from hvpsbridge.repository.writer import DiskWriter, Writer, WriterStats

__all__ = [
    "DEFAULT_CHUNK_BYTES",
    "DiskImage",
    "DiskWriter",
    "Lease",
    "Ledger",
    "Level",
    "Point",
    "Problem",
    "Repository",
    "TouchedPoint",
    "VerifyReport",
    "Writer",
    "WriterStats",
    "create_repository",
    "current_holder",
    "open_repository",
]
