"""JSON documents of ``hvps sim`` and ``hvps demo``; only this package may know the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from hvpsbridge.demo.guests import SkippedFileSystem
from hvpsbridge.demo.play import BackedUp, DiskProof
from hvpsbridge.report.documents import Document
from hvpsbridge.report.values import INLINE
from hvpsbridge.sim.control import SimulatedCheckpoint, SimulatedVm


@dataclass(frozen=True, slots=True)
class SimInfo(Document):
    """Where a simulated host listens.

    Attributes:
        engine: what runs the scripts.
        pid: process that serves the host.
        folder: its state folder.
    """

    url: str
    engine: str
    pid: int
    folder: str


@dataclass(frozen=True, slots=True)
class SimServed(Document):
    """Where a simulated host listens, and the user that can log in.

    Attributes:
        user: name of the user.
    """

    info: SimInfo = field(metadata=INLINE)
    user: str


@dataclass(frozen=True, slots=True)
class SimVmCreated(Document):
    """A VM that was created."""

    vm: str
    vm_id: UUID


@dataclass(frozen=True, slots=True)
class SimDiskImported(Document):
    """A disk that was added to a VM."""

    vm: str
    vm_id: UUID
    slot: str


@dataclass(frozen=True, slots=True)
class SimImageApplied(Document):
    """What a guest wrote.

    Attributes:
        written_bytes: how much of the image differed from the disk.
    """

    vm: str
    slot: str
    written_bytes: int


@dataclass(frozen=True, slots=True)
class SimVms(Document):
    """VMs of a simulated host."""

    vms: tuple[SimulatedVm, ...]


@dataclass(frozen=True, slots=True)
class SimCheckpointTaken(Document):
    """A checkpoint that was taken."""

    checkpoint_id: UUID


@dataclass(frozen=True, slots=True)
class SimCheckpoints(Document):
    """Checkpoints of a VM, oldest first."""

    checkpoints: tuple[SimulatedCheckpoint, ...]


@dataclass(frozen=True, slots=True)
class SimGoldenImage(Document):
    """Where the golden image of a disk is.

    Attributes:
        path: path of the raw image.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class SimFaultsKnown(Document):
    """Every fault that a simulated host can show.

    Attributes:
        known: what happens, by name of the fault.
    """

    known: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SimFaultsArmed(Document):
    """Faults still to come.

    Attributes:
        armed: how many times each will happen, by name of the fault.
    """

    armed: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SimKnobs(Document):
    """Knobs of a simulated host.

    Attributes:
        knobs: values by name.
    """

    knobs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPlayed(Document):
    """Result of the demo.

    Attributes:
        good: whether every disk of every point was restored as it was.
        engine: what ran the scripts of the simulated host.
        left_out: file systems that were left out because this machine cannot check them.
        backups: every disk in every run.
        proofs: every disk of every point, restored and checked.
    """

    good: bool
    engine: str
    seconds: float
    left_out: tuple[SkippedFileSystem, ...]
    backups: tuple[BackedUp, ...]
    proofs: tuple[DiskProof, ...]
