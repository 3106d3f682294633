"""Holds the simulated host to facts that ``hvps host prove`` recorded on real hosts: ``recorded/*.json``.

Each fact that differs from the simulated host by default must have a knob; classes and enumerations agree.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.sim.model.knobs import HOSTILE, Knobs
from hvpsbridge.sim.standin.classes import CLASSES
from hvpsbridge.sim.standin.enums import ENUMS
from hvpsbridge.tasks.prove.expectations import EXPECTATIONS, deviations
from hvpsbridge.tasks.prove.prover import SCHEMA

RECORDED = sorted(Path(__file__).with_name("recorded").glob("*.json"))
# What Get-CimClass calls the CIM types of the stand-in.
CIM_TYPES = {
    "string": "String",
    "boolean": "Boolean",
    "datetime": "DateTime",
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "sint64": "SInt64",
}
# Ids with which a stage may fail, that the simulated host has too. All of hvps's own begin like this.
KNOWN_ERRORS = ("Hvps.",)


def cim_type(text: str) -> str:
    if text.startswith("ref:"):
        return "Reference"
    kind = CIM_TYPES.get(text.removesuffix("[]"), text.removesuffix("[]"))
    return kind + ("Array" if text.endswith("[]") else "")


def differences(document: Mapping[str, Any]) -> Iterator[str]:
    """What of a recorded document the simulated host cannot show, one line each."""
    assert document["schema"] == SCHEMA
    facts = document["facts"]
    for one in deviations(facts):
        if one.knob is None:
            yield f"{one.fact} is {one.found!r}, not {one.expected}, and no knob shows that"
    for name, members in ENUMS.items():
        for member, value in facts.get(f"enum.{name}", members).items():
            if members.get(member) != value:
                yield f"{name}.{member} is {value}"
        for member in members.keys() - facts.get(f"enum.{name}", members).keys():
            yield f"{name} has no {member}"
    for name, known in CLASSES.items():
        recorded = facts.get(f"class.{name}")
        if recorded is None:
            continue
        if "error" in recorded:
            yield f"class {name} does not exist"
            continue
        for member, kind in known.properties.items():
            found = recorded["properties"].get(member)
            if found is None or found.lower() != cim_type(kind).lower():
                yield f"{name}.{member} is {found}, not {cim_type(kind)}"
        for method in known.methods.keys() - set(recorded["methods"]):
            yield f"{name} has no method {method}"
    for name, value in facts.items():
        if name.endswith(".error") and not any(known in str(value) for known in KNOWN_ERRORS):
            yield f"{name}: {value}"


def as_simulated() -> dict[str, Any]:
    """A document as the simulated host gives it by default, of what the tables hold."""
    facts: dict[str, Any] = {f"enum.{name}": dict(members) for name, members in ENUMS.items()}
    for name, known in CLASSES.items():
        facts[f"class.{name}"] = {
            "properties": {member: cim_type(kind) for member, kind in known.properties.items()},
            "methods": list(known.methods),
        }
    return {"schema": SCHEMA, "facts": facts}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_the_simulated_host_can_be_what_was_recorded(path: Path) -> None:
    assert list(differences(json.loads(path.read_text(encoding="utf-8")))) == []


def test_a_host_like_the_simulated_one_has_no_differences() -> None:
    assert list(differences(as_simulated())) == []


@pytest.mark.parametrize(
    ("fact", "value", "text"),
    [
        ("reference_point.ids_stay", False, "reference_point.ids_stay is False"),
        ("enum.Microsoft.HyperV.PowerShell.VMState", {"Off": 4}, "VMState.Off is 4"),
        ("class.Msvm_ConcreteJob", {"error": {}}, "Msvm_ConcreteJob does not exist"),
        ("operations.error", "Odd,Microsoft.Odd", "operations.error: Odd"),
    ],
)
def test_a_fact_that_no_knob_shows_is_a_difference(fact: str, value: Any, text: str) -> None:
    document = copy.deepcopy(as_simulated())
    document["facts"][fact] = value
    assert any(text in line for line in differences(document))


def test_a_fact_that_a_knob_shows_is_none() -> None:
    document = as_simulated()
    document["facts"]["reference_point.ids_equal_frozen"] = False
    document["facts"]["job.there_after_end"] = False
    assert list(differences(document)) == []


def test_every_knob_that_an_expectation_names_exists() -> None:
    known = {field.name for field in fields(Knobs)}
    assert {one.knob for one in EXPECTATIONS if one.knob} <= known


# Knobs that the kit cannot see on a host, each with the reason.
UNSEEN = {
    "conversion_status": "merge.trace has every status that a VM shows",
    "merge_delay_seconds": "it is part of merge.seconds, which merge_seconds covers",
    "merge_retry_at_start": "the kit makes no merge fail",
    "unread_bytes": "it shows in the memory of the host's process, under load",
    "texts_without_codes": "the kit makes no job fail; the text of one that does is in job.trace",
}


def test_every_hostile_knob_is_named_by_the_kit_or_has_a_reason() -> None:
    named = {one.knob for one in EXPECTATIONS}
    assert sorted(HOSTILE.keys() - named - UNSEEN.keys()) == []
    assert sorted(UNSEEN.keys() & named) == []
