"""The C# of the scripts in the real engine: blocks, digests, changes and allocation of a frozen disk."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import DiskBusy, DiskUnreadable, OperationFailed, TrackingUnusable
from hvpsbridge.formats.extents import Extent, intersect, normalise, subtract, total_bytes
from hvpsbridge.formats.wire import Block, Request, decode_block
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.model import Model
from hvpsbridge.units import KIB, MIB
from tests.host.conftest import SIZE, TEXT, Frozen
from tests.waiting import DEADLINE_SECONDS, wait_until

CHUNK = 64 * KIB


def answer(source: BlockSource, request: Request) -> list[Block]:
    """All blocks of one request, digests checked."""
    source.send(request.pack())
    blocks: list[Block] = []
    end = time.monotonic() + DEADLINE_SECONDS
    while not blocks or not blocks[-1].last:
        assert time.monotonic() < end, f"{len(blocks)} blocks and no last one"
        blocks.extend(decode_block(data) for data in source.receive(5))
    return blocks


def receive_until_it_ends(source: BlockSource) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < end:
        source.receive(5)


def content(blocks: Sequence[Block]) -> dict[int, bytes]:
    """Bytes of the pieces by offset."""
    return {
        piece.extent.offset: bytes(piece.extent.length) if piece.data is None else bytes(piece.data)
        for block in blocks
        for piece in block.pieces
    }


def covered(blocks: Sequence[Block]) -> tuple[Extent, ...]:
    return normalise((piece.extent for block in blocks for piece in block.pieces), SIZE)


def test_a_whole_disk_arrives_as_it_was_frozen_and_zeros_carry_no_bytes(
    host: HyperVHost, frozen: Frozen
) -> None:
    source = host.open_reader(frozen.path)
    try:
        blocks = answer(
            source, Request(number=0, extents=(Extent(0, SIZE),), chunk_bytes=CHUNK, block_bytes=1 * MIB)
        )
    finally:
        source.close()
    image = bytearray(b"\xff" * SIZE)
    for offset, data in content(blocks).items():
        image[offset : offset + len(data)] = data
    assert covered(blocks) == (Extent(0, SIZE),)
    assert image == frozen.image
    carried = sum(piece.extent.length for b in blocks for piece in b.pieces if piece.data is not None)
    assert carried <= 4 * MIB
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert source.wire_bytes > carried


def test_scattered_extents_of_any_alignment_share_blocks_and_bring_whole_chunk_digests(
    host: HyperVHost, frozen: Frozen
) -> None:
    chance = random.Random(11)
    scattered = (Extent(chance.randrange(4 * MIB), chance.randint(1, 9000)) for _ in range(60))
    extents = normalise((*scattered, Extent(SIZE - 700, 700)), SIZE)
    source = host.open_reader(frozen.path)
    try:
        plain = answer(source, Request(number=0, extents=extents, chunk_bytes=CHUNK, block_bytes=256 * KIB))
        proved = answer(
            source,
            Request(
                number=1, extents=extents, chunk_bytes=CHUNK, block_bytes=256 * KIB, want_chunk_digests=True
            ),
        )
    finally:
        source.close()
    for blocks in (plain, proved):
        assert covered(blocks) == normalise(extents, SIZE)
        for offset, data in content(blocks).items():
            assert data == frozen.image[offset : offset + len(data)]
        assert len(blocks) < len(extents) / 2
    digests = {entry.number: entry.digest for block in proved for entry in block.chunk_digests}
    touched = {n for e in extents for n in range(e.offset // CHUNK, (e.end - 1) // CHUNK + 1)}
    assert digests == {n: hashlib.sha256(frozen.image[n * CHUNK : (n + 1) * CHUNK]).digest() for n in touched}
    for position, block in enumerate(proved):
        later = {p.extent.offset // CHUNK for b in proved[position + 1 :] for p in b.pieces}
        assert not later & {entry.number for entry in block.chunk_digests}
    assert not any(block.chunk_digests for block in plain)


def test_deflate_is_used_where_it_pays_and_only_when_allowed(host: HyperVHost, frozen: Frozen) -> None:
    def wire_bytes(number: int, extent: Extent, deflate: bool) -> int:
        request = Request(
            number=number, extents=(extent,), chunk_bytes=CHUNK, block_bytes=1 * MIB, allow_deflate=deflate
        )
        blocks = answer(source, request)
        for offset, data in content(blocks).items():
            assert data == frozen.image[offset : offset + len(data)]
        return sum(block.wire_bytes for block in blocks)

    source = host.open_reader(frozen.path)
    try:
        # Random bytes do not shrink, so the host must have sent them as they are.
        assert 512 * KIB < wire_bytes(0, Extent(1 * MIB, 512 * KIB), True) <= 513 * KIB
        assert wire_bytes(1, TEXT, True) < TEXT.length / 3
        assert wire_bytes(2, TEXT, False) > TEXT.length
    finally:
        source.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"HQ",
        b"XX" + Request(number=0, extents=(Extent(0, 512),), chunk_bytes=CHUNK, block_bytes=MIB).pack()[2:],
        Request(number=0, extents=(Extent(SIZE, 512),), chunk_bytes=CHUNK, block_bytes=MIB).pack(),
        Request(number=0, extents=(Extent(0, 512),), chunk_bytes=CHUNK + 1, block_bytes=MIB).pack(),
        Request(number=0, extents=(Extent(0, 512),), chunk_bytes=CHUNK, block_bytes=1 << 30).pack(),
        Request(number=0, extents=(Extent(0, 512),), chunk_bytes=CHUNK, block_bytes=MIB).pack()[:-1],
    ],
)
def test_a_request_that_makes_no_sense_ends_the_pipeline_with_its_id(
    host: HyperVHost, frozen: Frozen, request_bytes: bytes
) -> None:
    source = host.open_reader(frozen.path)
    try:
        source.send(request_bytes)
        with pytest.raises(OperationFailed) as caught:
            receive_until_it_ends(source)
    finally:
        source.close()
    assert (caught.value.error_id, caught.value.category) == ("Hvps.BadRequest", "InvalidArgument")


def test_two_pipelines_of_one_shell_share_a_handle_and_close_readers_lets_it_go(
    host: HyperVHost, frozen: Frozen, model: Model
) -> None:
    def half(start: int) -> list[Block]:
        source = host.open_reader(frozen.path)
        try:
            return answer(
                source,
                Request(number=0, extents=(Extent(start, 8 * MIB),), chunk_bytes=CHUNK, block_bytes=1 * MIB),
            )
        finally:
            source.close()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(half, (0, 8 * MIB))
    assert covered([*first, *second]) == (Extent(0, 16 * MIB),)
    assert len(model.driver.attached()) == 1
    assert host.close_readers(frozen.path).open_paths == ()
    assert model.driver.attached() == ()


def test_a_disk_held_by_another_process_is_busy_and_a_missing_file_is_not_found(
    host: HyperVHost, frozen: Frozen, model: Model
) -> None:
    host.close_readers()
    other = model.driver.open(frozen.path, "another product")
    model.driver.attach(other)
    try:
        with pytest.raises(DiskBusy) as busy:
            next(host.digests(frozen.path, CHUNK, 0, SIZE))
    finally:
        model.driver.close(other)
    assert busy.value.native == 0xC03A001E
    with pytest.raises(DiskUnreadable) as missing:
        next(host.digests("C:\\no such.vhdx", CHUNK, 0, SIZE))
    assert (missing.value.error_id, missing.value.category) == ("Hvps.FileNotFound", "ObjectNotFound")


def test_digests_are_those_of_the_frozen_chunks_from_any_chunk_on(host: HyperVHost, frozen: Frozen) -> None:
    expected = [hashlib.sha256(frozen.image[at : at + CHUNK]).digest() for at in range(0, SIZE, CHUNK)]
    pages = list(host.digests(frozen.path, CHUNK, 0, SIZE))
    assert b"".join(page.digests for page in pages) == b"".join(expected)
    tail = list(host.digests(frozen.path, CHUNK, 20 * MIB, SIZE - 20 * MIB))
    assert tail[0].first_chunk == 20 * MIB // CHUNK
    assert b"".join(page.digests for page in tail) == b"".join(expected[20 * MIB // CHUNK :])
    host.close_readers()


def test_changes_cover_what_was_written_and_an_unknown_id_is_unusable(
    host: HyperVHost, frozen: Frozen
) -> None:
    changes = host.changes(frozen.path, frozen.base_rct_id, SIZE)
    assert subtract(frozen.changed, changes) == ()
    assert total_bytes(changes) < 4 * MIB
    with pytest.raises(TrackingUnusable) as caught:
        host.changes(frozen.path, "rctX:no:such:id", SIZE)
    assert caught.value.native is not None


def test_allocation_names_every_byte_that_is_not_zero(host: HyperVHost, frozen: Frozen) -> None:
    allocated = host.allocation(frozen.chain, SIZE)
    step = 4 * KIB
    data = normalise(
        (Extent(at, step) for at in range(0, SIZE, step) if any(frozen.image[at : at + step])), SIZE
    )
    assert subtract(data, allocated) == ()
    assert intersect(allocated, (Extent(0, SIZE),)) == allocated


def test_a_chain_that_lacks_its_base_is_broken_and_what_is_no_vhdx_is_refused(
    host: HyperVHost, frozen: Frozen
) -> None:
    with pytest.raises(DiskUnreadable) as broken:
        host.allocation(frozen.chain[:1], SIZE)
    assert broken.value.error_id == "Hvps.ChainBroken"


def test_a_handle_nobody_asks_goes_by_itself_and_comes_back_with_the_next_request(
    host: HyperVHost, frozen: Frozen, model: Model
) -> None:
    source = host.open_reader(frozen.path)
    try:
        answer(source, Request(number=0, extents=(Extent(0, 512),), chunk_bytes=CHUNK, block_bytes=MIB))
        assert len(model.driver.attached()) == 1
        set_idle_seconds(host, 1)
        wait_until(lambda: not model.driver.attached(), "the watchdog let the handle live")
        set_idle_seconds(host, 120)
        assert covered(
            answer(source, Request(number=1, extents=(Extent(512, 512),), chunk_bytes=CHUNK, block_bytes=MIB))
        ) == (Extent(512, 512),)
        # What close_readers closed stays closed, even for a pipeline that still runs.
        assert host.close_readers().open_paths == ()
        source.send(Request(number=2, extents=(Extent(0, 512),), chunk_bytes=CHUNK, block_bytes=MIB).pack())
        with pytest.raises(DiskUnreadable):
            receive_until_it_ends(source)
        assert model.driver.attached() == ()
    finally:
        source.close()


def set_idle_seconds(host: HyperVHost, seconds: int) -> None:
    text = "param([int] $Seconds) [Hvps.Disk]::IdleSeconds = $Seconds"
    assert list(host._runner.session.run("test", text, {"Seconds": seconds}, 30)) == []


def test_a_pipeline_is_replaced_before_the_host_has_taken_too_much_and_numbers_go_on(
    host: HyperVHost, frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvpsbridge.host.reader.INBOUND_LIMIT_BYTES", 1200)
    source = host.open_reader(frozen.path)
    try:
        numbers = []
        for number in range(5):
            request = Request(
                number=number,
                extents=(Extent(number * MIB, 2 * MIB),),
                chunk_bytes=CHUNK,
                block_bytes=1 * MIB,
            )
            numbers += [block.number for block in answer(source, request)]
        assert numbers == list(range(len(numbers)))
    finally:
        source.close()
