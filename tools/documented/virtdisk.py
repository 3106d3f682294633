"""Constants, structures and functions of virtdisk.h, from Microsoft's metadata of the Windows SDK."""

from __future__ import annotations

import ast
import re
from typing import Any

from tools.documented.sources import Wheel

VHD = "win32more/Windows/Win32/Storage/Vhd/__init__.py"
FOUNDATION = "win32more/Windows/Win32/Foundation/__init__.py"
STRUCTURES = (
    "ATTACH_VIRTUAL_DISK_PARAMETERS",
    "GET_VIRTUAL_DISK_INFO",
    "OPEN_VIRTUAL_DISK_PARAMETERS",
    "QUERY_CHANGES_VIRTUAL_DISK_RANGE",
    "VIRTUAL_STORAGE_TYPE",
)
FUNCTIONS = (
    "AttachVirtualDisk",
    "DetachVirtualDisk",
    "GetVirtualDiskInformation",
    "OpenVirtualDisk",
    "QueryChangesVirtualDisk",
)
CONSTANTS = re.compile(
    r"(ATTACH|DETACH|OPEN|QUERY_CHANGES)_VIRTUAL_DISK_|GET_VIRTUAL_DISK_INFO_|VIRTUAL_STORAGE_TYPE_|"
    r"VIRTUAL_DISK_ACCESS_"
)
ERRORS = re.compile(r"ERROR_(VHD|VIRTDISK|CTLOG)_")

# Bytes and alignment on 64-bit Windows.
_PLAIN = {
    "Byte": (1, 1),
    "Char": (2, 2),
    "UInt16": (2, 2),
    "Int32": (4, 4),
    "UInt32": (4, 4),
    "BOOL": (4, 4),
    "UInt64": (8, 8),
    "Guid": (16, 4),
}

Table = dict[str, Any]


def virtdisk_table(wheel: Wheel, codes: set[int]) -> Table:
    """Facts about virtdisk.h, and the names of the errors of virtual disks and of other Win32 ``codes``."""
    module = ast.parse(wheel.read(VHD))
    structures = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    aliases = _aliases(module)
    errors = _constants(ast.parse(wheel.read(FOUNDATION)), "WIN32_ERROR")
    layouts = {name: _Layout(structures, aliases).of(structures[name]) for name in STRUCTURES}
    return {
        "source": wheel.source(),
        "paths": [FOUNDATION, VHD],
        "constants": {
            name: value for name, value in sorted(_constants(module).items()) if CONSTANTS.match(name)
        },
        "errors": {
            name: value for name, value in sorted(errors.items()) if ERRORS.match(name) or value in codes
        },
        "missing": sorted(codes.difference(errors.values())),
        "structures": layouts,
        "functions": {
            node.name: [_name(argument.annotation) for argument in node.args.args]
            for node in module.body
            if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS
        },
    }


class _Layout:
    """Computes where the fields of a structure are."""

    def __init__(self, structures: dict[str, ast.ClassDef], aliases: dict[str, str]) -> None:
        self._structures = structures
        self._aliases = aliases

    def of(self, node: ast.ClassDef) -> Table:
        fields: dict[str, int] = {}
        size, _ = self._place(node, "", 0, fields, {})
        return {"bytes": size, "fields": fields}

    def _place(
        self,
        node: ast.ClassDef,
        prefix: str,
        start: int,
        fields: dict[str, int],
        outer: dict[str, ast.ClassDef],
    ) -> tuple[int, int]:
        """Bytes and alignment of a structure that begins at ``start``; adds its fields."""
        inner = {**outer, **{each.name: each for each in node.body if isinstance(each, ast.ClassDef)}}
        union = any(isinstance(base, ast.Name) and base.id == "Union" for base in node.bases)
        at, largest, alignment = 0, 0, 1
        for member in node.body:
            if not isinstance(member, ast.AnnAssign) or not isinstance(member.target, ast.Name):
                continue
            kind, name = member.annotation, member.target.id
            # Measured once for its alignment, then placed.
            bytes_, aligned = self._measure(kind, inner)
            offset = 0 if union else -(-at // aligned) * aligned
            path = prefix if name == "Anonymous" else f"{prefix}{name}."
            nested = inner.get(_name(kind)) or self._structures.get(_name(kind))
            if nested is not None:
                self._place(nested, path, start + offset, fields, inner)
            else:
                fields[path.rstrip(".")] = start + offset
            at = offset + bytes_
            largest, alignment = max(largest, at), max(alignment, aligned)
        return -(-largest // alignment) * alignment, alignment

    def _measure(self, kind: ast.expr, inner: dict[str, ast.ClassDef]) -> tuple[int, int]:
        if isinstance(kind, ast.Subscript):  # FlexibleArray[type], declared with one element
            return self._measure(kind.slice, inner)
        name = _name(kind)
        nested = inner.get(name) or self._structures.get(name)
        if nested is not None:
            return self._place(nested, "", 0, {}, inner)
        return _PLAIN[self._aliases.get(name, name)]


def _aliases(module: ast.Module) -> dict[str, str]:
    """Enumerations with the type of their values."""
    return {
        node.targets[0].id: node.value.id
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Name)
    }


def _constants(module: ast.Module, kind: str = "") -> dict[str, int | str]:
    """Constants by name; only those of one type, if given."""
    found: dict[str, int | str] = {}
    for node in module.body:
        if not isinstance(node, ast.AnnAssign) or node.value is None or not isinstance(node.target, ast.Name):
            continue
        if kind and _name(node.annotation) != kind:
            continue
        try:
            value = ast.literal_eval(node.value.args[0] if isinstance(node.value, ast.Call) else node.value)
        except ValueError:
            continue
        if isinstance(value, int | str):
            found[node.target.id] = value
    return found


def _name(kind: ast.expr | None) -> str:
    """Last word of a type: ``POINTER(a.b.C)`` and ``a.b.C`` are ``C``."""
    match kind:
        case ast.Attribute():
            return kind.attr
        case ast.Name():
            return kind.id
        case ast.Call():
            return f"{_name(kind.args[0])}*"
    return ""
