"""Saves the world to a JSON file and loads it."""

from __future__ import annotations

import json
import os
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from hvpsbridge.sim.model import enums, state, stored
from hvpsbridge.sim.model.extentset import ExtentSet
from hvpsbridge.sim.model.knobs import Knobs

# Increase it when a record changes; files of other versions are refused.
VERSION = 1

_RECORDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        state.Checkpoint,
        state.Drive,
        stored.Epoch,
        state.Event,
        stored.HostFile,
        stored.HostFolder,
        state.Job,
        stored.Layer,
        state.Merge,
        state.Node,
        state.PlannedVm,
        state.ReferencePoint,
        state.Role,
        state.Slot,
        state.Vm,
        stored.Volume,
        state.World,
        Knobs,
    )
}
_ENUMS: dict[str, type[Enum]] = {
    kind.__name__: kind
    for kind in vars(enums).values()
    if isinstance(kind, type) and issubclass(kind, Enum) and kind.__module__ == enums.__name__
}


def save(path: Path, world: state.World, knobs: Knobs) -> None:
    """Write world and knobs to ``path``, in one step."""
    text = json.dumps({"version": VERSION, "world": _to_json(world), "knobs": _to_json(knobs)})
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load(path: Path) -> tuple[state.World, Knobs]:
    """World and knobs from a file that :func:`save` wrote.

    Raises:
        ValueError: the file has another version.
        OSError: it cannot be read.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {document.get('version')}, but only {VERSION} is supported; use a new folder"
        )
    world, knobs = _from_json(document["world"]), _from_json(document["knobs"])
    assert isinstance(world, state.World)
    assert isinstance(knobs, Knobs)
    return world, knobs


def _to_json(value: object) -> Any:
    if isinstance(value, Enum):
        return {"$enum": type(value).__name__, "value": value.value}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, UUID):
        return {"$uuid": str(value)}
    if isinstance(value, ExtentSet):
        return {"$extents": value.to_text()}
    if isinstance(value, list | tuple):
        return {"$" + type(value).__name__: [_to_json(item) for item in value]}
    if isinstance(value, dict):
        return {"$dict": [[_to_json(key), _to_json(item)] for key, item in value.items()]}
    if is_dataclass(value) and type(value).__name__ in _RECORDS:
        members = {field.name: _to_json(getattr(value, field.name)) for field in fields(value)}
        return {"$record": type(value).__name__, **members}
    raise TypeError(f"{type(value).__name__} cannot be saved in the state file")


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "$enum" in value:
        return _ENUMS[value["$enum"]](value["value"])
    if "$uuid" in value:
        return UUID(value["$uuid"])
    if "$extents" in value:
        return ExtentSet.from_text(value["$extents"])
    if "$list" in value:
        return [_from_json(item) for item in value["$list"]]
    if "$tuple" in value:
        return tuple(_from_json(item) for item in value["$tuple"])
    if "$dict" in value:
        return {_from_json(key): _from_json(item) for key, item in value["$dict"]}
    members = {name: _from_json(item) for name, item in value.items() if name != "$record"}
    return _RECORDS[value["$record"]](**members)
