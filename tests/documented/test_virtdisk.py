"""The reader's C# and the stand-in library against Microsoft's metadata of virtdisk.h."""

from __future__ import annotations

import re

import pytest

from hvpsbridge.contract.errors import ERRORS, LOST_HANDLE_CODES
from hvpsbridge.sim import disk_protocol
from hvpsbridge.sim.model.errors import Win32
from tests.documented.tables import ROOT, SCRIPTS, table


def test_codes_have_names() -> None:
    assert table("virtdisk")["missing"] == []
    names = {number: name for name, number in table("virtdisk")["errors"].items()}
    codes = {*map(int, Win32), *LOST_HANDLE_CODES}
    for kind in ERRORS.values():
        # An HRESULT 0x8007xxxx is the Win32 code xxxx.
        codes.update(code & 0xFFFF if code >> 16 == 0x8007 else code for code in kind.disk_codes)
    assert codes - names.keys() == set()


def test_versions_of_information_are_those_of_the_header() -> None:
    constants = table("virtdisk")["constants"]
    names = {
        "STORAGE_TYPE": "VIRTUAL_STORAGE_TYPE",
        "DISK_ID": "VIRTUAL_DISK_ID",
        "CHANGE_TRACKING": "CHANGE_TRACKING_STATE",
    }
    for info in disk_protocol.Info:
        assert constants[f"GET_VIRTUAL_DISK_INFO_{names.get(info.name, info.name)}"] == int(info)


def native() -> str:
    return (SCRIPTS / "lib" / "reader" / "Native.cs").read_text()


BYTES = {"int": 4, "uint": 4, "ulong": 8, "Guid": 16}


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("StorageType", "VIRTUAL_STORAGE_TYPE"),
        ("OpenParameters", "OPEN_VIRTUAL_DISK_PARAMETERS"),
        ("AttachParameters", "ATTACH_VIRTUAL_DISK_PARAMETERS"),
        ("ChangedRange", "QUERY_CHANGES_VIRTUAL_DISK_RANGE"),
    ],
)
def test_structures_of_the_reader_have_the_size_and_offsets_of_the_header(name: str, structure: str) -> None:
    (body,) = re.findall(rf"struct {name}\n\s*\{{\n(.*?)\n\s*\}}", native(), re.S)
    at, offsets = 0, {}
    for kind, fields in re.findall(r"public (\w+) ([\w, ]+);", body):
        for field in fields.split(", "):
            assert at % min(BYTES[kind], 8 if kind == "ulong" else 4) == 0
            offsets[field] = at
            at += BYTES[kind]
    header = table("virtdisk")["structures"][structure]
    assert at == header["bytes"]
    fields = header["fields"]
    if name == "OpenParameters":
        assert offsets["GetInfoOnly"] == fields["Version2.GetInfoOnly"]
        assert offsets["ReadOnly"] == fields["Version2.ReadOnly"]
        assert offsets["Resiliency"] == fields["Version2.ResiliencyGuid"]


def test_the_reader_reads_information_where_the_header_has_it() -> None:
    fields = table("virtdisk")["structures"]["GET_VIRTUAL_DISK_INFO"]["fields"]
    query = (SCRIPTS / "lib" / "reader" / "DiskQuery.cs").read_text()
    disk = (SCRIPTS / "lib" / "reader" / "Disk.cs").read_text()
    assert f"ToInt32(tracking, {fields['ChangeTrackingState.Enabled']})" in query
    assert f"ToInt32(tracking, {fields['ChangeTrackingState.NewerChanges']})" in query
    assert f"GetString(tracking, {fields['ChangeTrackingState.MostRecentId']}," in query
    assert f"ToUInt64(size, {fields['Size.VirtualSize']})" in disk
    assert f"ToUInt32(size, {fields['Size.SectorSize']})" in disk


def test_the_reader_attaches_with_the_flags_it_says() -> None:
    constants = table("virtdisk")["constants"]
    read_only = constants["ATTACH_VIRTUAL_DISK_FLAG_READ_ONLY"]
    no_host = constants["ATTACH_VIRTUAL_DISK_FLAG_NO_LOCAL_HOST"]
    assert f"AttachAs(handle, path, 0x{read_only:X} | 0x{no_host:X});" in native()
    assert f"AttachAs(handle, path, 0x{no_host:X});" in native()
    assert "AttachVirtualDisk(handle, IntPtr.Zero, flags, 0," in native()
    assert constants["VIRTUAL_DISK_ACCESS_NONE"] == 0
    assert constants["DETACH_VIRTUAL_DISK_FLAG_NONE"] == 0


def test_functions_take_as_many_arguments_as_the_header_has() -> None:
    for name, arguments in table("virtdisk")["functions"].items():
        (found,) = re.findall(rf"extern int {name}\((.*?)\);", native(), re.S)
        assert len(found.split(",")) == len(arguments), name
    text = (ROOT / "hvpsbridge" / "sim" / "native" / "virtdisk.c").read_text()
    for name, arguments in table("virtdisk")["functions"].items():
        (found,) = re.findall(rf"^uint32_t {name}\((.*?)\) \{{", text, re.S | re.M)
        assert len(found.split(",")) == len(arguments), name
