"""The fast reader with every authentication, with other messages in between, and with its fallback."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hvpsbridge.errors import OperationFailed
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import Request, decode_block
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp import bulk, client, replies
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.host.reader import PipelineSource
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import PowerShellHost
from hvpsbridge.sim.model_service import ModelService
from hvpsbridge.sim.wsman.names import Code
from hvpsbridge.units import KIB, MIB
from tests.host.conftest import PASSWORD, SIZE, USER, Frozen
from tests.host.test_reading_a_frozen_disk import CHUNK, answer, content
from tests.host.test_session import self_signed

# Emits each input byte array as a block, with code of the test before and after it.
ECHO = """
param([string] $Path, [int] $FirstBlock)
begin {{ }}
process {{ {before}; [pscustomobject]@{{ PSTypeName = 'Hvps.BlockMessage'; Block = [byte[]] $_ }}; {after} }}
"""


def echo(session: Session, before: str = "", after: str = "") -> PipelineSource:
    return PipelineSource(session, "", ECHO.format(before=before, after=after))


def receive(source: PipelineSource, count: int) -> list[bytes]:
    blocks: list[bytes] = []
    for _ in range(200):
        blocks += [bytes(block) for block in source.receive(2)]
        if len(blocks) >= count:
            return blocks
    raise AssertionError(f"{len(blocks)} of {count} blocks")


@pytest.fixture
def session(connection: HostConnection) -> Iterator[Session]:
    opened = Session.open(connection)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def no_fallbacks_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BulkPipeline, "fallbacks", 0)


def read_all(host: HyperVHost, frozen: Frozen) -> None:
    source = host.open_reader(frozen.path)
    try:
        blocks = answer(
            source, Request(number=0, extents=(Extent(0, SIZE),), chunk_bytes=CHUNK, block_bytes=1 * MIB)
        )
        for offset, data in content(blocks).items():
            assert data == frozen.image[offset : offset + len(data)]
        assert sum(p.extent.length for b in blocks for p in b.pieces) == SIZE
    finally:
        source.close()
        host.close_readers()


def test_basic_takes_the_fast_way(host: HyperVHost, frozen: Frozen) -> None:
    read_all(host, frozen)
    assert BulkPipeline.fallbacks == 0


def test_tls_takes_the_fast_way(
    service: ModelService, connection: HostConnection, frozen: Frozen, tmp_path: Path
) -> None:
    chain = self_signed(tmp_path)
    with PowerShellHost(
        users={USER: Secret(PASSWORD)}, environment=service.environment(), certificate=chain
    ) as tls:
        secure = replace(connection, address=tls.url, ca=tmp_path / "ca.pem")
        with HyperVHost.connect(secure) as host:
            read_all(host, frozen)
    assert BulkPipeline.fallbacks == 0


def test_sealed_messages_take_the_fast_way(
    service: ModelService, connection: HostConnection, frozen: Frozen
) -> None:
    with (
        PowerShellHost(
            users={USER: Secret(PASSWORD)}, environment=service.environment(), auth=("ntlm",)
        ) as ntlm,
        HyperVHost.connect(replace(connection, address=ntlm.url, auth="ntlm")) as host,
    ):
        read_all(host, frozen)
    assert BulkPipeline.fallbacks == 0


@pytest.mark.parametrize(
    "noise",
    [
        "Write-Verbose -Message ('v' * 40000) -Verbose",
        "Write-Warning -Message 'w'",
        "Write-Progress -Activity 'a' -PercentComplete 5",
        "Write-Information -MessageData 'i'",
    ],
)
def test_other_streams_between_blocks_disturb_nothing(session: Session, noise: str) -> None:
    chance = random.Random(3)
    sent = [chance.randbytes(size) for size in (1, 3000, 100_000, 33_333)]
    source = echo(session, noise, noise)
    try:
        for block in sent:
            source.send(block)
        assert receive(source, len(sent)) == sent
    finally:
        source.close()
    assert BulkPipeline.fallbacks == 0


def test_blocks_that_came_before_an_error_are_delivered_and_the_error_follows(session: Session) -> None:
    source = echo(session, after="if ($_.Length -eq 2) { throw 'enough' }")
    try:
        source.send(b"a")
        source.send(b"bb")
        assert receive(source, 2) == [b"a", b"bb"]
        with pytest.raises(OperationFailed):
            receive(source, 1)
    finally:
        source.close()


def test_silence_gives_nothing_and_the_pipeline_goes_on(
    connection: HostConnection, simulated: PowerShellHost
) -> None:
    session = Session.open(replace(connection, operation_timeout=1))
    source = echo(session)
    try:
        source.send(b"first")
        assert receive(source, 1) == [b"first"]
        # Until the host has held a Receive for the whole operation timeout.
        before = simulated.counters.faults.get(Code.OPERATION_TIMED_OUT, 0)
        while simulated.counters.faults.get(Code.OPERATION_TIMED_OUT, 0) == before:
            assert source.receive(0.5) == []
        source.send(b"second")
        assert receive(source, 1) == [b"second"]
    finally:
        source.close()
        session.close()
    assert BulkPipeline.fallbacks == 0


def test_a_reply_of_another_layout_goes_pypsrps_way_with_nothing_lost(
    session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(8)
    sent = [chance.randbytes(600 * KIB) for _ in range(4)]
    real, bodies = replies.read_reply, []

    def stumbling(body: bytes) -> object:
        bodies.append(body)
        if len(bodies) == 3:
            # In the middle of a block, of which a part was read already.
            raise replies.UnknownReply("another layout")
        return real(body)

    monkeypatch.setattr(replies, "read_reply", stumbling)
    source = echo(session)
    try:
        with caplog.at_level(logging.WARNING):
            for block in sent:
                source.send(block)
            assert receive(source, len(sent)) == sent
        source.send(b"more")
        assert receive(source, 1) == [b"more"]
    finally:
        source.close()
    assert BulkPipeline.fallbacks == 1
    assert len([r for r in caplog.records if "fast reader is not used" in r.getMessage()]) == 1


def test_a_connection_that_cannot_be_borrowed_leaves_all_to_pypsrp(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object) -> None:
        raise bulk.ConnectionUnavailable("no such attribute")

    monkeypatch.setattr(client, "RawConnection", nothing)
    source = echo(session)
    try:
        source.send(b"x" * 100_000)
        source.send(b"y")
        assert receive(source, 2) == [b"x" * 100_000, b"y"]
    finally:
        source.close()
    assert BulkPipeline.fallbacks == 1


def test_received_bytes_are_counted_on_either_way(host: HyperVHost, frozen: Frozen) -> None:
    source = host.open_reader(frozen.path)
    try:
        blocks = answer(
            source,
            Request(
                number=0,
                extents=(Extent(1 * MIB, 1 * MIB),),
                chunk_bytes=CHUNK,
                block_bytes=256 * KIB,
                allow_deflate=False,
            ),
        )
        payload = sum(block.wire_bytes for block in blocks)
        # Two layers of base64: 1.78 times, and some XML.
        assert 1.7 < source.wire_bytes / payload < 1.9
    finally:
        source.close()
        host.close_readers()


def test_decoded_blocks_are_whole(host: HyperVHost, frozen: Frozen) -> None:
    source = host.open_reader(frozen.path)
    try:
        source.send(
            Request(number=0, extents=(Extent(1 * MIB, 64 * KIB),), chunk_bytes=CHUNK, block_bytes=MIB).pack()
        )
        (data,) = receive(source, 1)  # type: ignore[arg-type]  # a PipelineSource behind the protocol
        with pytest.raises(ValueError, match="digest"):
            decode_block(data[:-1] + bytes([data[-1] ^ 1]))
        assert decode_block(data).last
    finally:
        source.close()
        host.close_readers()
