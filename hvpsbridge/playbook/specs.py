"""A playbook as frozen values. Each key is declared once here: type, default, meaning.

These are plain dataclasses; pydantic reads their annotations to check a file, to write the JSON Schema
and, through a test, to hold ``docs/playbook.md``. Field order is the order of that page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema

from hvpsbridge.playbook.types import (
    KIND,
    Duration,
    FilePath,
    Flag,
    Fraction,
    Scalar,
    Size,
    Target,
    Text,
    Whole,
)
from hvpsbridge.tasks.policy import OnUnexpectedFull, ProofPolicy, Wish
from hvpsbridge.units import GIB, KIB, MIB

_Value = TypeVar("_Value")

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=False)

# More hosts at a time than this needs several hvps, each with its own part of the hosts.
MAX_FORKS = 64
# Pipelines share one process on the host; past this they only wait for its serializer.
MAX_READERS = 8
# What the reader on the host takes, and what keeps its memory and ours within bounds.
MIN_BLOCK_BYTES, MAX_BLOCK_BYTES = 64 * KIB, 4 * MIB
MIN_WINDOW_BYTES, MAX_WINDOW_BYTES = 1 * MIB, 16 * MIB


class Authentication(StrEnum):
    """How a user proves itself to WinRM."""

    BASIC = "basic"
    NTLM = "ntlm"
    NEGOTIATE = "negotiate"
    KERBEROS = "kerberos"


class VmStateWord(StrEnum):
    """States of a VM that a playbook can choose by."""

    RUNNING = "running"
    OFF = "off"
    SAVED = "saved"
    PAUSED = "paused"


class VerifyLevel(StrEnum):
    """``written``: every object is there with its size; ``hashed``: every chunk is read and hashed."""

    WRITTEN = "written"
    HASHED = "hashed"


class Points(StrEnum):
    """Which points of a VM a task looks at."""

    LATEST = "latest"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is. Exactly one key; the value itself never stands in a file."""

    __pydantic_config__ = _STRICT

    file: Annotated[
        FilePath | None, Field(description="file whose first line it is; readable by its owner only")
    ] = None
    command: Annotated[
        tuple[Text, ...] | None,
        Field(description="program and arguments, no shell; the first line printed", min_length=1),
    ] = None
    env: Annotated[Text | None, Field(description="environment variable")] = None
    fd: Annotated[Whole | None, Field(description="open file descriptor, read to its end", ge=0)] = None
    prompt: Annotated[Text | None, Field(description="question asked on the terminal")] = None

    def __post_init__(self) -> None:
        given = [name for name in SECRET_KINDS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(SECRET_KINDS)} is wanted, there are {len(given)}")


SECRET_KINDS = ("file", "command", "env", "fd", "prompt")


def _reference_only(value: object) -> object:
    if isinstance(value, str | int | float):
        raise ValueError("a secret is never written here; refer to it by one of " + ", ".join(SECRET_KINDS))
    return value


SecretReference = Annotated[SecretRef, BeforeValidator(_reference_only)]


@dataclass(frozen=True, slots=True)
class HostSpec:
    """How to reach a Hyper-V host."""

    __pydantic_config__ = _STRICT

    address: Annotated[
        Text, Field(description="URL of the WinRM listener, or a bare name for https on port 5986")
    ]
    user: Annotated[Text | None, Field(description="account, an administrator of the host")] = None
    auth: Annotated[Authentication, Field(description="how the user proves itself")] = (
        Authentication.NEGOTIATE
    )
    password: Annotated[SecretReference | None, Field(description="where the password is")] = None
    ca: Annotated[FilePath | None, Field(description="CA certificates that sign the host's, PEM")] = None
    operation_timeout: Annotated[
        Duration, Field(description="how long the host may hold one reply", gt=0)
    ] = 20.0
    read_timeout: Annotated[
        Duration, Field(description="how long to wait for a reply; more than operation_timeout", gt=0)
    ] = 30.0
    connect_timeout: Annotated[Duration, Field(description="how long to wait for a connection", gt=0)] = 10.0

    def __post_init__(self) -> None:
        if self.read_timeout <= self.operation_timeout:
            raise ValueError("read_timeout must be more than operation_timeout")


@dataclass(frozen=True, slots=True)
class RepositorySpec:
    """Where recovery points are kept."""

    __pydantic_config__ = _STRICT

    url: Annotated[Text, Field(description="path, file://, s3:// or sftp:// URL")]
    key: Annotated[SecretReference | None, Field(description="where the key is, for a sealed one")] = None
    cache: Annotated[FilePath | None, Field(description="folder of the local cache of its index")] = None


@dataclass(frozen=True, slots=True)
class VmSelection:
    """Which VMs of a host: names or ids by shell pattern, without regard to case."""

    __pydantic_config__ = _STRICT

    include: Annotated[tuple[Text, ...], Field(description="patterns of names, or ids", min_length=1)] = (
        "*",
    )
    exclude: Annotated[tuple[Text, ...], Field(description="patterns of names, or ids")] = ()
    state: Annotated[tuple[VmStateWord, ...], Field(description="states to choose; all when empty")] = ()


@dataclass(frozen=True, slots=True)
class BackupLimits:
    """When a backup stops and undoes itself."""

    __pydantic_config__ = _STRICT

    checkpoint_age: Annotated[Duration, Field(description="how old the checkpoint may become", gt=0)] = (
        12 * 3600.0
    )
    free_space_floor: Annotated[Size, Field(description="free space each volume of the VM must keep")] = (
        10 * GIB
    )


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

    __pydantic_config__ = _STRICT

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

    __pydantic_config__ = _STRICT

    rate: Annotated[Size | None, Field(description="bytes a second over the network, all readers", ge=1)] = (
        None
    )
    readers: Annotated[Whole | None, Field(description="readers at work at a time", ge=1)] = None
    readers_per_host: Annotated[Whole | None, Field(description="of them on one host", ge=1)] = None
    readers_per_volume: Annotated[Whole | None, Field(description="of them on one volume", ge=1)] = None


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """Task ``backup``: one recovery point of each chosen VM."""

    __pydantic_config__ = _STRICT

    consistency: Annotated[Wish, Field(description="what the checkpoint shall be worth")] = (
        Wish.APPLICATION_OR_CRASH
    )
    on_unexpected_full: Annotated[
        OnUnexpectedFull, Field(description="when a disk with a base must be read or compared whole")
    ] = OnUnexpectedFull.WARN
    proof: Annotated[
        ProofPolicy, Field(description="when a point is proved equal to the frozen disk first")
    ] = ProofPolicy.AUTO
    limits: Annotated[BackupLimits, Field(description="when it stops and undoes itself")] = field(
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

    __pydantic_config__ = _STRICT

    level: Annotated[VerifyLevel, Field(description="how deep")] = VerifyLevel.HASHED
    points: Annotated[Points, Field(description="which points")] = Points.LATEST
    subset: Annotated[
        Fraction | None, Field(description="part of the points, another one each day, as 1/14")
    ] = None


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Task ``restore``: disks of a point of each chosen VM are written out here."""

    __pydantic_config__ = _STRICT

    to: Annotated[
        Target,
        Field(description="raw:FOLDER; {{ vm }}, {{ vm_id }}, {{ host }} and {{ run_id }} may stand in it"),
    ]
    point: Annotated[Text, Field(description="latest, latest~1, a time or a short id")] = "latest"
    disk: Annotated[Whole | None, Field(description="one disk by its number; all without it", ge=0)] = None
    overwrite: Annotated[Flag, Field(description="whether files there may be replaced")] = False


TASK_KINDS = ("backup", "verify", "restore")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One thing to do, in order, for each VM of a play. Exactly one of backup, verify and restore."""

    __pydantic_config__ = _STRICT

    name: Annotated[Text | None, Field(description="what reports call it")] = None
    tags: Annotated[tuple[Text, ...], Field(description="words for --tags, beside the play's")] = ()
    backup: Annotated[BackupOptions | None, Field(description="make a recovery point")] = None
    verify: Annotated[VerifyOptions | None, Field(description="look at points in the repository")] = None
    restore: Annotated[RestoreOptions | None, Field(description="write disks of a point")] = None

    def __post_init__(self) -> None:
        given = [kind for kind in TASK_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of {', '.join(TASK_KINDS)} is wanted, there are {len(given)}")

    @property
    def kind(self) -> str:
        """``backup``, ``verify`` or ``restore``."""
        return next(kind for kind in TASK_KINDS if getattr(self, kind) is not None)

    @property
    def options(self) -> BackupOptions | VerifyOptions | RestoreOptions:
        """What stands under that word."""
        options: BackupOptions | VerifyOptions | RestoreOptions = getattr(self, self.kind)
        return options

    @property
    def title(self) -> str:
        """Its name, else its kind."""
        return self.name or self.kind


def _options_may_be_left_out(value: object) -> object:
    """``- backup`` and ``- backup:`` mean that task with its defaults."""
    if isinstance(value, str) and value in TASK_KINDS:
        return {value: {}}
    if isinstance(value, dict):
        return {key: {} if key in TASK_KINDS and given is None else given for key, given in value.items()}
    return value


Task = Annotated[TaskSpec, BeforeValidator(_options_may_be_left_out)]


def _frozen(value: Mapping[str, _Value]) -> Mapping[str, _Value]:
    return MappingProxyType(dict(value))


Vars = Annotated[
    Mapping[str, Scalar],
    AfterValidator(_frozen),
    WithJsonSchema(
        {
            "type": "object",
            KIND: "names with values",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        }
    ),
]


def _no_vars() -> Mapping[str, Scalar]:
    return MappingProxyType({})


def _no_hosts() -> Mapping[str, HostSpec]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PlaySpec:
    """Tasks for chosen VMs of chosen hosts, into one repository."""

    __pydantic_config__ = _STRICT

    name: Annotated[Text, Field(description="what reports call it")]
    hosts: Annotated[
        tuple[Text, ...], Field(description="names or shell patterns of hosts of this file", min_length=1)
    ]
    repository: Annotated[Text, Field(description="name of a repository of this file")]
    tasks: Annotated[tuple[Task, ...], Field(description="what to do, in order", min_length=1)]
    vms: Annotated[VmSelection, Field(description="which VMs; all without it")] = field(
        default_factory=VmSelection
    )
    tags: Annotated[tuple[Text, ...], Field(description="words for --tags")] = ()
    vars: Annotated[Vars, Field(description="variables of this play")] = field(default_factory=_no_vars)


@dataclass(frozen=True, slots=True)
class PlaybookSpec:
    """A whole playbook."""

    __pydantic_config__ = _STRICT

    version: Annotated[Literal[1], Field(description="version of the playbook language")]
    name: Annotated[Text, Field(description="what reports call it")]
    hosts: Annotated[
        Mapping[str, HostSpec], Field(description="hosts by name", min_length=1), AfterValidator(_frozen)
    ]
    repositories: Annotated[
        Mapping[str, RepositorySpec],
        Field(description="repositories by name", min_length=1),
        AfterValidator(_frozen),
    ]
    plays: Annotated[tuple[PlaySpec, ...], Field(description="what to do, in order", min_length=1)]
    vars: Annotated[Vars, Field(description="variables of every play")] = field(default_factory=_no_vars)
    forks: Annotated[Whole, Field(description="VMs worked on at a time", ge=1, le=MAX_FORKS)] = 2
    limits: Annotated[RunLimits, Field(description="what all of it together may take")] = field(
        default_factory=RunLimits
    )


@dataclass(frozen=True, slots=True)
class SettingsSpec:
    """The configuration file: what command lines need not say again. Playbooks do not use it."""

    __pydantic_config__ = _STRICT

    repository: Annotated[
        RepositorySpec | None, Field(description="used when neither --repo nor HVPS_REPO names one")
    ] = None
    hosts: Annotated[
        Mapping[str, HostSpec], Field(description="hosts by name, for HOST"), AfterValidator(_frozen)
    ] = field(default_factory=_no_hosts)
    log_file: Annotated[FilePath | None, Field(description="used without --log-file")] = None
