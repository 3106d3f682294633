"""Moves owed bytes from block sources to a sink: credit, budget, resuming, deadlines.

How it works: the extents become windows (:mod:`.windows`) in one queue. Each worker thread owns one
source and one :class:`~hvpsbridge.receiver.stream.BlockStream`, keeps two windows asked for, and gives
every verified block to the sink. When a source breaks, the worker puts exactly what its stream is still
owed back into the queue, pauses, opens a new source and goes on. The sink sees each byte once.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import (
    DiskBusy,
    HostUnreachable,
    HvpsError,
    OperationTimedOut,
    ProtocolViolation,
    SessionLost,
)
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block, BlockError
from hvpsbridge.receiver.budget import ByteBudget
from hvpsbridge.receiver.gates import Gate, OpenGate, Pace, Unpaced
from hvpsbridge.receiver.settings import CREDIT, ReadSettings
from hvpsbridge.receiver.stream import BlockStream
from hvpsbridge.receiver.windows import windows
from hvpsbridge.units import MIB

_LOG = logging.getLogger(__name__)

OPERATION = "Read-HvpsExtent"
# A pipeline's inbound limit is 50 MB of CLIXML, cumulative (reference 0.1, 9). A packed request grows by
# 1.78 on its way, so this stays below half of it.
RENEW_BYTES = 8 * MIB
# One wait for blocks; also how late a cancel is seen.
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a pump puts up with a host that does not deliver.

    Attributes:
        resume_seconds: longest time without a single new block before the pump gives up.
        stall_seconds: silence after which a source is given up for a new one; below the 120 s after
            which the host's watchdog closes the disk.
        first_pause_seconds: wait before the first new source; doubles up to ``longest_pause_seconds``.
        longest_pause_seconds: see above.
        violations: unusable blocks in a row, without a good one between them, that end the pump.
    """

    resume_seconds: float = 600.0
    stall_seconds: float = 90.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30.0
    violations: int = 4


class BlockSink(Protocol):
    """Takes verified blocks; called from several threads at once, for different windows."""

    def deliver(self, block: Block) -> None:
        """Take ``block``. Its pieces may be kept; nobody else uses their buffer."""
        ...


class Watcher(Protocol):
    """Looks on while a pump works. May be called from any of its threads."""

    def check(self) -> None:
        """Raise to stop the pump: cancelled, out of space, too old."""
        ...

    def moved(self, raw_bytes: int, wire_bytes: int) -> None:
        """``raw_bytes`` more of what was owed are stored, ``wire_bytes`` more came over the wire."""
        ...


class Tuner(Protocol):
    """Decides how to read by what trials bring; used by one pump."""

    @property
    def settings(self) -> ReadSettings:
        """How to read when there is nothing (more) to try."""
        ...

    @property
    def trial_seconds(self) -> float:
        """How long a trial reads, from its first block on."""
        ...

    def trial(self) -> ReadSettings | None:
        """What to try next; None when it is decided."""
        ...

    def measured(self, data_bytes: int, seconds: float) -> None:
        """The trial brought so many bytes that are not zero, in so long, and came to its end."""
        ...


@dataclass(frozen=True, slots=True)
class PumpStatistics:
    """What a pump moved: bytes asked for, bytes on the wire, and how often a source was replaced."""

    raw_bytes: int
    wire_bytes: int
    resumed: int


class Pump:
    """Pulls extents of one frozen disk.

    Args:
        open_source: gives a new source each time it is called; after a loss it also makes sure that
            the reader of the lost one does not hold the disk any more.
        size_bytes: size of the frozen disk.
        grid: the repository's grid.
        host: name for errors.
        budget: the process's byte budget.
        watcher: asked before each wait, told after each block.
        settings: pipelines, block, window and compression; windows get smaller where ``pace`` wants that.
        gate: gives each pipeline's permit to read.
        pace: how fast bytes may come.
        want_chunk_digests: ask for digests of the whole chunks touched.
        patience: how long to put up with silence and errors.
        clock: monotonic seconds.
        sleep: waits; tests replace both.
    """

    def __init__(
        self,
        open_source: Callable[[], BlockSource],
        size_bytes: int,
        grid: ChunkGrid,
        *,
        host: str,
        budget: ByteBudget,
        watcher: Watcher,
        settings: ReadSettings | None = None,
        gate: Callable[[], Gate] = OpenGate,
        pace: Pace | None = None,
        want_chunk_digests: bool = False,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._open_source = open_source
        self._size_bytes = size_bytes
        self._grid = grid
        self._host = host
        self._budget = budget
        self._watcher = watcher
        self._gate = gate
        self._pace = pace or Unpaced()
        self._settings = (settings or ReadSettings()).within(self._pace.burst_bytes)
        self._want_chunk_digests = want_chunk_digests
        self._patience = patience or Patience()
        self._clock = clock
        self._sleep = sleep
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._raw_bytes = 0
        self._wire_bytes = 0
        self._resumed = 0
        self._trial: _Trial | None = None

    def run(self, extents: Iterable[Extent], sink: BlockSink, tuner: Tuner | None = None) -> PumpStatistics:
        """Deliver every byte of the sorted set ``extents`` to ``sink``, once.

        Args:
            extents: what is wanted.
            sink: takes the blocks.
            tuner: decides how to read, instead of the settings given.

        Raises:
            HostError: the host did not deliver within our patience, or reported an error.
            HvpsError: what the watcher or the sink raised.
        """
        queue = _WindowQueue(windows(extents, self._grid, window_bytes=self._window_bytes))
        if tuner is not None:
            self._try(tuner, queue, sink)
            self._settings = tuner.settings
        self._read(queue, sink)
        return PumpStatistics(self._raw_bytes, self._wire_bytes, self._resumed)

    def _window_bytes(self) -> int:
        return self._settings.window_bytes

    def _try(self, tuner: Tuner, queue: _WindowQueue, sink: BlockSink) -> None:
        """Read by one trial after the other, until it is decided or there is nothing left to read."""
        while not queue.empty and (settings := tuner.trial()) is not None:
            self._settings = settings
            self._trial = trial = _Trial(tuner.trial_seconds, self._clock)
            resumed = self._resumed
            try:
                self._read(queue, sink)
            finally:
                self._trial = None
            if not trial.over:
                return
            if self._resumed == resumed:  # else it measured a loss, and is made again
                tuner.measured(trial.data_bytes, trial.seconds)

    def _read(self, queue: _WindowQueue, sink: BlockSink) -> None:
        if self._settings.pipelines == 1:
            self._work(queue, sink)
        else:
            self._work_in_threads(queue, sink)

    def _work_in_threads(self, queue: _WindowQueue, sink: BlockSink) -> None:
        threads = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._guarded_work, queue, sink),
                name=f"reader-{index}",
                daemon=True,
            )
            for index in range(self._settings.pipelines)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _guarded_work(self, queue: _WindowQueue, sink: BlockSink) -> None:
        try:
            self._work(queue, sink)
        except BaseException as err:  # noqa: BLE001 - carried to the thread that waits, which raises it
            with self._lock:
                self._errors.append(err)
            self._stop.set()

    def _work(self, queue: _WindowQueue, sink: BlockSink) -> None:
        """One worker's life: a conversation after the other until the queue is empty or a trial over."""
        setback = _Setback(self._patience, self._clock)
        gate = self._gate()
        while not self._over and not queue.empty:
            conversation: _Conversation | None = None
            try:
                gate.enter(self._check)
                self._check()
                conversation = _Conversation(self, self._open_source(), gate)
                conversation.run(queue, sink, setback)
            except (SessionLost, OperationTimedOut, DiskBusy, HostUnreachable, BlockError) as err:
                if isinstance(err, (DiskBusy, HostUnreachable)) and not setback.met:
                    # After a loss both pass: the host comes back, and its watchdog frees the disk that
                    # the lost reader holds. Before one, they are the answer.
                    raise
                failure = self._violation(err) if isinstance(err, BlockError) else err
                pause = setback.meet(failure)
                _LOG.warning("reader lost, going on in %.1f s: %s", pause, failure)
                if conversation is not None:
                    conversation.give_up(queue)
                with self._lock:
                    self._resumed += 1
                gate.leave()
                self._pause(pause)
            finally:
                if conversation is not None:
                    conversation.close()
                gate.leave()

    def _violation(self, err: BlockError) -> ProtocolViolation:
        violation = ProtocolViolation(self._host, OPERATION, str(err))
        violation.__cause__ = err
        return violation

    def _check(self) -> None:
        self._watcher.check()
        if self._stop.is_set():
            raise _Stopped

    def _pause(self, seconds: float) -> None:
        until = self._clock() + seconds
        while (left := until - self._clock()) > 0:
            self._check()
            self._sleep(min(left, POLL_SECONDS))

    @property
    def _over(self) -> bool:
        """Whether a trial has been long enough."""
        return self._trial is not None and self._trial.over

    def _count(self, raw_bytes: int, wire_bytes: int, data_bytes: int = 0) -> None:
        with self._lock:
            self._raw_bytes += raw_bytes
            self._wire_bytes += wire_bytes
            if self._trial is not None and raw_bytes:
                self._trial.count(data_bytes)
        self._pace.spent(wire_bytes)
        self._watcher.moved(raw_bytes, wire_bytes)


class _Stopped(Exception):
    """Another worker of this pump failed; its error is the one that counts."""


class _Trial:
    """What is measured of one trial: bytes after its first block, until its time is over."""

    def __init__(self, wanted_seconds: float, clock: Callable[[], float]) -> None:
        self._wanted_seconds = wanted_seconds
        self._clock = clock
        self._since: float | None = None
        self.data_bytes = 0
        self.seconds = 0.0

    @property
    def over(self) -> bool:
        """Whether a block came after its time was up."""
        return self.seconds >= self._wanted_seconds

    def count(self, data_bytes: int) -> None:
        """A block came."""
        if self._since is None:
            self._since = self._clock()
        elif not self.over:
            self.data_bytes += data_bytes
            self.seconds = self._clock() - self._since


class _WindowQueue:
    """Windows not asked for yet, shared by a pump's workers."""

    def __init__(self, planned: Iterator[tuple[Extent, ...]]) -> None:
        self._planned = planned
        self._returned: deque[tuple[Extent, ...]] = deque()
        self._lock = threading.Lock()

    @property
    def empty(self) -> bool:
        """Whether nothing is left to be taken."""
        with self._lock:
            if not self._returned and (window := next(self._planned, None)) is not None:
                self._returned.append(window)
            return not self._returned

    def take(self) -> tuple[Extent, ...] | None:
        """The next window: one given back before a new one; None when there is none left."""
        with self._lock:
            return self._returned.popleft() if self._returned else next(self._planned, None)

    def put_back(self, window: tuple[Extent, ...]) -> None:
        """Return a window, or what is left of it, to the front."""
        with self._lock:
            self._returned.appendleft(window)


class _Setback:
    """Failures in a row, and whether to bear one more."""

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        self._patience = patience
        self._clock = clock
        self._since: float | None = None
        self._pause_seconds = patience.first_pause_seconds
        self._violations = 0

    @property
    def met(self) -> bool:
        """Whether a failure has been met since the last good block."""
        return self._since is not None

    def meet(self, failure: HvpsError) -> float:
        """Seconds to pause before the next try.

        Raises:
            HvpsError: ``failure``, when patience is at its end.
        """
        now = self._clock()
        if self._since is None:
            self._since = now
        if isinstance(failure, ProtocolViolation):
            self._violations += 1
        if self._violations >= self._patience.violations or now - self._since > self._patience.resume_seconds:
            raise failure
        pause = self._pause_seconds
        self._pause_seconds = min(pause * 2, self._patience.longest_pause_seconds)
        return pause

    def over(self) -> None:
        """A good block came."""
        if self._since is not None:
            self._since = None
            self._violations = 0
            self._pause_seconds = self._patience.first_pause_seconds


class _Conversation:
    """One source, its stream, and the budget its requests have taken."""

    def __init__(self, pump: Pump, source: BlockSource, gate: Gate) -> None:
        self._pump = pump
        self._source = source
        self._gate = gate
        self._stream = BlockStream(
            pump._size_bytes,
            pump._grid,
            block_bytes=pump._settings.block_bytes,
            want_chunk_digests=pump._want_chunk_digests,
            allow_deflate=pump._settings.deflate,
        )
        self._taken: deque[int] = deque()
        self._sent_bytes = 0
        self._wire_bytes = 0

    def run(self, queue: _WindowQueue, sink: BlockSink, setback: _Setback) -> None:
        """Work until the queue is empty or the pipeline is due for renewal."""
        pump = self._pump
        heard = pump._clock()
        self._top_up(queue)
        while self._stream.outstanding:
            pump._check()
            blocks = self._source.receive(POLL_SECONDS)
            if not blocks:
                silence = pump._clock() - heard
                if silence > pump._patience.stall_seconds:
                    raise OperationTimedOut(pump._host, OPERATION, pump._patience.stall_seconds)
                continue
            for data in blocks:
                block = self._stream.feed(data)
                sink.deliver(block)
                setback.over()
                self._account(block)
            heard = pump._clock()
            self._top_up(queue)

    def _top_up(self, queue: _WindowQueue) -> None:
        while self._stream.outstanding < CREDIT and self._sent_bytes < RENEW_BYTES and self._may_ask():
            window = queue.take()
            if window is None:
                return
            count = total_bytes(window)
            # Waiting for budget is only safe while nothing is owed to us that holds some of it.
            if self._stream.outstanding == 0:
                try:
                    self._pump._budget.take(count, self._pump._check)
                except BaseException:
                    queue.put_back(window)
                    raise
            elif not self._pump._budget.try_take(count):
                queue.put_back(window)
                return
            self._taken.append(count)
            request = self._stream.request(window)
            self._sent_bytes += len(request)
            self._source.send(request)

    def _may_ask(self) -> bool:
        """Whether more may be asked for; waited for only while nothing is under way."""
        pump = self._pump
        if pump._over:
            return False
        if self._stream.outstanding:
            return not self._gate.due() and not pump._pace.delay()
        if self._gate.due():
            self._gate.leave()
            self._gate.enter(pump._check)
        while (delay := pump._pace.delay()) > 0:
            pump._pause(delay)
        return True

    def _account(self, block: Block) -> None:
        wire_bytes = self._source.wire_bytes
        self._pump._count(
            sum(piece.extent.length for piece in block.pieces),
            wire_bytes - self._wire_bytes,
            sum(piece.extent.length for piece in block.pieces if piece.data is not None),
        )
        self._wire_bytes = wire_bytes
        if block.last:
            self._pump._budget.give_back(self._taken.popleft())

    def give_up(self, queue: _WindowQueue) -> None:
        """Return what is owed to the queue, cut anew so that windows keep their size."""
        owed = list(windows(self._stream.owed, self._pump._grid, window_bytes=self._pump._window_bytes))
        for window in reversed(owed):
            queue.put_back(window)

    def close(self) -> None:
        """End the source and give the budget back. Never raises."""
        self._source.close()
        self._pump._count(0, self._source.wire_bytes - self._wire_bytes)
        while self._taken:
            self._pump._budget.give_back(self._taken.popleft())
