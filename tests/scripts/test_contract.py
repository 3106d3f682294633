"""Help and param() of each script match the operation in the contract."""

from __future__ import annotations

import re
import types
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.errors import ERRORS, LOST_HANDLE_CODES, SNAPSHOT_RETURNS, vmms_error_id
from hvpsbridge.contract.operation import COMMON_ERRORS
from hvpsbridge.host.binding import pascal_case
from tests.scripts.helps import FOLDER, outputs, parameters, script, section

WORDS = {UUID: "guid", datetime: "time", str: "text", bool: "bool", int: "int", float: "real", bytes: "bytes"}
EVERY = pytest.mark.parametrize("name", OPERATIONS)


def word(hint: Any) -> str:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return word(inner) + "?"
    if origin is tuple:
        return word(get_args(hint)[0]) + "[]"
    return "word" if issubclass(hint, StrEnum) else WORDS[hint]


def test_there_is_one_script_per_operation_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.ps1")} == set(OPERATIONS)


@EVERY
def test_the_outputs_table_is_the_result_dataclass(name: str) -> None:
    result = OPERATIONS[name].result
    head, rows = outputs(script(name))
    hints = get_type_hints(result)
    assert head == f"Hvps.{result.__name__}"
    assert [(row.name, row.type) for row in rows] == [
        (pascal_case(field.name), word(hints[field.name])) for field in fields(result)
    ]
    assert all(row.text for row in rows)
    assert f"[OutputType('{head}')]" in script(name)


@EVERY
def test_the_parameters_are_those_of_the_contract_with_their_help(name: str) -> None:
    operation = OPERATIONS[name]
    declared = parameters(script(name))
    named = [parameter for parameter in declared if not parameter.from_pipeline]
    assert [(p.name, p.type, p.mandatory) for p in named] == [
        (p.name, p.type, p.required) for p in operation.parameters
    ]
    assert [p.type for p in declared if p.from_pipeline] == (["byte[]"] if operation.takes_input else [])
    helped = re.findall(r"^\.PARAMETER (\w+)\n    (\S.*)$", script(name), re.MULTILINE)
    assert [h[0] for h in helped] == [p.name for p in operation.parameters]
    assert section(script(name), "SYNOPSIS")


@EVERY
def test_every_error_leaves_as_one_of_the_contract_and_strict_mode_is_on(name: str) -> None:
    text = script(name)
    assert "throw (ConvertTo-HvpsError -Record $_)" in text
    for line in ("Set-StrictMode -Version 3.0", "$ErrorActionPreference = 'Stop'", "[CmdletBinding()]"):
        assert line in text


def numbers(text: str) -> tuple[int, ...]:
    """Codes in a list of PowerShell or C#."""
    return tuple(int(number, 0) for number in re.findall(r"\b(0x[0-9A-F]{8}|\d+)L?\b", text))


def test_the_table_of_errors_is_the_same_in_the_scripts() -> None:
    text = (FOLDER / "lib" / "Errors.ps1").read_text()
    rows = re.findall(r", @\('(Hvps\.\w+)', '(\w+)',\s+@\((.*?)\),\s+@\((.*?)\)\)$", text, re.M | re.S)
    assert [
        (error_id, category, numbers(vmms), numbers(disk)) for error_id, category, vmms, disk in rows
    ] == [(kind.id, kind.category, kind.vmms_codes, kind.disk_codes) for kind in ERRORS.values()]


def test_the_reader_has_the_same_codes_of_disks() -> None:
    text = (FOLDER / "lib" / "reader" / "Failure.cs").read_text()
    cases = re.findall(r"((?:case \w+:\s+)+)return \"(Hvps\.\w+)\"", text)
    (lost,) = re.findall(r"((?:case \w+:\s+)+)return true", text)
    assert set(numbers(lost)) == LOST_HANDLE_CODES
    assert {error_id: set(numbers(codes)) for codes, error_id in cases} == {
        kind.id: set(kind.disk_codes) for kind in ERRORS.values() if kind.disk_codes
    }


def test_return_values_of_the_snapshot_service_are_the_same_in_the_scripts() -> None:
    (listed,) = re.findall(r"@\{ ([^}]*) \}\[\$code\]", (FOLDER / "lib" / "Wmi.ps1").read_text())
    assert dict(tuple(map(int, pair.split(" = "))) for pair in listed.split("; ")) == SNAPSHOT_RETURNS
    assert vmms_error_id([SNAPSHOT_RETURNS[5]], "") == "Hvps.VmBusy"


def test_no_code_of_a_disk_has_two_ids() -> None:
    codes = [code for kind in ERRORS.values() for code in kind.disk_codes]
    assert len(codes) == len(set(codes))


def test_every_error_of_the_contract_is_declared_by_an_operation() -> None:
    declared = {error for operation in OPERATIONS.values() for error in operation.error_ids}
    assert declared | set(COMMON_ERRORS) == set(ERRORS)


def test_no_script_raises_an_id_that_no_operation_declares() -> None:
    mentioned = {
        found
        for path in FOLDER.rglob("*.*")
        if path.suffix in (".ps1", ".cs")
        for found in re.findall(r"['\"](Hvps\.\w+)['\"]", path.read_text())
    }
    types_and_results = {
        "Hvps.Disk",
        "Hvps.Failure",
        "Hvps.NewFile",
        "Hvps.HostFolder",
        "Hvps.Vhdx",
        "Hvps.VhdxUnsupported",
        "Hvps.VhdxFile",
    } | {f"Hvps.{operation.result.__name__}" for operation in OPERATIONS.values()}
    assert mentioned - types_and_results <= set(ERRORS)
