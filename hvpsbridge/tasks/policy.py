"""What a user may decide about tasks, as values. The words equal those of a playbook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hvpsbridge.receiver.settings import RetryLimits
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.transfer.tuning import TuningWish
from hvpsbridge.units import GIB


class ConsistencyPolicy(StrEnum):
    """What a checkpoint shall be worth; the last falls back to crash consistency and records it."""

    APPLICATION = "application"
    CRASH = "crash"
    APPLICATION_OR_CRASH = "application_or_crash"


class OnUnexpectedFull(StrEnum):
    """What to do when a disk that has a base must be read or compared whole."""

    ACCEPT = "accept"
    WARN = "warn"
    STOP = "stop"


class ProofPolicy(StrEnum):
    """When a point is proved equal to the frozen disk before it is committed.

    ``auto``: the first two increments of a disk on an OS build whole, then a rotating sample.
    """

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Limits:
    """When a backup stops and undoes itself, and how long it waits.

    Attributes:
        checkpoint_age_seconds: how old the checkpoint may become.
        free_space_floor_bytes: free space each volume of the VM must keep.
        watch_seconds: how often both are looked at.
        job_seconds: longest WMI job.
        gate_seconds: how long to wait for another product's recovery checkpoint before exit 75.
        merge_seconds: how long to wait until our child is on no chain.
        held_merge_seconds: how long to wait for somebody's merge that failed, maybe because a reader of ours
            held its files (event 19100): the host tries again, how soon is not documented.
        undo_seconds: the undo's own deadline.
        appear_seconds: how late a checkpoint may show whose making was not seen to end.
        poll_seconds: pause between two looks at a host that is being waited for.
    """

    checkpoint_age_seconds: float = 12 * 3600.0
    free_space_floor_bytes: int = 10 * GIB
    watch_seconds: float = 30.0
    job_seconds: int = 1800
    gate_seconds: float = 900.0
    merge_seconds: float = 1800.0
    held_merge_seconds: float = 60.0
    undo_seconds: float = 600.0
    appear_seconds: float = 15.0
    poll_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class BackupPolicy:
    """Options of the task ``backup``.

    Attributes:
        force_compare: compare every disk, whatever tracking says.
        exclude_disks: patterns of disks to leave out: where one hangs (``scsi 0:1``), or a file of it.
        tuning: how disks are read, where it is not to be measured.
    """

    consistency: ConsistencyPolicy = ConsistencyPolicy.APPLICATION_OR_CRASH
    on_unexpected_full: OnUnexpectedFull = OnUnexpectedFull.WARN
    proof: ProofPolicy = ProofPolicy.AUTO
    limits: Limits = field(default_factory=Limits)
    retry_limits: RetryLimits = field(default_factory=RetryLimits)
    force_compare: bool = False
    tuning: TuningWish = field(default_factory=TuningWish)
    exclude_disks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyPolicy:
    """Options of the task ``verify``.

    Attributes:
        level: ``written`` or ``hashed``.
        every_point: all points of the VM instead of the latest.
        subset: numerator and denominator of the part of the points looked at; another one each day.
    """

    level: str = "hashed"
    every_point: bool = False
    subset: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class RestorePolicy:
    """Options of the task ``restore``.

    Attributes:
        folder: where the disks' files of a VM go.
        point: latest, latest~1, a time or a short id.
        disk: number of one disk in the point's order; all without it.
    """

    folder: Callable[[VmRef], Path]
    point: str = "latest"
    disk: int | None = None
    overwrite: bool = False
