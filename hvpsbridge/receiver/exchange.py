"""What a worker asks of one source and takes from it, and the queue of windows it asks from.

A exchange ends when the queue is empty, a trial is over, or its pipeline is due for renewal. When its
source breaks, what the stream is still owed goes back into the queue, for another exchange.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from hvpsbridge.backoff import Backoff
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import OperationTimedOut
from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import Block
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


class WindowQueue:
    """Windows not asked for yet, shared by a pump's workers. Thread-safe.

    Args:
        extents: what is wanted, a sorted set.
        grid: the repository's grid.
        window_bytes: raw bytes of a window, asked for each one anew.
    """

    def __init__(self, extents: Iterable[Extent], grid: ChunkGrid, window_bytes: Callable[[], int]) -> None:
        self._grid = grid
        self._window_bytes = window_bytes
        self._planned = windows(extents, grid, window_bytes=window_bytes)
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

    def put_back_owed(self, owed: Iterable[Extent]) -> None:
        """Return what a source still owes, cut anew so that windows keep their size."""
        for window in reversed(list(windows(owed, self._grid, window_bytes=self._window_bytes))):
            self.put_back(window)


class Exchange:
    """One source, its stream, and the budget its requests have taken; used by one thread.

    Args:
        source: the pipeline that is spoken with.
        stream: its state, new.
        permit: the permit to read, entered already.
        state: the workers that this exchange is held among.
        budget: the process's byte budget.
        host: name for errors.
        stall_seconds: silence after which the source is given up.
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
        self._budget = budget
        self._host = host
        self._stall_seconds = stall_seconds
        self._taken: deque[int] = deque()
        self._sent_bytes = 0
        self._wire_bytes = 0

    def run(self, queue: WindowQueue, sink: BlockSink, backoff: Backoff) -> None:
        """Work until the queue is empty or the pipeline is due for renewal."""
        heard = self._state.clock()
        self._top_up(queue)
        while self._stream.outstanding:
            self._state.check()
            blocks = self._source.receive(POLL_SECONDS)
            if not blocks:
                silence = self._state.clock() - heard
                if silence > self._stall_seconds:
                    raise OperationTimedOut(self._host, READ_OPERATION, self._stall_seconds)
                continue
            for data in blocks:
                block = self._stream.feed(data)
                sink.deliver(block)
                backoff.reset()
                self._account(block)
            heard = self._state.clock()
            self._top_up(queue)

    def _top_up(self, queue: WindowQueue) -> None:
        while self._stream.outstanding < CREDIT and self._sent_bytes < RENEW_BYTES and self._may_ask():
            window = queue.take()
            if window is None:
                return
            count = total_bytes(window)
            # Waiting for budget is only safe while nothing is owed to us that holds some of it.
            if self._stream.outstanding == 0:
                try:
                    self._budget.take(count, self._state.check)
                except BaseException:
                    queue.put_back(window)
                    raise
            elif not self._budget.try_take(count):
                queue.put_back(window)
                return
            self._taken.append(count)
            request = self._stream.request(window)
            self._sent_bytes += len(request)
            self._source.send(request)

    def _may_ask(self) -> bool:
        """Whether more may be asked for; waited for only while nothing is under way."""
        if self._state.over:
            return False
        if self._stream.outstanding:
            return not self._permit.due() and not self._state.rate_limiter.delay()
        if self._permit.due():
            self._permit.leave()
            self._permit.enter(self._state.check)
        while (delay := self._state.rate_limiter.delay()) > 0:
            self._state.pause(delay)
        return True

    def _account(self, block: Block) -> None:
        wire_bytes = self._source.wire_bytes
        self._state.count(
            sum(piece.extent.length for piece in block.pieces),
            wire_bytes - self._wire_bytes,
            sum(piece.extent.length for piece in block.pieces if piece.data is not None),
        )
        self._wire_bytes = wire_bytes
        if block.last:
            self._budget.give_back(self._taken.popleft())

    def give_up(self, queue: WindowQueue) -> None:
        """Return what is owed to the queue."""
        queue.put_back_owed(self._stream.owed)

    def close(self) -> None:
        """End the source and give the budget back. Never raises."""
        self._source.close()
        self._state.count(0, self._source.wire_bytes - self._wire_bytes)
        while self._taken:
            self._budget.give_back(self._taken.popleft())
