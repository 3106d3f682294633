"""Codecs decode what they encoded, and reject anything else."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvpsbridge.formats.chunk import FRAME_BYTES, Frame, unpack_frame
from hvpsbridge.formats.envelope import (
    ENVELOPE_VERSION,
    FORMAT,
    HEADER_BYTES,
    Codec,
    Header,
    Kind,
    Seal,
    max_payload_bytes,
    unpack_header,
)
from hvpsbridge.formats.index import IndexedPack, IndexObject, decode_index, encode_index
from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.formats.manifest import (
    DiskStats,
    ExcludedDisk,
    FileRef,
    Manifest,
    ManifestDisk,
    Proof,
    decode_manifest,
)
from hvpsbridge.formats.marks import BadFrame, BadList
from hvpsbridge.formats.node import FAN_OUT, NODE_BYTES, TreeRoot, entries, entry, levels, set_entry
from hvpsbridge.formats.pack import (
    FRAME_CHECK_BYTES,
    HEAD_BYTES,
    MAX_PACK_BYTES,
    PackEntry,
    check_head,
    decode_entries,
    decode_footer,
    encode_entries,
    encode_footer,
    footer_bytes,
    pack_head,
    pack_trailer,
)
from hvpsbridge.formats.record import decode_record, encode_record, parse_json
from hvpsbridge.formats.settings import decode_settings, new_settings
from hvpsbridge.repository.stored_packs import FRAMES_IN_LIST
from hvpsbridge.units import MIB

U32 = st.integers(0, 2**32 - 1)
IDS = st.binary(min_size=32, max_size=32)
NAMES = st.binary(min_size=16, max_size=16)
# Where each frame of ENTRIES fits.
PACK_SIZES = st.integers(40 * MIB, MAX_PACK_BYTES)
ENTRIES = st.lists(
    st.builds(
        PackEntry,
        IDS,
        st.integers(HEAD_BYTES, 32 * MIB),
        st.integers(FRAME_BYTES, MIB),
        st.integers(0, MIB),
    ),
    max_size=5,
).map(tuple)
# Hypothesis needs bounds without a time zone.
MIN_TIME, MAX_TIME = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1970, 9000))
PACK_KINDS = st.sampled_from([Kind.DATA_PACK, Kind.NODE_PACK])


DAY = datetime(2026, 3, 2, tzinfo=UTC)
DISK = ManifestDisk(
    slot="scsi 0:0",
    disk_id=None,
    size_bytes=5,
    sector_bytes=512,
    path="C:\\a",
    chain=("C:\\a",),
    tree=TreeRoot(b"\7" * 32, 5),
    rct_id="rct",
    mode="full",
    reason="first",
    proof=Proof("equal", DAY, 5, UUID(int=3)),
)


@dataclass(frozen=True, slots=True)
class BadText:
    text: str


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Inner:
    ids: tuple[UUID, ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Record:
    number: int
    share: float
    flag: bool
    text: str
    colour: Colour
    at: datetime
    inner: Inner | None


RECORD = Record(
    7, 1.5, True, 'naïve "quotes"', Colour.RED, datetime(2026, 1, 2, tzinfo=UTC), Inner((), b"\1")
)


class TestRecords:
    @given(
        st.builds(
            Record,
            st.integers(-(10**18), 10**19),
            st.floats(allow_nan=False, allow_infinity=False),
            st.booleans(),
            st.text(st.characters(exclude_categories=("Cs",))),
            st.just(Colour.RED),
            st.datetimes(MIN_TIME, MAX_TIME, timezones=st.just(UTC)),
            st.none() | st.builds(Inner, st.lists(st.uuids()).map(tuple), st.binary()),
        )
    )
    def test_come_back_equal(self, record: Record) -> None:
        assert decode_record(Record, encode_record(record)) == record

    def test_have_one_text(self) -> None:
        assert (
            encode_record(RECORD)
            == (
                '{"at":"2026-01-02T00:00:00.000000Z","colour":"red","flag":true,'
                '"inner":{"digest":"01","ids":[]},"number":7,"share":1.5,"text":"naïve \\"quotes\\""}'
            ).encode()
        )

    def test_have_their_times_in_utc(self) -> None:
        east = replace(RECORD, at=datetime(2026, 1, 2, 2, tzinfo=timezone(timedelta(hours=2))))
        assert encode_record(east) == encode_record(RECORD)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b'"number":7', b'"number":"7"'),
            (b'"number":7', b'"number":true'),
            (b'"number":7', b'"number":7.0'),
            (b'"flag":true', b'"flag":1'),
            (b'"red"', b'"blue"'),
            (b'"01"', b'"0g"'),
            (b'"01"', b'"0"'),
            (b"2026-01-02T", b"2026-13-02T"),
            (b'"number":7,', b""),
            (b'"number":7,', b'"number":7,"odd":1,'),
            (b'"number":7,', b'"number": 7,'),
            (b'"number":7,', b'"number":6,"number":7,'),
            (b'"ids":[]', b'"ids":{}'),
            (b'{"digest"', b'["digest"'),
        ],
    )
    def test_that_differ_in_any_way_are_refused(self, old: bytes, new: bytes) -> None:
        text = encode_record(RECORD)
        assert old in text
        with pytest.raises(Malformed):
            decode_record(Record, text.replace(old, new))

    @given(st.binary())
    def test_are_never_made_of_noise(self, noise: bytes) -> None:
        with pytest.raises(Malformed):
            decode_record(Record, noise)


class TestEnvelopes:
    @given(
        st.sampled_from(Kind),
        st.sampled_from(Codec),
        st.sampled_from(Seal),
        U32,
        st.integers(0, 2**16),
        st.integers(0, 200),
        st.binary(min_size=12, max_size=12),
    )
    def test_come_back_equal(
        self, kind: Kind, codec: Codec, seal: Seal, epoch: int, raw: int, stored: int, nonce: bytes
    ) -> None:
        header = Header(
            kind=kind, codec=codec, seal=seal, epoch=epoch, raw_bytes=raw, stored_bytes=stored, nonce=nonce
        )
        assert unpack_header(header.pack() + bytes(stored + header.trailer_bytes)) == header
        assert len(header.pack()) == HEADER_BYTES

    @pytest.mark.parametrize("kind", Kind)
    def test_that_would_expand_too_far_are_refused(self, kind: Kind) -> None:
        most = max_payload_bytes(kind)
        assert most <= 8 * MIB
        for raw in (most + 1, 2**32 - 1):
            header = Header(
                kind=kind, codec=Codec.ZSTD, seal=Seal.PLAIN, epoch=0, raw_bytes=raw, stored_bytes=0
            )
            with pytest.raises(Malformed, match="may have"):
                unpack_header(header.pack() + bytes(header.trailer_bytes))

    def test_of_another_version_name_both(self) -> None:
        data = bytearray(
            Header(
                kind=Kind.INDEX, codec=Codec.RAW, seal=Seal.PLAIN, epoch=0, raw_bytes=0, stored_bytes=0
            ).pack()
            + bytes(32)
        )
        data[4] = 77
        with pytest.raises(UnknownVersion) as caught:
            unpack_header(data)
        assert (caught.value.found, caught.value.known) == (77, ENVELOPE_VERSION)

    @given(st.integers(0, 63))
    def test_of_any_other_length_are_refused(self, length: int) -> None:
        data = Header(
            kind=Kind.INDEX, codec=Codec.RAW, seal=Seal.PLAIN, epoch=0, raw_bytes=0, stored_bytes=0
        ).pack() + bytes(32)
        with pytest.raises(Malformed):
            unpack_header(data[:length])
        with pytest.raises(Malformed):
            unpack_header(data + bytes(length + 1))

    def test_that_claim_gigabytes_are_refused(self) -> None:
        header = Header(
            kind=Kind.INDEX, codec=Codec.ZSTD, seal=Seal.PLAIN, epoch=0, raw_bytes=2**32 - 1, stored_bytes=0
        )
        with pytest.raises(Malformed):
            unpack_header(header.pack() + bytes(32))


class TestFrames:
    @given(
        IDS,
        PACK_KINDS,
        st.sampled_from(Codec),
        U32,
        st.integers(0, 1000),
        st.binary(min_size=16, max_size=50),
    )
    def test_come_back_equal(
        self, identity: bytes, kind: Kind, codec: Codec, epoch: int, raw: int, body: bytes
    ) -> None:
        seal = Seal.AES_256_GCM if epoch else Seal.PLAIN
        frame = Frame(
            id=identity, kind=kind, codec=codec, seal=seal, epoch=epoch, raw_bytes=raw, stored_bytes=len(body)
        )
        found, found_body = unpack_frame(frame.pack() + body, 1000)
        assert (found, bytes(found_body)) == (frame, body)

    def test_that_are_impossible_are_refused(self) -> None:
        good = Frame(
            id=bytes(32),
            kind=Kind.DATA_PACK,
            codec=Codec.RAW,
            seal=Seal.PLAIN,
            epoch=0,
            raw_bytes=10,
            stored_bytes=10,
        )
        for bad, body in (
            (replace(good, raw_bytes=11), bytes(10)),
            (good, bytes(9)),
            (good, bytes(11)),
            (replace(good, kind=Kind.INDEX), bytes(10)),
            (replace(good, epoch=1), bytes(10)),
            (replace(good, nonce=b"\1" * 12), bytes(10)),
            (replace(good, seal=Seal.AES_256_GCM), bytes(10)),
        ):
            with pytest.raises(Malformed):
                unpack_frame(bad.pack() + body, 10)
        with pytest.raises(Malformed):
            unpack_frame(good.pack()[: FRAME_BYTES - 1], 10)

    def test_bind_everything_that_says_what_they_are(self) -> None:
        frame = Frame(
            id=bytes(32),
            kind=Kind.DATA_PACK,
            codec=Codec.RAW,
            seal=Seal.PLAIN,
            epoch=1,
            raw_bytes=10,
            stored_bytes=10,
        )
        others = [
            replace(frame, id=b"\1" * 32),
            replace(frame, kind=Kind.NODE_PACK),
            replace(frame, codec=Codec.ZSTD),
            replace(frame, epoch=2),
            replace(frame, raw_bytes=9),
        ]
        assert len({frame.associated(), *(other.associated() for other in others)}) == 6


class TestPacks:
    @given(ENTRIES)
    def test_footers_come_back_equal(self, packed: tuple[PackEntry, ...]) -> None:
        assert decode_entries(encode_entries(packed)) == packed
        assert decode_footer(encode_footer(packed, 1), 1) == packed
        checked = tuple(replace(entry, check=entry.id[:FRAME_CHECK_BYTES]) for entry in packed)
        assert decode_footer(encode_footer(checked, 2), 2) == checked

    def test_heads_and_trailers_are_checked(self) -> None:
        check_head(pack_head(Kind.DATA_PACK, 2), Kind.DATA_PACK)
        assert footer_bytes(pack_trailer(1234)) == 1234
        newer = bytearray(pack_head(Kind.DATA_PACK, 2))
        newer[4] += 1
        with pytest.raises(UnknownVersion):
            check_head(bytes(newer), Kind.DATA_PACK)
        for bad in (b"", b"HVPX" + bytes(4), pack_head(Kind.NODE_PACK, 2)):
            with pytest.raises(Malformed):
                check_head(bad, Kind.DATA_PACK)
        for bad in (b"", bytes(8), pack_trailer(1)[:7]):
            with pytest.raises(Malformed):
                footer_bytes(bad)
        with pytest.raises(Malformed):
            decode_entries(bytes(45))
        with pytest.raises(Malformed):
            decode_footer(bytes(44), 2)


class TestIndexes:
    CONTENT = st.builds(
        IndexObject,
        st.lists(NAMES, max_size=3).map(tuple),
        st.lists(st.builds(IndexedPack, NAMES, PACK_KINDS, PACK_SIZES, ENTRIES), max_size=4).map(tuple),
        st.none() | st.uuids(),
    )

    @given(CONTENT)
    def test_come_back_equal(self, content: IndexObject) -> None:
        assert decode_index(encode_index(content)) == content

    @pytest.mark.parametrize(
        "entry",
        [
            PackEntry(bytes(32), 0, 100, 100),
            PackEntry(bytes(32), 8, 59, 0),
            PackEntry(bytes(32), 8, 2 * MIB, 100),
            PackEntry(bytes(32), 8, 100, 2 * MIB),
            PackEntry(bytes(32), 2**32 - 1, 100, 100),
            PackEntry(bytes(32), 1000, 100, 100),
        ],
        ids=["in the head", "too short", "too long", "expands", "far away", "beyond the end"],
    )
    def test_with_a_frame_that_no_hvps_writes_are_refused(self, entry: PackEntry) -> None:
        index = IndexObject((), (IndexedPack(bytes(16), Kind.DATA_PACK, 500, (entry,)),))
        with pytest.raises(Malformed):
            decode_index(encode_index(index))

    def test_with_a_pack_that_no_hvps_writes_are_refused(self) -> None:
        index = IndexObject((), (IndexedPack(bytes(16), Kind.DATA_PACK, 2**64 - 1, ()),))
        with pytest.raises(Malformed):
            decode_index(encode_index(index))

    # The name of the run has 16 bytes, or is not there.
    @given(CONTENT, st.integers(1, 100).filter(lambda amount: amount != 16))
    def test_of_any_other_length_are_refused(self, content: IndexObject, amount: int) -> None:
        data = encode_index(content)
        with pytest.raises(Malformed):
            decode_index(data[:-amount])
        with pytest.raises(Malformed):
            decode_index(data + bytes(amount))


class TestNodes:
    @given(st.integers(0, FAN_OUT - 1), IDS)
    def test_hold_an_id_at_each_place(self, place: int, identity: bytes) -> None:
        node = bytearray(NODE_BYTES)
        set_entry(node, place, identity)
        assert entry(node, place) == identity
        assert [index for index, each in enumerate(entries(node)) if each != bytes(32)] == (
            [place] if any(identity) else []
        )

    def test_are_as_deep_as_the_disk_needs(self) -> None:
        assert [levels(count) for count in (0, 1, 256, 257, 65536, 65537, 2**24, 2**24 + 1)] == [
            1,
            1,
            1,
            2,
            2,
            3,
            3,
            4,
        ]

    def test_of_another_length_are_refused(self) -> None:
        with pytest.raises(Malformed):
            entries(bytes(NODE_BYTES - 1))


class TestManifests:
    MANIFEST = Manifest(
        point_id=UUID(int=1),
        vm_id=UUID(int=2),
        vm_name="web 'quoted' ☃",
        host="hv01",
        run_id=UUID(int=3),
        created=datetime(2026, 3, 1, tzinfo=UTC),
        hvps_version="0.1",
        contract=1,
        consistency_asked="application",
        consistency="crash",
        checkpoint_id=None,
        disks=(DISK,),
        sequence=3,
        previous=b"\5" * 32,
    )

    def test_come_back_equal_and_name_themselves(self) -> None:
        text = self.MANIFEST.encode()
        assert decode_manifest(text) == self.MANIFEST
        assert self.MANIFEST.digest() == hashlib.sha256(text).digest()
        assert self.MANIFEST.disk("scsi 0:0").size_bytes == 5
        with pytest.raises(KeyError):
            self.MANIFEST.disk("scsi 0:1")

    @pytest.mark.parametrize(
        "changes",
        [
            {"sequence": -5},
            {"sequence": 2**64},
            {"contract": -1},
            {"os_build": 10**19},
            {"previous": b"short"},
            {"disks": (DISK, DISK)},
            *(
                {"disks": (replace(DISK, slot=slot),)}
                for slot in ("../../pwned", "/etc/passwd", "scsi-0-1", "scsi 0:0\n", "", "scsi 0:\u0663")
            ),
            {"disks": (replace(DISK, size_bytes=10**19, tree=replace(DISK.tree, size_bytes=10**19)),)},
            {"disks": (replace(DISK, size_bytes=-1, tree=replace(DISK.tree, size_bytes=-1)),)},
            {"disks": (replace(DISK, size_bytes=6),)},
            {"disks": (replace(DISK, sector_bytes=0),)},
            {"disks": (replace(DISK, tree=replace(DISK.tree, root=b"short")),)},
            {"disks": (replace(DISK, proof=Proof("blessed", DAY, 5, UUID(int=3))),)},
            {"disks": (replace(DISK, proof=Proof("equal", DAY, -1, UUID(int=3))),)},
            {"disks": (replace(DISK, stats=DiskStats(read_bytes=-1)),)},
            {"files": (FileRef("a", 5, b"short", DISK.tree),)},
            {"excluded": (ExcludedDisk("..", None, None, 5, "*"),)},
        ],
        ids=str,
    )
    def test_with_a_value_that_no_hvps_writes_are_refused(self, changes: dict[str, object]) -> None:
        forged = replace(self.MANIFEST, **changes)  # type: ignore[arg-type]
        with pytest.raises(Malformed):
            decode_manifest(forged.encode())

    def test_with_any_difference_have_another_digest(self) -> None:
        assert replace(self.MANIFEST, sequence=4).digest() != self.MANIFEST.digest()


class TestJson:
    @pytest.mark.parametrize(
        "text",
        [
            b"1" * 5000,
            b"1" * 400 + b".0",
            b"1e400",
            b"NaN",
            b"-Infinity",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'"\xff"',
            b"",
        ],
        ids=lambda text: text[:20],
    )
    def test_that_no_hvps_writes_is_refused(self, text: bytes) -> None:
        with pytest.raises(Malformed):
            parse_json(text)
        with pytest.raises(Malformed):
            decode_settings(text)

    @pytest.mark.parametrize(
        "text",
        [b'{"a":[' + b"[]," * 2_700_000 + b"[]]}", b"[" + b'"ab",' * 1_600_000 + b'""]', b"{}" * 4_000_000],
        ids=["lists", "texts", "objects"],
    )
    def test_takes_little_memory(self, text: bytes) -> None:
        tracemalloc.start()
        try:
            with pytest.raises(Malformed):
                parse_json(text)
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()

    def test_has_room_for_the_largest_list_of_bad_frames(self) -> None:
        frames = tuple(BadFrame(bytes(32), bytes(16)) for _ in range(FRAMES_IN_LIST))
        data = encode_record(BadList(DAY, frames))
        assert len(data) <= max_payload_bytes(Kind.BAD_LIST)
        assert len(decode_record(BadList, data).frames) == FRAMES_IN_LIST

    @pytest.mark.parametrize("share", [float("nan"), float("inf")])
    def test_is_not_written_with_such_a_number(self, share: float) -> None:
        with pytest.raises(Malformed):
            encode_record(DiskStats(seconds=share))

    def test_with_half_a_surrogate_is_neither_read_nor_written(self) -> None:
        with pytest.raises(Malformed, match="Unicode"):
            encode_record(BadText("\ud800"))
        with pytest.raises(Malformed, match="Unicode"):
            decode_record(BadText, b'{"text":"\\ud800"}')


class TestSettings:
    def test_are_refused_by_format_before_anything_else(self) -> None:
        made = new_settings(UUID(int=9), datetime(2026, 3, 1, tzinfo=UTC), 65536, sealed=False)
        text = encode_record(replace(made, format=FORMAT + 1)).replace(b'"sealed"', b'"gilded"')
        with pytest.raises(UnknownVersion):
            decode_settings(text)

    @pytest.mark.parametrize("chunk_bytes", [0, -65536, 65537, 2**21, 2**40])
    def test_with_chunks_of_another_size_are_refused(self, chunk_bytes: int) -> None:
        made = new_settings(UUID(int=9), DAY, 65536, sealed=False)
        with pytest.raises(Malformed, match="chunk size"):
            decode_settings(encode_record(replace(made, chunk_bytes=chunk_bytes)))

    @pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"magic":"hvps repository"}', b"\xff"])
    def test_that_are_something_else_are_refused(self, text: bytes) -> None:
        with pytest.raises(Malformed):
            decode_settings(text)
