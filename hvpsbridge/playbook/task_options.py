"""Options of tasks, and what limits them, as frozen values of a playbook's keys.

See :mod:`~hvpsbridge.playbook.specs` for how such a declaration is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hvpsbridge.playbook.types import (
    STRICT,
    DiskPattern,
    Duration,
    Flag,
    Fraction,
    Size,
    Target,
    Text,
    Whole,
)
from hvpsbridge.tasks.policy import ConsistencyPolicy, OnUnexpectedFull, ProofPolicy
from hvpsbridge.tasks.transfer.shell_slots import SHELLS_PER_HOST
from hvpsbridge.units import GIB, KIB, MIB

# Pipelines share one process on the host; past this they only wait for its serializer.
MAX_READERS = 8
# What the reader on the host takes, and what keeps its memory and ours within bounds.
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 64 * KIB, 4 * MIB
MIN_WINDOW_BYTES, MAX_WINDOW_BYTES = 1 * MIB, 16 * MIB


class VerifyLevel(StrEnum):
    """``written``: every object is there with its size; ``hashed``: every chunk is read and hashed."""

    WRITTEN = "written"
    HASHED = "hashed"


class Points(StrEnum):
    """Which points of a VM a task looks at."""

    LATEST = "latest"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class BackupLimits:
    """When a backup stops and undoes itself, and how long it waits to begin."""

    __pydantic_config__ = STRICT

    checkpoint_age: Annotated[Duration, Field(description="how old the checkpoint may become", gt=0)] = (
        12 * 3600.0
    )
    free_space_floor: Annotated[Size, Field(description="free space each volume of the VM must keep")] = (
        10 * GIB
    )
    wait: Annotated[
        Duration,
        Field(description="how long what passes is waited for before the VM is skipped, exit 75", ge=0),
    ] = 900.0


@dataclass(frozen=True, slots=True)
class DiskSelection:
    """Which disks of each VM, by where they hang (`scsi 0:1`, `ide *`) or by the path of their file
    (`*\\scratch*.vhdx`): shell patterns without regard to case."""

    __pydantic_config__ = STRICT

    exclude: Annotated[
        tuple[DiskPattern, ...], Field(description="patterns of disks to leave out; points name them")
    ] = ()


class Compression(StrEnum):
    """Whether the host deflates blocks, where a sample of them pays, before it sends them."""

    AUTO = "auto"
    ALLOWED = "allowed"
    NONE = "none"

    @property
    def allowed(self) -> bool | None:
        """None when it is to be measured."""
        return None if self is Compression.AUTO else self is Compression.ALLOWED


@dataclass(frozen=True, slots=True)
class TuningOptions:
    """How disks are read. What is left out is measured with the first seconds of a read and remembered."""

    __pydantic_config__ = STRICT

    readers: Annotated[
        Whole | None, Field(description="reader pipelines of each disk", ge=1, le=MAX_READERS)
    ] = None
    compression: Annotated[Compression, Field(description="whether the host deflates what pays")] = (
        Compression.AUTO
    )
    block: Annotated[
        Size | None, Field(description="raw bytes of a block", ge=MIN_BLOCK_BYTES, le=MAX_BLOCK_BYTES)
    ] = None
    window: Annotated[
        Size | None,
        Field(
            description="raw bytes of a request; a reader has two of them asked for",
            ge=MIN_WINDOW_BYTES,
            le=MAX_WINDOW_BYTES,
        ),
    ] = None


AUTO = "auto"


def _auto_is_all_left_out(value: object) -> object:
    """``tuning: auto`` means that everything is measured."""
    return {} if value == AUTO else value


Tuning = Annotated[
    TuningOptions,
    BeforeValidator(_auto_is_all_left_out, json_schema_input_type=Literal["auto"] | TuningOptions),
]


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What a run may take of hosts and of the network. What is left out is not limited."""

    __pydantic_config__ = STRICT

    rate: Annotated[Size | None, Field(description="bytes a second over the network, all readers", ge=1)] = (
        None
    )
    readers: Annotated[Whole | None, Field(description="readers at work at a time", ge=1)] = None
    readers_per_host: Annotated[Whole | None, Field(description="of them on one host", ge=1)] = None
    readers_per_volume: Annotated[Whole | None, Field(description="of them on one volume", ge=1)] = None
    shells_per_host: Annotated[
        Whole,
        Field(description="shells for disks on one host, below the account's `MaxShellsPerUser`", ge=1),
    ] = SHELLS_PER_HOST


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """Task ``backup``: one recovery point of each chosen VM."""

    __pydantic_config__ = STRICT

    consistency: Annotated[ConsistencyPolicy, Field(description="what the checkpoint shall be worth")] = (
        ConsistencyPolicy.APPLICATION_OR_CRASH
    )
    on_unexpected_full: Annotated[
        OnUnexpectedFull, Field(description="when a disk with a base must be read or compared whole")
    ] = OnUnexpectedFull.WARN
    proof: Annotated[
        ProofPolicy, Field(description="when a point is proved equal to the frozen disk first")
    ] = ProofPolicy.AUTO
    disks: Annotated[DiskSelection, Field(description="which disks; all without it")] = field(
        default_factory=DiskSelection
    )
    limits: Annotated[BackupLimits, Field(description="when it stops and undoes itself, and waits")] = field(
        default_factory=BackupLimits
    )
    force_compare: Annotated[
        Flag, Field(description="compare every disk with its last point, whatever tracking says")
    ] = False
    tuning: Annotated[
        Tuning, Field(description="how disks are read; `auto` measures it and remembers it for each host")
    ] = field(default_factory=TuningOptions)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Task ``verify``: points of the chosen VMs are looked at in the repository."""

    __pydantic_config__ = STRICT

    level: Annotated[VerifyLevel, Field(description="how deep")] = VerifyLevel.HASHED
    points: Annotated[Points, Field(description="which points")] = Points.LATEST
    subset: Annotated[
        Fraction | None, Field(description="part of the points, another one each day, as 1/14")
    ] = None


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Task ``restore``: disks of a point of each chosen VM are written out here."""

    __pydantic_config__ = STRICT

    to: Annotated[
        Target,
        Field(description="raw:FOLDER; {{ vm }}, {{ vm_id }}, {{ host }} and {{ run_id }} may stand in it"),
    ]
    point: Annotated[Text, Field(description="latest, latest~1, a time or a short id")] = "latest"
    disk: Annotated[Whole | None, Field(description="one disk by its number; all without it", ge=0)] = None
    overwrite: Annotated[Flag, Field(description="whether files there may be replaced")] = False
