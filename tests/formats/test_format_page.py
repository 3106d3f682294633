"""docs/format.md says what the codecs do: every byte table and every list of fields is compared."""

from __future__ import annotations

import dataclasses
import re
import struct
from pathlib import Path

import pytest

from hvpsbridge.formats import (
    chunk,
    doomed,
    envelope,
    ids,
    index,
    keyslot,
    lease,
    ledger,
    manifest,
    marks,
    node,
    pack,
    verified,
)

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "format.md").read_text()

STRUCTS: dict[str, struct.Struct] = {
    "envelope": envelope._HEADER,
    "frame": chunk._FRAME,
    "associated": chunk._ASSOCIATED,
    "pack head": pack._HEAD,
    "pack trailer": pack._TRAILER,
    "pack entry": pack._ENTRY,
    "checked pack entry": pack._CHECKED_ENTRY,
    "index head": index._COUNTS,
    "index pack": index._PACK,
}
RECORDS = (
    manifest.Manifest,
    manifest.ManifestDisk,
    manifest.FileRef,
    manifest.ExcludedDisk,
    ids.PointIds,
    ledger.LedgerEntry,
    lease.LeaseRecord,
    keyslot.KeySlot,
    keyslot.ExportMark,
    marks.BadList,
    marks.BadFrame,
    marks.Tombstone,
    marks.Tombstones,
    marks.TagChange,
    doomed.DoomedList,
    doomed.DoomedPack,
    doomed.Fence,
    verified.Verified,
    verified.VerifiedPacks,
    verified.VerifyPass,
    marks.LaterProof,
)


def fields_of(layout: struct.Struct) -> list[tuple[int, int, bool]]:
    """Offset, size and whether it is padding, of each field of a struct."""
    found, at = [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format.lstrip("<")):
        size = int(count or 1) if code in "sx" else struct.calcsize("<" + code)
        for _ in range(1 if code in "sx" else int(count or 1)):
            found.append((at, size, code == "x"))
            at += size
    assert at == layout.size
    return found


def table(name: str) -> list[tuple[int, int, bool]]:
    after = PAGE.split(f"<!-- table: {name} -->", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (.*) \|$", after, re.MULTILINE)
    return [(int(offset), int(size), text == "zero") for offset, size, text in rows]


@pytest.mark.parametrize("name", STRUCTS)
def test_a_table_has_the_fields_that_the_codec_packs(name: str) -> None:
    assert table(name) == fields_of(STRUCTS[name])


def test_every_table_of_the_page_is_compared() -> None:
    assert set(re.findall(r"<!-- table: (.*) -->", PAGE)) == set(STRUCTS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_list_has_the_fields_that_the_record_has(record: type) -> None:
    listed = PAGE.split(f"<!-- fields: {record.__name__} -->", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"`(\w+)`", listed) == [field.name for field in dataclasses.fields(record)]


def test_every_list_of_fields_is_compared() -> None:
    listed = set(re.findall(r"<!-- fields: (\w+) -->", PAGE))
    assert listed == {record.__name__ for record in RECORDS}


def test_the_page_speaks_of_the_format_that_is_written() -> None:
    assert re.search(r"^Format (\d+)", PAGE, re.MULTILINE)[1] == str(envelope.FORMAT)  # type: ignore[index]


def test_the_kinds_are_those_of_the_table() -> None:
    objects = PAGE.split("## Objects", 1)[1].split("## Settings", 1)[0]
    listed = {int(kind) for kind in re.findall(r"\| (\d+) \|$", objects, re.MULTILINE)}
    assert listed == {int(kind) for kind in envelope.Kind}


def test_magics_and_sizes_are_named() -> None:
    for magic in (envelope.MAGIC, pack.PACK_MAGIC, pack.FOOTER_MAGIC):
        assert f"`{magic.decode()}`" in PAGE
    assert f"{node.NODE_BYTES} bytes" in PAGE
