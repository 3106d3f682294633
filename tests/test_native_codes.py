"""One table of codes: errors show it, the page repeats it, and the contract uses no other codes."""

from __future__ import annotations

import re

import pytest

from hvpsbridge.contract.errors import ERRORS
from hvpsbridge.errors import DiskBusy, DiskUnreadable, OperationFailed
from hvpsbridge.errors.codes import CODES, code_text, find_code
from hvpsbridge.host.error_records import Record, from_record
from hvpsbridge.sim.model.errors import Win32, Wmi
from tests.native_codes import END, PAGE, START, tables


def test_the_page_has_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8").partition(START)[2].partition(END)[0]
    assert page.strip() == tables().strip(), "run: python -m tests.native_codes"


@pytest.mark.parametrize("kind", ERRORS.values(), ids=lambda kind: kind.id)
def test_every_code_of_the_contract_has_a_name(kind) -> None:
    """The tables of the scripts are tested against the contract, so they have no other codes either."""
    assert [hex(code) for code in (*kind.vmms_codes, *kind.disk_codes) if find_code(code) is None] == []


def test_every_code_of_the_simulated_host_has_a_name() -> None:
    codes = [*Win32, *(code for code in Wmi if code not in (Wmi.DONE, Wmi.JOB_STARTED))]
    assert [code.name for code in codes if find_code(code) is None] == []


def test_every_code_in_the_documents_has_a_name() -> None:
    found = {
        (page.name, code)
        for page in PAGE.parent.glob("*.md")
        for code in re.findall(r"\b0x(?:8004|8007|C03A)[0-9A-Fa-f]{4}\b", page.read_text(encoding="utf-8"))
    }
    assert {one for one in found if find_code(int(one[1], 16)) is None} == set()


def test_names_are_different_and_texts_are_one_line() -> None:
    names = [known.name for known in CODES.values()]
    assert len(names) == len(set(names))
    for known in CODES.values():
        for text in (known.name, known.cause, known.remedy):
            assert text
            assert not re.search(r"[|\n]|\.$", text), text


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (32, "ERROR_SHARING_VIOLATION"),
        (0x80070020, "ERROR_SHARING_VIOLATION"),
        (0x80070020 - (1 << 32), "ERROR_SHARING_VIOLATION"),
        (32775, "Invalid state for this operation"),
        (0xC03A002A, "ERROR_VHD_CHANGE_TRACKING_DISABLED"),
        (0x800423F2, "VSS_E_WRITERERROR_TIMEOUT"),
        (0x80078007, None),  # 0x8007 is no mark of a return value of WMI
        (0x80131500, None),
        (0, None),
    ],
)
def test_a_code_is_found_as_win32_code_and_as_hresult(code: int, name: str | None) -> None:
    found = find_code(code)
    assert (None if found is None else found.name) == name


def test_an_error_shows_the_name_cause_and_remedy_of_its_code() -> None:
    error = OperationFailed("hv01", "New-HvpsCheckpoint", "Hvps.JobFailed", "InvalidResult", 112, "zu voll")
    assert str(error) == (
        "New-HvpsCheckpoint on hv01: Hvps.JobFailed 0x00000070 ERROR_DISK_FULL (a volume is full): zu voll; "
        "free space on the volumes of the VM"
    )


def test_an_unknown_code_leaves_the_remedy_of_the_error() -> None:
    facts = ("hv01", "Get-HvpsFrozenDisk", "Hvps.DiskUnreadable", "OpenError", 4711, "?")
    assert str(DiskUnreadable(*facts)).endswith("0x00001267: ?; check the storage of the host")
    assert str(DiskBusy(*facts)).endswith("find out which process has attached the disk")


def test_a_refusal_of_rights_shows_its_code_too() -> None:
    record = Record("Hvps.AccessDenied,native=0x00000005", 18, "Zugriff verweigert")
    said = str(from_record("hv01", "Get-HvpsDisk", record))
    assert said.startswith(f"Get-HvpsDisk on hv01: access denied {code_text(5)}: Zugriff verweigert; ")
