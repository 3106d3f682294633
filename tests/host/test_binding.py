"""Objects of a host become dataclasses, strictly; parameters are sent with the declared width."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.readings import ExtentPage, ReaderCheck
from hvpsbridge.contract.results import CheckpointInfo, CheckpointKind, FrozenDisk, Removal, VmDefinition
from hvpsbridge.errors import InternalError
from hvpsbridge.host.binding import BindingError, Tagged, bind_parameters, bind_result, pascal_case

ID = "0b6f3c4e-0000-4000-8000-00000000abcd"
CHECKPOINT: dict[str, Any] = {
    "VmId": ID,
    "CheckpointId": ID,
    "Name": "x",
    "Kind": "recovery",
    "Created": "2026-03-01T02:00:00.1234567Z",
    "ParentId": None,
    "DiskPaths": ["C:\\a.vhdx"],
    "NameError": None,
}


def names(result: type) -> list[str]:
    return [f"Hvps.{result.__name__}", "System.Management.Automation.PSCustomObject"]


def test_an_object_becomes_its_dataclass_with_ids_times_and_words() -> None:
    bound = bind_result(CheckpointInfo, names(CheckpointInfo), CHECKPOINT)
    assert bound == CheckpointInfo(
        vm_id=UUID(ID),
        checkpoint_id=UUID(ID),
        name="x",
        kind=CheckpointKind.RECOVERY,
        created=datetime(2026, 3, 1, 2, 0, 0, 123456, UTC),
        parent_id=None,
        disk_paths=("C:\\a.vhdx",),
    )


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_outside_the_calendar_is_an_error(moment: str) -> None:
    with pytest.raises(BindingError, match="Created"):
        bind_result(CheckpointInfo, names(CheckpointInfo), {**CHECKPOINT, "Created": moment})


def test_a_number_that_a_float_cannot_hold_is_an_error() -> None:
    with pytest.raises(BindingError, match="Seconds"):
        bind_result(ReaderCheck, names(ReaderCheck), {"Compiled": True, "Seconds": 10**400})


@pytest.mark.parametrize(
    "change",
    [
        {"VmId": None},
        {"VmId": ID.upper()},
        {"VmId": "{" + ID + "}"},
        {"Kind": "Recovery"},
        {"Kind": 1},
        {"Created": "2026-03-01T02:00:00"},
        {"Created": "1/3/2026"},
        {"DiskPaths": "C:\\a.vhdx"},
        {"DiskPaths": [None]},
        {"DiskPaths": None},
        {"Name": 7},
        {"Extra": 1},
    ],
)
def test_what_does_not_fit_is_refused_with_the_property_named(change: dict[str, Any]) -> None:
    with pytest.raises(BindingError, match=next(iter(change))):
        bind_result(CheckpointInfo, names(CheckpointInfo), CHECKPOINT | change)


def test_a_missing_property_and_another_type_are_refused() -> None:
    with pytest.raises(BindingError, match="has no Name"):
        bind_result(
            CheckpointInfo, names(CheckpointInfo), {k: v for k, v in CHECKPOINT.items() if k != "Name"}
        )
    for type_names in ([], ["System.String"], names(FrozenDisk)):
        with pytest.raises(BindingError, match=r"expected Hvps\.CheckpointInfo"):
            bind_result(CheckpointInfo, type_names, CHECKPOINT)


def test_a_flag_is_no_number_and_a_number_no_flag() -> None:
    page = {"OffsetBytes": 0, "ProcessedBytes": 1, "Extents": None}
    assert bind_result(ExtentPage, names(ExtentPage), page).extents is None
    for change in ({"OffsetBytes": True}, {"OffsetBytes": -1}, {"OffsetBytes": 1 << 64}, {"Extents": "AA=="}):
        with pytest.raises(BindingError):
            bind_result(ExtentPage, names(ExtentPage), page | change)
    with pytest.raises(BindingError):
        bind_result(Removal, names(Removal), {"Removed": 1})


def test_whole_seconds_are_seconds_too() -> None:
    assert bind_result(ReaderCheck, names(ReaderCheck), {"Compiled": True, "Seconds": 2}).seconds == 2.0


@given(st.integers(0, (1 << 64) - 1))
def test_offsets_travel_as_64_bits_whatever_their_size(offset: int) -> None:
    bound = bind_parameters(
        OPERATIONS["Get-HvpsDiskChange"],
        {"Path": "p", "RctId": "r", "OffsetBytes": offset, "LengthBytes": 1},
    )
    tagged = bound["OffsetBytes"]
    assert isinstance(tagged, Tagged)
    assert (tagged.tag, tagged.value) == ("U64", offset)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"VmId": ID, "Nmae": "x"},
        {"VmId": "no guid", "Name": "x", "Consistency": "crash", "IgnoreDisks": False, "JobSeconds": 1},
        {"VmId": ID, "Name": 5, "Consistency": "crash", "IgnoreDisks": False, "JobSeconds": 1},
        {"VmId": ID, "Name": "x", "Consistency": "crash", "IgnoreDisks": 0, "JobSeconds": 1},
        {"VmId": ID, "Name": "x", "Consistency": "crash", "IgnoreDisks": False, "JobSeconds": 1 << 40},
        {"VmId": ID, "Name": "x", "Consistency": "crash", "IgnoreDisks": False, "JobSeconds": True},
    ],
)
def test_a_wrong_parameter_is_our_own_fault(values: dict[str, object]) -> None:
    with pytest.raises(InternalError, match="New-HvpsCheckpoint"):
        bind_parameters(OPERATIONS["New-HvpsCheckpoint"], values)


def test_an_optional_parameter_that_is_not_given_does_not_travel() -> None:
    assert bind_parameters(OPERATIONS["Get-HvpsVm"], {"VmId": None}) == {}


def test_properties_are_fields_in_pascal_case() -> None:
    assert [pascal_case(name) for name in ("vm_id", "sha256", "is_64bit")] == ["VmId", "Sha256", "Is64bit"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"Name": "x" * 40_000}, "40000 letters"),
        ({"DiskPaths": ["C:\\" + "x" * 40_000]}, "more than 32768 letters"),
        ({"DiskPaths": ["C:\\a.vhdx"] * 5000}, "5000 items"),
    ],
)
def test_longer_values_than_windows_has_are_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BindingError, match=complaint):
        bind_result(CheckpointInfo, names(CheckpointInfo), CHECKPOINT | changes)


def test_a_definition_is_longer_than_other_text() -> None:
    definition = {"VmId": ID, "Json": "x" * 100_000}
    assert len(bind_result(VmDefinition, names(VmDefinition), definition).json) == 100_000
    with pytest.raises(BindingError, match="5000000 letters"):
        bind_result(VmDefinition, names(VmDefinition), definition | {"Json": "x" * 5_000_000})


def test_an_error_quotes_little_of_what_came() -> None:
    with pytest.raises(BindingError) as caught:
        bind_result(CheckpointInfo, ["x" * 100_000], CHECKPOINT)
    assert len(str(caught.value)) < 300
