"""Calls that can fail in the simulator, and their codes, against Microsoft's pages.

``tests/contract/test_calls_agree.py`` shows that both engines make these calls and fail alike.
"""

from __future__ import annotations

from hvpsbridge.contract.errors import SNAPSHOT_RETURNS
from hvpsbridge.sim.model.call_faults import CMDLETS, ERRORS, FUNCTIONS, METHODS
from tests.documented.tables import table

# Not of the Hyper-V module, or not of virtdisk.h: the tables have no rows for these.
OTHER_CMDLETS = {
    "Get-Cluster",
    "Get-ClusterResource",
    "Start-ClusterResource",
    "Stop-ClusterResource",
    "Get-WinEvent",
    "Import-Module",
}
OTHER_FUNCTIONS = {
    *("CreateFile", "ReadFile", "WriteFile", "SetEndOfFile", "FlushFileBuffers", "DeviceIoControl"),
    *("GetFileAttributes", "GetDiskFreeSpaceEx", "MoveFileEx", "CopyFile", "DeleteFile"),
    *("CreateDirectory", "RemoveDirectory"),
}
# Codes of Windows that the tables of virtual disks do not have.
NOT_OF_DISKS = {"failed", "timeout"}
# Values that only the pages of other methods name; a real host may return them all the same.
UNNAMED: dict[str, set[str]] = {
    "GetVirtualDiskChanges": set(),
    "ModifySystemSettings": {"access_denied", "not_found", "unavailable"},
    "ModifyResourceSettings": {"access_denied", "not_found", "unavailable"},
    "RemoveResourceSettings": {"access_denied", "not_found", "unavailable"},
    "DestroySystem": {"access_denied", "not_found", "unavailable"},
    "ImportSystemDefinition": set(),
    "RealizePlannedSystem": {"not_found"},
    "ValidatePlannedSystem": set(),
    "DestroyReferencePoint": {"not_found"},
    "ApplySnapshot": {"not_found", "unavailable"},
    "ConvertToReferencePoint": {"access_denied", "not_found", "unavailable"},
    "CreateSnapshot": {"access_denied", "not_found", "unavailable"},
    "DestroySnapshot": {"access_denied", "not_found", "unavailable"},
}


def test_calls_are_documented() -> None:
    assert set(CMDLETS) - table("cmdlets")["cmdlets"].keys() == OTHER_CMDLETS
    assert set(FUNCTIONS) - set(table("virtdisk")["functions"]) == OTHER_FUNCTIONS
    documented = table("wmi")["methods"].keys()
    assert METHODS.keys() - documented <= set(table("wmi")["missing"])
    assert documented <= METHODS.keys()


def test_functions_fail_with_codes_of_the_header() -> None:
    codes = set(table("virtdisk")["errors"].values())
    assert {word for word, kind in ERRORS.items() if kind.win32 not in codes} == NOT_OF_DISKS


def test_methods_fail_with_documented_values() -> None:
    """Pages of the snapshot service name 1 to 6, which stand for values that the other pages name."""
    found = {}
    for method, facts in table("wmi")["methods"].items():
        returns = set(map(int, facts["returns"]))
        named = returns | {same for code, same in SNAPSHOT_RETURNS.items() if code in returns}
        found[method.rpartition(".")[2]] = {word for word, kind in ERRORS.items() if kind.method not in named}
    assert found == UNNAMED
