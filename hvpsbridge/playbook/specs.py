"""A playbook and the configuration file as frozen values.

Field order is the order of the tables in ``docs/playbook.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, WithJsonSchema

from hvpsbridge.options import Option
from hvpsbridge.playbook.places import HostSpec, RepositorySpec
from hvpsbridge.playbook.task_spec import TaskSpec
from hvpsbridge.playbook.types import FORM, Scalar
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.policy import RunLimits

# More VMs at a time need several hvps, each with its own part of the hosts.
MAX_FORKS = 64


def _frozen(value: Mapping[str, Scalar]) -> Mapping[str, Scalar]:
    return MappingProxyType(dict(value))


Vars = Annotated[
    Mapping[str, Scalar],
    AfterValidator(_frozen),
    WithJsonSchema(
        {
            "type": "object",
            FORM: "names with values",
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
        }
    ),
]


def _no_vars() -> Mapping[str, Scalar]:
    return MappingProxyType({})


def _no_hosts() -> Mapping[str, HostSpec]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaySpec:
    """Tasks for selected VMs of selected hosts, into one repository."""

    name: Annotated[str, Option("name of the play")]
    hosts: Annotated[tuple[str, ...], Option("names or shell patterns of hosts of this file", min_items=1)]
    repository: Annotated[str, Option("name of a repository of this file")]
    tasks: Annotated[tuple[TaskSpec, ...], Option("what to do, in order", min_items=1)]
    vms: Annotated[VmSelection, Option("which VMs; all by default")] = field(default_factory=VmSelection)
    tags: Annotated[tuple[str, ...], Option("words for --tags")] = ()
    vars: Annotated[Vars, Option("variables of this play")] = field(default_factory=_no_vars)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaybookSpec:
    """A whole playbook."""

    version: Annotated[Literal[1], Option("version of the playbook language")]
    name: Annotated[str, Option("name of the playbook, for reports")]
    hosts: Annotated[Mapping[str, HostSpec], Option("hosts by name", min_items=1)]
    repositories: Annotated[Mapping[str, RepositorySpec], Option("repositories by name", min_items=1)]
    plays: Annotated[tuple[PlaySpec, ...], Option("what to do, in order", min_items=1)]
    vars: Annotated[Vars, Option("variables of every play")] = field(default_factory=_no_vars)
    forks: Annotated[int, Option("maximum VMs at a time", at_least=1, at_most=MAX_FORKS)] = 2
    limits: Annotated[RunLimits, Option("what the whole run may use")] = field(default_factory=RunLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsSpec:
    """The configuration file: what command lines need not repeat. Playbooks do not use it."""

    repository: Annotated[
        RepositorySpec | None, Option("used when neither --repo nor HVPS_REPO names one")
    ] = None
    hosts: Annotated[Mapping[str, HostSpec], Option("hosts by name, for HOST")] = field(
        default_factory=_no_hosts
    )
    log_file: Annotated[Path | None, Option("used without --log-file")] = None
