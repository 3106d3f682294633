"""Error records become classes by id and code, independent of the language of their text."""

from __future__ import annotations

import pytest

from hvpsbridge import errors
from hvpsbridge.contract.errors import ERRORS
from hvpsbridge.errors import OperationFailed
from hvpsbridge.host.error_records import Record, category_name, from_record


def failure(error_id: str, category: int = 0, message: str = "Es ging nicht.") -> errors.HostError:
    return from_record("hv01", "Get-HvpsVm", Record(error_id, category, message))


OWN_CLASS = [kind.id for kind in ERRORS.values() if kind.raised is not OperationFailed]


@pytest.mark.parametrize("error_id", OWN_CLASS)
def test_an_id_decides_the_class_and_what_follows_it_does_not(error_id: str) -> None:
    for full in (error_id, f"{error_id},native=0x80070020", f"{error_id},Get-HvpsVm.ps1"):
        found = failure(full)
        assert type(found) is ERRORS[error_id].raised
        assert isinstance(found, OperationFailed)
        assert found.error_id == error_id


@pytest.mark.parametrize(
    ("error_id", "message", "native"),
    [
        ("Hvps.DiskBusy,native=0xC03A001E", "", 0xC03A001E),
        ("Hvps.JobFailed", "Fehler 0x80070070 (32768)", 0x80070070),
        ("Hvps.JobFailed", "ung\u00fcltiger Zustand (32775)", 32775),
        ("Hvps.JobFailed", "ohne Zahl", None),
        ("HRESULT 0x80041002,Microsoft.Management", "0x80041002", 0x80041002),
    ],
)
def test_the_native_code_is_kept(error_id: str, message: str, native: int | None) -> None:
    found = failure(error_id, message=message)
    assert isinstance(found, OperationFailed)
    assert found.native == native


def test_a_call_that_is_denied_is_no_failed_login() -> None:
    found = failure("Hvps.AccessDenied", 18)
    assert str(found).startswith("Get-HvpsVm on hv01: access denied: Es ging nicht.; ")
    assert found.exit_code is errors.ExitCode.REFUSED


def test_what_the_engine_itself_refuses_is_recognised_by_its_own_id() -> None:
    for engine_id in (
        "ScriptContainedMaliciousContent",
        "CannotDefineNewType,Microsoft.PowerShell.Commands.AddTypeCommand",
    ):
        assert isinstance(failure(engine_id), errors.ScriptsRefused)


def test_an_unknown_id_stays_as_the_host_gave_it() -> None:
    found = failure("InvalidParameter,Microsoft.HyperV.PowerShell.Commands.GetVM", 5, "zwei\nZeilen")
    assert type(found) is OperationFailed
    assert (found.error_id, found.category, found.message) == (
        "InvalidParameter",
        "InvalidArgument",
        "zwei Zeilen",
    )


def test_categories_have_their_words() -> None:
    assert category_name(19) == "ResourceBusy"
    assert category_name(99) == "99"
