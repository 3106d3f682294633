"""The shape of a contract entry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """What running an operation does to the host; decides how it may be retried.

    ``READS`` is repeated at will. ``CREATES`` is repeated only after a look for what may already be
    there. ``REMOVES`` is repeated: what is gone counts as removed.
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
        required: declared mandatory.
        help: what it means, with unit.
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
        result: dataclass of one emitted object; its fields are the script's OUTPUTS table.
        many: whether any number of objects may come (else exactly one).
        effect: what it does to the host.
        deadline_seconds: how long one call may take before it is given up.
        error_ids: ``Hvps.*`` ids it may raise beside :data:`COMMON_ERRORS`.
        takes_input: whether it is a reader pipeline that is fed requests while it runs.
    """

    name: str
    parameters: tuple[Parameter, ...]
    result: type
    effect: Effect
    deadline_seconds: float
    error_ids: tuple[str, ...] = ()
    many: bool = False
    takes_input: bool = False


# Any operation may meet these.
COMMON_ERRORS: tuple[str, ...] = ("Hvps.AccessDenied", "Hvps.ScriptsRefused", "Hvps.Unexpected")
