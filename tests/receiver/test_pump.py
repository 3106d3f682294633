"""The pump delivers every byte once, whatever happens to its sources, and keeps its limits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from hvpsbridge.errors import (
    ConnectionLimit,
    DiskBusy,
    DiskUnreadable,
    OperationTimedOut,
    ProtocolViolation,
    SessionLost,
    StoppedByPolicy,
)
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block
from hvpsbridge.receiver.pump import Pump
from hvpsbridge.receiver.settings import ReadSettings, RetryLimits
from hvpsbridge.receiver.throttling import ByteBudget, RateLimiter, ReadPermit, TokenBucket, UnlimitedReads
from hvpsbridge.units import KIB, MIB
from tests.receiver.sources import ImageSource

GRID = ChunkGrid(64 * KIB)
IMAGE = random.Random(11).randbytes(3 * MIB) + bytes(MIB) + random.Random(12).randbytes(MIB + 512)
SIZE = len(IMAGE)
LOST = SessionLost("hv01", "Read-HvpsExtent", "connection reset")
BUSY = DiskBusy("hv01", "Read-HvpsExtent", "Hvps.DiskBusy", "ResourceBusy", 0x20, "in use")


# Several blocks per window, to lose, duplicate and swap.
SMALL = ReadSettings(block_bytes=60 * KIB, window_bytes=256 * KIB)
Tamper = Callable[[list[bytes], int], Sequence[bytes]]


class Image:
    """A sink that writes pieces into an image and fails if a byte comes twice."""

    def __init__(self) -> None:
        self.image = bytearray(SIZE)
        self.seen = bytearray(SIZE)
        self._lock = threading.Lock()

    def deliver(self, block: Block) -> None:
        with self._lock:
            for piece in block.pieces:
                place = slice(piece.extent.offset, piece.extent.end)
                assert not self.seen.count(1, place.start, place.stop), "bytes delivered twice"
                self.seen[place] = b"\1" * piece.extent.length
                if piece.data is not None:
                    self.image[place] = piece.data

    def holds(self, extents: Sequence[Extent]) -> bool:
        return self.seen.count(1) == total_bytes(extents) and all(
            self.image[extent.offset : extent.end] == IMAGE[extent.offset : extent.end] for extent in extents
        )


class Calm:
    """A watcher that only counts."""

    def __init__(self) -> None:
        self.raw_bytes = self.wire_bytes = 0

    def check(self) -> None:
        pass

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        self.raw_bytes += raw_bytes
        self.wire_bytes += wire_bytes


class Time:
    """A clock that moves only during sleeps, and by ``drift`` each time it is read."""

    def __init__(self, drift: float = 0.0) -> None:
        self.now = 0.0
        self.drift = drift
        self.slept: list[float] = []

    def clock(self) -> float:
        self.now += self.drift
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def pump(
    opened: Callable[[], ImageSource],
    *,
    sources: int = 1,
    budget: ByteBudget | None = None,
    watcher: Calm | None = None,
    time: Time | None = None,
    digests: bool = False,
    retry_limits: RetryLimits | None = None,
    new_permit: Callable[[], ReadPermit] = UnlimitedReads,
    rate_limiter: RateLimiter | None = None,
) -> Pump:
    time = time or Time()
    return Pump(
        opened,
        SIZE,
        GRID,
        host="hv01",
        budget=budget or ByteBudget(8 * MIB),
        watcher=watcher or Calm(),
        settings=replace(SMALL, pipelines=sources),
        new_permit=new_permit,
        rate_limiter=rate_limiter,
        want_chunk_digests=digests,
        retry_limits=retry_limits or RetryLimits(resume_seconds=60, stall_seconds=30),
        clock=time.clock,
        sleep=time.sleep,
    )


EXTENTS = (Extent(0, 1_000_000), Extent(1_500_000, 7), Extent(2 * MIB, SIZE - 2 * MIB))


@pytest.mark.parametrize("sources", [1, 3])
@pytest.mark.parametrize("trickle", [None, 1])
def test_all_bytes_arrive_once_and_the_budget_is_whole_again(sources: int, trickle: int | None) -> None:
    budget, watcher, sink = ByteBudget(8 * MIB), Calm(), Image()
    moved = pump(
        lambda: ImageSource(IMAGE, trickle=trickle), sources=sources, budget=budget, watcher=watcher
    ).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    assert budget.taken_bytes == 0
    assert moved.raw_bytes == watcher.raw_bytes == total_bytes(EXTENTS)
    assert moved.wire_bytes == watcher.wire_bytes > 0
    assert moved.resumed == 0


def test_no_more_than_two_windows_are_under_way_and_never_more_than_the_budget() -> None:
    under_way: list[int] = []
    budget = ByteBudget(600 * KIB)

    class Counting(ImageSource):
        def receive(self, timeout_seconds: float) -> Sequence[bytes]:
            under_way.append(budget.taken_bytes)
            return super().receive(timeout_seconds)

    sink = Image()
    pump(lambda: Counting(IMAGE, trickle=1), budget=budget, sources=3).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    assert max(under_way) <= 600 * KIB


def once_each(faults: list[Tamper | Exception]) -> Callable[[], ImageSource]:
    """Sources that fail one after the other, then good ones."""

    def opened() -> ImageSource:
        if not faults:
            return ImageSource(IMAGE)
        fault = faults.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return ImageSource(IMAGE, fault)

    return opened


def after(count: int, damage: Callable[[list[bytes]], Sequence[bytes]]) -> Tamper:
    return lambda blocks, made: damage(blocks) if made > count else blocks


def lose(blocks: list[bytes]) -> list[bytes]:
    return blocks[:-2] + blocks[-1:]


def double(blocks: list[bytes]) -> list[bytes]:
    return [*blocks, blocks[-1]]


def swap(blocks: list[bytes]) -> list[bytes]:
    return blocks[::-1]


def flip(blocks: list[bytes]) -> list[bytes]:
    changed = bytearray(blocks[-1])
    changed[-1] ^= 1
    return [*blocks[:-1], bytes(changed)]


def shorten(blocks: list[bytes]) -> list[bytes]:
    return [*blocks[:-1], blocks[-1][:-1]]


def drop(blocks: list[bytes]) -> list[bytes]:
    raise LOST


@pytest.mark.parametrize("damage", [lose, double, swap, flip, shorten, drop])
@pytest.mark.parametrize("sources", [1, 2])
@pytest.mark.parametrize("digests", [False, True])
def test_a_broken_source_is_replaced_and_asked_only_for_what_is_owed(
    damage: Callable[[list[bytes]], Sequence[bytes]], sources: int, digests: bool
) -> None:
    budget, sink = ByteBudget(8 * MIB), Image()
    faults: list[Tamper | Exception] = [after(3, damage), after(0, damage)]
    moved = pump(once_each(faults), sources=sources, budget=budget, digests=digests).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    assert moved.resumed >= 1
    assert moved.raw_bytes == total_bytes(EXTENTS)
    assert budget.taken_bytes == 0


def test_a_disk_still_held_by_the_lost_reader_is_waited_for() -> None:
    sink = Image()
    moved = pump(once_each([after(2, drop), BUSY, BUSY])).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    assert moved.resumed == 3


def test_a_disk_that_is_busy_from_the_start_is_an_error() -> None:
    with pytest.raises(DiskBusy):
        pump(once_each([BUSY])).run(EXTENTS, Image())


def test_pauses_grow_until_it_gives_up() -> None:
    time = Time()
    budget = ByteBudget(8 * MIB)

    def opened() -> ImageSource:
        raise LOST

    with pytest.raises(SessionLost):
        pump(opened, time=time, budget=budget).run(EXTENTS, Image())
    assert 60 <= time.now <= 120
    assert budget.taken_bytes == 0


def always_lost(blocks: list[bytes], made: int) -> Sequence[bytes]:
    raise LOST


@pytest.mark.parametrize("sources", [1, 3])
def test_a_host_that_opens_sources_and_loses_each_is_given_up(sources: int) -> None:
    time, budget = Time(), ByteBudget(8 * MIB)
    with pytest.raises(SessionLost):
        pump(lambda: ImageSource(IMAGE, always_lost), sources=sources, time=time, budget=budget).run(
            EXTENTS, Image()
        )
    assert 60 <= time.now <= 120 * sources  # each thread moves the clock
    assert budget.taken_bytes == 0


def test_a_host_that_reboots_again_and_again_is_waited_for_as_long_as_blocks_come() -> None:
    time, back_at = Time(), 0.0

    def opened() -> ImageSource:
        if time.now < back_at:
            raise LOST
        return ImageSource(IMAGE, reboot)

    def reboot(blocks: list[bytes], made: int) -> Sequence[bytes]:
        nonlocal back_at
        if made > 12:  # two windows and a part of the third
            back_at = time.now + 500
            raise LOST
        return blocks

    sink = Image()
    pump(opened, time=time, retry_limits=RetryLimits()).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    assert time.now > 2 * 500


@pytest.mark.parametrize("lost_before", [False, True])
def test_a_limit_of_this_machine_ends_it_at_once(lost_before: bool) -> None:
    time, budget = Time(), ByteBudget(8 * MIB)
    limit = ConnectionLimit("hv01", "Too many open files")

    def refuse(blocks: list[bytes], made: int) -> Sequence[bytes]:
        raise limit

    faults: list[Tamper | Exception] = [LOST] if lost_before else []
    with pytest.raises(ConnectionLimit):
        pump(once_each([*faults, refuse, refuse]), time=time, budget=budget).run(EXTENTS, Image())
    assert time.now <= 1
    assert budget.taken_bytes == 0


def test_a_host_that_sends_rubbish_for_ever_is_a_protocol_violation() -> None:
    with pytest.raises(ProtocolViolation, match="digest does not match"):
        pump(lambda: ImageSource(IMAGE, lambda blocks, made: flip(blocks))).run(EXTENTS, Image())


def test_a_silent_source_is_given_up() -> None:
    time = Time(drift=1.0)
    with pytest.raises(OperationTimedOut):
        pump(lambda: ImageSource(IMAGE, lambda blocks, made: []), time=time).run(EXTENTS, Image())


def test_an_error_the_host_itself_reports_is_not_retried() -> None:
    opened: list[int] = []
    unreadable = DiskUnreadable("hv01", "Read-HvpsExtent", "Hvps.ReadFailed", "ReadError", 23, "CRC")

    def failing(blocks: list[bytes], made: int) -> Sequence[bytes]:
        raise unreadable

    def source() -> ImageSource:
        opened.append(1)
        return ImageSource(IMAGE, failing)

    with pytest.raises(DiskUnreadable):
        pump(source).run(EXTENTS, Image())
    assert len(opened) == 1


@pytest.mark.parametrize("sources", [1, 3])
def test_the_watcher_stops_everything(sources: int) -> None:
    class Strict(Calm):
        def check(self) -> None:
            if self.raw_bytes > MIB:
                raise StoppedByPolicy("web", "volume D: is filling up")

    opened: list[ImageSource] = []

    def source() -> ImageSource:
        opened.append(ImageSource(IMAGE, trickle=1))
        return opened[-1]

    budget = ByteBudget(8 * MIB)
    with pytest.raises(StoppedByPolicy):
        pump(source, sources=sources, watcher=Strict(), budget=budget).run(EXTENTS, Image())
    assert all(one.closed for one in opened)
    assert budget.taken_bytes == 0


def test_a_pipeline_is_renewed_long_before_its_inbound_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvpsbridge.receiver.exchange.RENEW_BYTES", 100)
    opened: list[ImageSource] = []

    def source() -> ImageSource:
        opened.append(ImageSource(IMAGE))
        return opened[-1]

    sink = Image()
    moved = pump(source).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    assert len(opened) > 3
    assert moved.resumed == 0


class Turns:
    """A permit for one reader at a time; its turn ends when ``due`` was called three times."""

    free = threading.Semaphore(1)

    def __init__(self) -> None:
        self.held = False
        self.looks = 0
        self.turns = 0

    def enter(self, check: Callable[[], None]) -> None:
        while not self.held:
            check()
            self.held = self.free.acquire(timeout=0.01)
            self.turns += self.held
            self.looks = 0

    def leave(self) -> None:
        if self.held:
            self.held = False
            self.free.release()

    def due(self) -> bool:
        self.looks += 1
        return self.looks > 3


def test_pipelines_that_must_take_turns_deliver_everything_and_give_the_permit_up() -> None:
    permits: list[Turns] = []
    under_way: list[int] = []

    class Held(ImageSource):
        def receive(self, timeout_seconds: float) -> Sequence[bytes]:
            under_way.append(sum(permit.held for permit in permits))
            return super().receive(timeout_seconds)

    def new_permit() -> Turns:
        permits.append(Turns())
        return permits[-1]

    sink = Image()
    pump(lambda: Held(IMAGE, trickle=1), sources=3, new_permit=new_permit).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    assert set(under_way) == {1}, "a pipeline read without a permit, or two with one"
    assert sum(permit.turns for permit in permits) > len(permits)
    assert not any(permit.held for permit in permits)


@pytest.mark.parametrize("failing", [LOST, None])
def test_a_rate_is_kept_on_average_also_after_a_loss(failing: Exception | None) -> None:
    time = Time()
    rate = 100 * KIB
    sink = Image()
    limiter = TokenBucket(rate, time.clock)
    opened = once_each([failing] if failing else [])
    moved = pump(opened, time=time, rate_limiter=limiter).run(EXTENTS, sink)
    assert sink.holds(EXTENTS)
    # Not limited: the first second, and what was requested at the end, two windows.
    assert time.now >= (moved.wire_bytes - 2 * SMALL.window_bytes) / rate - 1.1
    assert time.now <= moved.wire_bytes / rate + 1.0


class Script:
    """A tuner that tries the given settings, then keeps the last."""

    trial_seconds = 3.0

    def __init__(self, trials: Sequence[ReadSettings]) -> None:
        self.settings = trials[-1]
        self.left = list(trials)
        self.rates: list[float] = []

    def trial(self) -> ReadSettings | None:
        return self.left[0] if self.left else None

    def measured(self, data_bytes: int, seconds: float) -> None:
        # It can be none: this clock moves whenever a thread reads it.
        self.left.pop(0)
        self.rates.append(data_bytes / seconds)


def test_trials_read_what_is_owed_in_other_ways_and_nothing_twice() -> None:
    time = Time(drift=0.1)
    trials = [
        replace(SMALL, pipelines=pipelines, deflate=deflate)
        for pipelines, deflate in ((1, True), (2, True), (1, False))
    ]
    opened: list[ImageSource] = []

    def source() -> ImageSource:
        opened.append(ImageSource(IMAGE, trickle=1))
        return opened[-1]

    sink, tuner = Image(), Script(trials)
    moved = pump(source, time=time).run(EXTENTS, sink, tuner)
    assert sink.holds(EXTENTS)
    assert moved.raw_bytes == total_bytes(EXTENTS)
    assert len(tuner.rates) == 3
    asked = [{request.allow_deflate for request in one.requests} for one in opened]
    assert asked[0] == {True}
    assert asked[-1] == {False}


def test_a_trial_in_which_the_source_was_lost_is_made_again() -> None:
    time = Time(drift=0.1)
    faults: list[Tamper | Exception] = [after(1, drop)]
    broken = once_each(faults)
    tuner, sink = Script([SMALL]), Image()
    moved = pump(broken, time=time).run(EXTENTS, sink, tuner)
    assert moved.resumed == 1
    assert sink.holds(EXTENTS)
    assert len(tuner.rates) <= 1
