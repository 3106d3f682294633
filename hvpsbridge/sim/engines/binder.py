"""Checks parameters against the contract, with the errors of PowerShell's own binder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from hvpsbridge.contract.operation import Operation, Parameter
from hvpsbridge.sim.engines.failure import Failure

_BINDING = (
    "System.Management.Automation.ParameterBindingException",
    "System.Management.Automation.RuntimeException",
    "System.SystemException",
)
_TRANSFORMATION = (
    "System.Management.Automation.ParameterBindingArgumentTransformationException",
    *_BINDING,
)
VALIDATION = ("System.Management.Automation.ParameterBindingValidationException", *_BINDING)

_NET_NAMES = {
    "guid": "System.Guid",
    "uint64": "System.UInt64",
    "int": "System.Int32",
    "bool": "System.Boolean",
    "byte[]": "System.Byte[]",
}
_RANGES = {"int": range(-(2**31), 2**31), "uint64": range(2**64)}


def bind(operation: Operation, given: Sequence[tuple[str | None, Any]]) -> dict[str, Any]:
    """Values by the contract's parameter names: ``UUID``, ``int``, ``str``, ``bool``, ``bytes`` or ``list``.

    Optional parameters that are not given are missing from the result.

    Raises:
        Failure: a name is unknown, given twice or missing, or a value does not fit the type.
    """
    bound: dict[str, Any] = {}
    for name, value in given:
        parameter = _find(operation, name)
        if parameter.name in bound:
            raise Failure(
                "ParameterAlreadyBound",
                "InvalidArgument",
                f"Cannot bind parameter because parameter '{name}' is specified more than once.",
                type_names=_BINDING,
            )
        bound[parameter.name] = _convert(parameter, value)
    missing = [item.name for item in operation.parameters if item.required and item.name not in bound]
    if missing:
        raise Failure(
            "MissingMandatoryParameter",
            "InvalidArgument",
            "Cannot process command because of one or more missing mandatory parameters: "
            f"{' '.join(missing)}.",
            type_names=_BINDING,
        )
    return bound


def _find(operation: Operation, name: str | None) -> Parameter:
    """The parameter with this name or unambiguous prefix, as in PowerShell."""
    wanted = (name or "").lower().rstrip(":")
    exact = [item for item in operation.parameters if item.name.lower() == wanted]
    partial = [item for item in operation.parameters if wanted and item.name.lower().startswith(wanted)]
    if len(exact or partial) == 1:
        return (exact or partial)[0]
    if partial:
        raise Failure(
            "AmbiguousParameter",
            "InvalidArgument",
            f"Parameter cannot be processed because the parameter name '{name}' is ambiguous.",
            type_names=_BINDING,
        )
    kind = "NamedParameterNotFound" if name else "PositionalParameterNotFound"
    raise Failure(
        kind,
        "InvalidArgument",
        f"A parameter cannot be found that matches parameter name '{name}'.",
        type_names=_BINDING,
    )


def _convert(parameter: Parameter, value: Any) -> Any:
    try:
        return _CONVERSIONS[parameter.type](parameter, value)
    except (TypeError, ValueError) as err:
        raise Failure(
            "ParameterArgumentTransformationError",
            "InvalidData",
            f"Cannot process argument transformation on parameter '{parameter.name}'. Cannot convert value "
            f'"{value}" to type "{_NET_NAMES.get(parameter.type, parameter.type)}".',
            type_names=_TRANSFORMATION,
        ) from err


def _refuse_empty(parameter: Parameter, kind: str) -> Failure:
    names = {"String": "an empty string", "Array": "an empty array"}
    return Failure(
        f"ParameterArgumentValidationErrorEmpty{kind}NotAllowed",
        "InvalidData",
        f"Cannot bind argument to parameter '{parameter.name}' because it is {names[kind]}.",
        type_names=VALIDATION,
    )


def _guid(_: Parameter, value: Any) -> UUID:
    if isinstance(value, UUID):
        return UUID(int=value.int)
    if isinstance(value, str):
        return UUID(value)
    raise TypeError


def _string(parameter: Parameter, value: Any) -> str:
    if isinstance(value, list | tuple):
        text = " ".join(_string(parameter, item) for item in value)
    else:
        text = "" if value is None else str(value)
    if not text and parameter.required:
        raise _refuse_empty(parameter, "String")
    return text


def _integer(parameter: Parameter, value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, list | dict | bytes):
        raise TypeError
    number = int(value)
    if number not in _RANGES[parameter.type]:
        raise ValueError
    return number


def _boolean(_: Parameter, value: Any) -> bool:
    if isinstance(value, int | float):
        return bool(value)
    raise TypeError


def _strings(parameter: Parameter, value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    if not items and parameter.required:
        raise _refuse_empty(parameter, "Array")
    return [_string(parameter, item) for item in items]


def _bytes(_: Parameter, value: Any) -> bytes:
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, list):
        return bytes(int(item) for item in value)
    raise TypeError


_CONVERSIONS: Mapping[str, Callable[[Parameter, Any], Any]] = {
    "guid": _guid,
    "string": _string,
    "uint64": _integer,
    "int": _integer,
    "bool": _boolean,
    "string[]": _strings,
    "byte[]": _bytes,
}
