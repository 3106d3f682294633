"""Whatever is in a store, the codecs read or refuse it, within bounds of time and memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hvpsbridge.formats.chunk import FRAME_BYTES, Frame, unpack_frame
from hvpsbridge.formats.envelope import CHECKSUM_BYTES, Codec, Header, Kind, Seal, unpack_header
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.formats.ids import DiskIds, PointIds
from hvpsbridge.formats.index import IndexedPack, IndexObject, decode_index, encode_index
from hvpsbridge.formats.keyslot import (
    ARGON2ID,
    ExportMark,
    KeySlot,
    check_slot,
    exported_text,
    parse_exported,
)
from hvpsbridge.formats.lease import LeaseHolder, LeaseRecord
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.manifest import (
    ExcludedDisk,
    FileRef,
    Manifest,
    ManifestDisk,
    Proof,
    decode_manifest,
)
from hvpsbridge.formats.marks import BadFrame, BadList, LaterProof, Tombstone
from hvpsbridge.formats.node import NODE_BYTES, TreeRoot, entries
from hvpsbridge.formats.pack import (
    PackEntry,
    check_head,
    decode_entries,
    encode_entries,
    footer_bytes,
    pack_head,
    pack_trailer,
)
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.formats.settings import decode_settings, new_settings
from tests.fuzzing import Target, at_length, briefly

DAY = datetime(2026, 3, 1, 2, tzinfo=UTC)
ID = UUID("6f6e2f0e-57a7-4f8e-9a51-000000000001")
DIGEST = bytes(range(32))
TREE = TreeRoot(DIGEST, 1 << 20)
PROOF = Proof("equal", DAY, 5, ID)
DISK = ManifestDisk(
    slot="scsi 0:0",
    disk_id=ID,
    size_bytes=1 << 20,
    sector_bytes=512,
    path="C:\\vm\\disk.avhdx",
    chain=("C:\\vm\\disk.avhdx",),
    tree=TREE,
    rct_id="rctX:1",
    mode="full",
    reason="first",
    proof=PROOF,
)
MANIFEST = Manifest(
    point_id=ID,
    vm_id=ID,
    vm_name="w\u00e4b",
    host="hv01",
    run_id=ID,
    created=DAY,
    hvps_version="0.1",
    contract=1,
    consistency_asked="application",
    consistency="crash",
    checkpoint_id=ID,
    disks=(DISK,),
    files=(FileRef("a.vmcx", 1 << 20, DIGEST, TREE),),
    definition="{}",
    sequence=2,
    previous=DIGEST,
    excluded=(ExcludedDisk("ide 0:1", None, "C:\\x", 5, "*"),),
)
HOLDER = LeaseHolder(
    run_id=ID,
    machine="backup1",
    user="root",
    process_id=5,
    boot_id="b",
    pid_namespace="pid:[1]",
    process_started=7,
)
LEDGER_ENTRY = LedgerEntry(
    kind=LedgerKind.CHECKPOINT_INTENDED,
    run_id=ID,
    vm_id=ID,
    host="hv01",
    at=DAY,
    process_started=DAY,
    mark="m",
    checkpoints_before=(ID,),
    reference_points_before=("r",),
)
SLOT = KeySlot(
    slot_id=ID,
    repository_id=ID,
    created=DAY,
    kdf=ARGON2ID,
    memory_kib=65536,
    iterations=3,
    lanes=4,
    salt=bytes(16),
    nonce=bytes(12),
    wrapped=bytes(48),
    label=bytes(30),
)
SETTINGS = new_settings(ID, DAY, 131072, sealed=True)
PACK_ENTRIES = (PackEntry(DIGEST, 8, 100, 200), PackEntry(bytes(32), 108, 60, 0))
INDEX = IndexObject(
    (bytes(16),),
    (
        IndexedPack(bytes(16), Kind.DATA_PACK, 1000, PACK_ENTRIES),
        IndexedPack(b"n" * 16, Kind.NODE_PACK, 500, PACK_ENTRIES),
    ),
)
HEADER = Header(
    kind=Kind.MANIFEST, codec=Codec.ZSTD, seal=Seal.PLAIN, epoch=0, raw_bytes=100, stored_bytes=10
)
FRAME = Frame(
    id=DIGEST,
    kind=Kind.DATA_PACK,
    codec=Codec.RAW,
    seal=Seal.PLAIN,
    epoch=0,
    raw_bytes=5,
    stored_bytes=5,
)


def record(value: Any, read: Callable[[bytes], object] | None = None) -> Target:
    kind = type(value)
    return Target(
        name=kind.__name__,
        samples=(encode_record(value),),
        parse=read or (lambda data: decode_record(kind, data)),
        refuses=(Malformed,),
    )


def read_slot(data: bytes) -> None:
    check_slot(decode_record(KeySlot, data))


def with_check(data: bytes) -> bytes:
    """The slot with a correct check, which anyone can compute."""
    try:
        slot = decode_record(KeySlot, data)
    except Malformed:
        return data
    return encode_record(replace(slot, check=slot.digest()))


def rounded(data: bytes) -> bytes:
    """Canonical JSON, so that more than the syntax is tried."""
    try:
        return json.dumps(
            json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
    except (ValueError, RecursionError):
        return data


TARGETS = [
    replace(record(MANIFEST, decode_manifest), complete=rounded),
    record(PointIds(DIGEST, ID, "r", (DiskIds("scsi 0:0", ID, "rctX:1"),))),
    replace(record(LEDGER_ENTRY), complete=rounded),
    record(LeaseRecord(5, HOLDER, DAY, released=True)),
    record(BadList(DAY, (BadFrame(DIGEST, bytes(16)),))),
    record(
        Tombstone(point_id=ID, vm_id=ID, sequence=1, digest=DIGEST, previous=None, at=DAY),
    ),
    record(LaterProof(DIGEST, "", PROOF)),
    record(ExportMark(DAY)),
    replace(record(SETTINGS, decode_settings), complete=rounded),
    replace(record(replace(SLOT, check=SLOT.digest()), read_slot), complete=with_check),
    Target(
        name="exported key",
        samples=(exported_text(bytes(32), ID).encode(),),
        parse=lambda data: parse_exported(data.decode("latin-1")),
        refuses=(Malformed,),
    ),
    Target(name="index", samples=(encode_index(INDEX),), parse=decode_index, refuses=(Malformed,)),
    Target(
        name="footer", samples=(encode_entries(PACK_ENTRIES),), parse=decode_entries, refuses=(Malformed,)
    ),
    Target(
        name="pack head",
        samples=(pack_head(Kind.DATA_PACK, 2),),
        parse=lambda data: check_head(data, Kind.DATA_PACK),
        refuses=(Malformed,),
    ),
    Target(name="pack trailer", samples=(pack_trailer(99),), parse=footer_bytes, refuses=(Malformed,)),
    Target(
        name="header",
        samples=(HEADER.pack() + bytes(10 + CHECKSUM_BYTES),),
        parse=unpack_header,
        refuses=(Malformed,),
    ),
    Target(
        name="frame",
        samples=(FRAME.pack() + b"hello", bytes(FRAME_BYTES)),
        parse=lambda data: unpack_frame(data, MAX_CHUNK_BYTES),
        refuses=(Malformed,),
    ),
    Target(name="node", samples=(bytes(NODE_BYTES),), parse=entries, refuses=(Malformed,)),
]


test_mutated_input_is_read_or_refused = briefly(TARGETS, examples=25)
test_a_million_mutated_inputs_are_read_or_refused = at_length(TARGETS)
