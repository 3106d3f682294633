"""Faults on the wire during a read: they are never taken for data, and what is owed is read again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from hvpsbridge.errors import DiskBusy, HostRefused, HostUnreachable, ProtocolViolation, SessionLost
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import BlockError, Request, decode_block
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.hosts import PowerShellHost
from hvpsbridge.units import KIB, MIB
from tests.host.conftest import Frozen
from tests.waiting import DEADLINE_SECONDS

CHUNK = 64 * KIB
LENGTH = 3 * MIB
# The next part is requested once this one is here, so the host cannot have sent everything before a fault.
REQUEST_BYTES = 1 * MIB


def read(host: HyperVHost, frozen: Frozen, strike: Callable[[], None]) -> tuple[dict[int, bytes], list[str]]:
    """The first MiBs of the disk, read again from the first missing byte after each error; and the errors.

    ``strike`` is called once, after the first block.
    """
    had: dict[int, bytes] = {}
    losses: list[str] = []
    end = time.monotonic() + DEADLINE_SECONDS
    while (position := sum(map(len, had.values()))) < LENGTH:
        assert time.monotonic() < end, losses
        try:
            source = host.open_reader(frozen.path)
        except (SessionLost, HostUnreachable) as err:
            losses.append(type(err).__name__)
            continue
        try:
            number = requests = 0
            asked = position
            while (position := sum(map(len, had.values()))) < LENGTH:
                if position == asked:
                    asked = min(position + REQUEST_BYTES, LENGTH)
                    request = Request(
                        number=requests,
                        extents=(Extent(position, asked - position),),
                        chunk_bytes=CHUNK,
                        block_bytes=512 * KIB,
                        allow_deflate=False,
                    )
                    source.send(request.pack())
                    requests += 1
                for data in source.receive(2):
                    block = decode_block(data)
                    if block.number != number:
                        raise BlockError(f"block {block.number}, due {number}")
                    number += 1
                    if not had:
                        strike()
                    for piece in block.pieces:
                        had[piece.extent.offset] = (
                            bytes(piece.extent.length) if piece.data is None else bytes(piece.data)
                        )
        except (SessionLost, ProtocolViolation, BlockError, DiskBusy) as err:
            losses.append(type(err).__name__)
            time.sleep(0.1)
        finally:
            source.close()
    host.close_readers()
    return had, losses


@pytest.mark.parametrize(
    ("fault", "lossless"),
    [
        ("reply_lost", False),
        ("reply_cut:bytes=700", False),
        ("reply_cut:bytes=20000", False),
        ("reply_twice", False),
        ("unavailable:status=503,action=receive", False),
        ("unauthorized:action=receive", True),
        ("engine_killed", False),
        ("block_truncated", False),
    ],
)
def test_a_reader_gets_every_byte_once_whatever_happens_to_replies(
    host: HyperVHost, simulated: PowerShellHost, frozen: Frozen, fault: str, lossless: bool
) -> None:
    had, losses = read(host, frozen, lambda: simulated.faults.arm_text(fault, 1))
    assert simulated.faults.armed() == {}, "the fault did not strike"
    assert b"".join(had[at] for at in sorted(had)) == frozen.image[:LENGTH]
    assert bool(losses) is not lossless, losses


def test_an_account_that_is_refused_from_now_on_is_no_lost_session(
    connection, simulated: PowerShellHost
) -> None:
    with HyperVHost.connect(connection) as host:
        simulated.faults.arm_text("unauthorized:action=any", 100)
        try:
            with pytest.raises(HostRefused):
                host.close_readers()
        finally:
            simulated.faults.arm_text("unauthorized:action=any", 0)
