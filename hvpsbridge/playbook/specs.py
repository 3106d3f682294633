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

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from hvpsbridge.playbook.places import HostSpec, RepositorySpec
from hvpsbridge.playbook.task_options import BackupOptions, RestoreOptions, RunLimits, VerifyOptions
from hvpsbridge.playbook.types import KIND, STRICT, FilePath, Scalar, Text, Whole

_Value = TypeVar("_Value")

# More hosts at a time than this needs several hvps, each with its own part of the hosts.
MAX_FORKS = 64


class VmStateWord(StrEnum):
    """States of a VM that a playbook can choose by."""

    RUNNING = "running"
    OFF = "off"
    SAVED = "saved"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class VmSelection:
    """Which VMs of a host: names or ids by shell pattern, without regard to case."""

    __pydantic_config__ = STRICT

    include: Annotated[tuple[Text, ...], Field(description="patterns of names, or ids", min_length=1)] = (
        "*",
    )
    exclude: Annotated[tuple[Text, ...], Field(description="patterns of names, or ids")] = ()
    state: Annotated[tuple[VmStateWord, ...], Field(description="states to choose; all when empty")] = ()


TASK_KINDS = ("backup", "verify", "restore")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One thing to do, in order, for each VM of a play. Exactly one of backup, verify and restore."""

    __pydantic_config__ = STRICT

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

    __pydantic_config__ = STRICT

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

    __pydantic_config__ = STRICT

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

    __pydantic_config__ = STRICT

    repository: Annotated[
        RepositorySpec | None, Field(description="used when neither --repo nor HVPS_REPO names one")
    ] = None
    hosts: Annotated[
        Mapping[str, HostSpec], Field(description="hosts by name, for HOST"), AfterValidator(_frozen)
    ] = field(default_factory=_no_hosts)
    log_file: Annotated[FilePath | None, Field(description="used without --log-file")] = None
