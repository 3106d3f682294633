"""The form of a contract entry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """What an operation does to the host; decides how it may be retried.

    ``READS`` may be repeated. ``CREATES`` may be repeated only after checking whether the object exists.
    ``REMOVES`` may be repeated: an object that is gone counts as removed.
    """

    READS = "reads"
    CREATES = "creates"
    REMOVES = "removes"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation, as its script declares it.

    Attributes:
        name: PowerShell name, for example ``VmId``.
        type: PowerShell type as written in ``param()``: ``string``, ``guid``, ``uint64``, ``int``,
            ``bool``, ``string[]`` or ``byte[]``.
        required: whether it is declared mandatory.
        help: its meaning, with the unit.
    """

    name: str
    type: str
    help: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operation:
    """One script on a host.

    Attributes:
        name: PowerShell command name; the script is ``ps_scripts/<name>.ps1``.
        parameters: in the order of the script's ``param()``.
        result: dataclass of an emitted object; its fields are the script's OUTPUTS table.
        effect: what it does to the host.
        deadline_seconds: how long one call may take.
        seconds_each: how much longer for each object that it emits.
        error_ids: ``Hvps.*`` ids it may report besides :data:`COMMON_ERRORS`.
        many: whether any number of objects may come, instead of exactly one.
        takes_input: whether it is a pipeline that gets requests while it runs.
        restores: whether only restores need it; accounts for backups get no right to it.
    """

    name: str
    parameters: tuple[Parameter, ...]
    result: type
    effect: Effect
    deadline_seconds: float
    error_ids: tuple[str, ...] = ()
    many: bool = False
    takes_input: bool = False
    seconds_each: float = 0.0
    restores: bool = False


# Errors that any operation may report.
COMMON_ERRORS: tuple[str, ...] = (
    "Hvps.AccessDenied",
    "Hvps.VmBusy",
    "Hvps.ScriptsRefused",
    "Hvps.Unexpected",
)
