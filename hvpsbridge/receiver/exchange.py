"""Requests to one source and its blocks, and the queue of windows to request.

An exchange ends when the queue is empty, a trial is over, or its pipeline needs to be renewed. When its
source breaks, what it still owes goes back into the queue for another exchange.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from hvpsbridge.backoff import Backoff
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import OperationTimedOut
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.receiver.protocols import BlockSink
from hvpsbridge.receiver.pump_state import POLL_SECONDS, PumpState
from hvpsbridge.receiver.settings import CREDIT
from hvpsbridge.receiver.stream import BlockStream
from hvpsbridge.receiver.throttling import ByteBudget, ReadPermit
from hvpsbridge.receiver.windows import windows
from hvpsbridge.units import MIB

READ_OPERATION = "Read-HvpsExtent"
# A pipeline may receive 50 MB of CLIXML over its life (docs/hyperv-facts.md#inbound-limits). A packed request
# grows by 1.78 on its way, so this stays below half of it.
RENEW_BYTES = 8 * MIB
# How often to report and to check while blocks keep coming; also how late a stop is noticed then.
REPORT_SECONDS = 0.1


class WindowQueue:
    """Windows not requested yet, shared by the workers of a pump. Thread-safe.

    Args:
        extents: what is wanted, a sorted set.
        grid: the repository's grid.
        window_bytes: raw bytes of a window; called for each window.
    """

    def __init__(self, extents: Iterable[Extent], grid: ChunkGrid, window_bytes: Callable[[], int]) -> None:
        self._grid = grid
        self._window_bytes = window_bytes
        self._planned = windows(extents, grid, window_bytes=window_bytes)
        self._returned: deque[tuple[Extent, ...]] = deque()
        self._lock = threading.Lock()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to take."""
        with self._lock:
            if not self._returned and (window := next(self._planned, None)) is not None:
                self._returned.append(window)
            return not self._returned

    def take(self) -> tuple[Extent, ...] | None:
        """The next window, returned ones first; None when there are no more."""
        with self._lock:
            return self._returned.popleft() if self._returned else next(self._planned, None)

    def put_back(self, window: tuple[Extent, ...]) -> None:
        """Return a window to the front."""
        with self._lock:
            self._returned.appendleft(window)

    def put_back_owed(self, owed: Iterable[Extent]) -> None:
        """Return what a source still owes, in windows of the usual size."""
        for window in reversed(list(windows(owed, self._grid, window_bytes=self._window_bytes))):
            self.put_back(window)


class Exchange:
    """Requests to one source and the blocks it answers with, until it is replaced. For one thread.

    Args:
        source: the reader pipeline.
        stream: its state, new.
        permit: the permit to read, already granted.
        state: shared by the workers of the pump.
        budget: the process's byte budget.
        host: name for errors.
        stall_seconds: give up a source that has been silent for this long.
    """

    def __init__(
        self,
        source: BlockSource,
        stream: BlockStream,
        permit: ReadPermit,
        state: PumpState,
        budget: ByteBudget,
        *,
        host: str,
        stall_seconds: float,
    ) -> None:
        self._source = source
        self._stream = stream
        self._permit = permit
        self._state = state
        self._clock = state.clock
        self._budget = budget
        self._host = host
        self._stall_seconds = stall_seconds
        # Raw bytes of each request that is not fully answered; taken from the budget.
        self._in_flight: deque[int] = deque()
        self._delivered_any = False
        self._sent_bytes = 0
        # Not reported yet.
        self._raw_bytes = 0
        self._data_bytes = 0
        # Reported so far.
        self._wire_bytes = 0

    def run(self, queue: WindowQueue, sink: BlockSink, backoff: Backoff) -> None:
        """Work until the queue is empty, a trial is over, or the pipeline needs to be renewed.

        The shared state gets a report, and is asked whether to stop, when another request is due, when
        nothing came, and every :data:`REPORT_SECONDS`. Doing so for each block would cost more than the rest.
        """
        heard = reported = self._clock()
        self._fill(queue)
        while self._in_flight:
            blocks = self._source.receive(POLL_SECONDS)
            if blocks:
                self._deliver(blocks, sink, backoff)
                heard = self._clock()
                if len(self._in_flight) >= CREDIT and heard - reported < REPORT_SECONDS:
                    continue
            elif self._clock() - heard > self._stall_seconds:
                raise OperationTimedOut(self._host, READ_OPERATION, self._stall_seconds)
            self._report()
            reported = heard
            self._state.check()
            if blocks:
                self._fill(queue)

    def _deliver(
        self, blocks: Sequence[bytes | bytearray | memoryview], sink: BlockSink, backoff: Backoff
    ) -> None:
        for data in blocks:
            block = self._stream.feed(data)
            sink.deliver(block)
            if not self._delivered_any:
                self._delivered_any = True
                backoff.reset()
            self._raw_bytes += block.raw_bytes
            self._data_bytes += block.data_bytes
            if block.last:
                self._budget.give_back(self._in_flight.popleft())

    def _fill(self, queue: WindowQueue) -> None:
        """Send requests until the credit is used up or something limits reading."""
        while len(self._in_flight) < CREDIT and self._sent_bytes < RENEW_BYTES and self._may_ask():
            window = queue.take()
            if window is None:
                return
            count = total_bytes(window)
            # Waiting for budget is only safe while none of it is held for what this source still owes.
            if not self._in_flight:
                try:
                    self._budget.take(count, self._state.check)
                except BaseException:
                    queue.put_back(window)
                    raise
            elif not self._budget.try_take(count):
                queue.put_back(window)
                return
            self._in_flight.append(count)
            request = self._stream.request(window)
            self._sent_bytes += len(request)
            self._source.send(request)

    def _may_ask(self) -> bool:
        """Whether to request more; waits for permit and rate only while nothing is requested."""
        if self._state.over:
            return False
        if self._in_flight:
            return not self._permit.due() and not self._state.rate_limiter.delay()
        if self._permit.due():
            self._permit.leave()
            self._permit.enter(self._state.check)
        while (delay := self._state.rate_limiter.delay()) > 0:
            self._state.pause(delay)
        return True

    def _report(self) -> None:
        wire_bytes = self._source.wire_bytes
        self._state.report(self._raw_bytes, wire_bytes - self._wire_bytes, self._data_bytes)
        self._wire_bytes = wire_bytes
        self._raw_bytes = self._data_bytes = 0

    def put_back_owed(self, queue: WindowQueue) -> None:
        """Return to the queue what the source still owes."""
        queue.put_back_owed(self._stream.owed)

    def close(self) -> None:
        """End the source and give its budget back. Never raises."""
        self._source.close()
        self._report()
        while self._in_flight:
            self._budget.give_back(self._in_flight.popleft())
