"""Reads extents of a disk from block sources into a sink, with credit, budget, retries and deadlines.

The extents become windows (``receiver.windows``) in one queue. Each worker has one source and one
``BlockStream``, keeps two windows requested, and delivers every verified block to the sink. When a source
breaks, the worker returns exactly what that source still owes to the queue, pauses, opens a new source and
continues. The sink gets each byte once.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable

from hvpsbridge.backoff import Backoff
from hvpsbridge.contract.stream import BlockSource
from hvpsbridge.errors import (
    ConnectionLimit,
    DiskBusy,
    HostUnreachable,
    OperationTimedOut,
    ProtocolViolation,
    SessionLost,
)
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import BlockError
from hvpsbridge.receiver.exchange import READ_OPERATION, Exchange, WindowQueue
from hvpsbridge.receiver.protocols import BlockSink, PumpStatistics, Tuner, Watcher
from hvpsbridge.receiver.pump_state import PumpState
from hvpsbridge.receiver.settings import ReadSettings, RetryLimits
from hvpsbridge.receiver.stream import BlockStream
from hvpsbridge.receiver.throttling import ByteBudget, NoRateLimit, RateLimiter, ReadPermit, UnlimitedReads

logger = logging.getLogger(__name__)


class Pump:
    """Reads extents of one frozen disk.

    Args:
        open_source: opens a new source. After a loss it also ends the reader of the lost source, which may
            still hold the disk.
        size_bytes: size of the frozen disk.
        grid: the repository's grid.
        host: name for errors.
        budget: the process's byte budget.
        watcher: may stop the pump, and gets its progress.
        settings: pipelines, block, window and compression; ``rate_limiter`` may make windows smaller.
        new_permit: makes the permit of each pipeline.
        rate_limiter: limits the rate of all reading.
        want_chunk_digests: request digests of the whole chunks that are touched.
        retry_limits: how long to keep trying.
        clock: monotonic seconds.
        sleep: waits.
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
        new_permit: Callable[[], ReadPermit] = UnlimitedReads,
        rate_limiter: RateLimiter | None = None,
        want_chunk_digests: bool = False,
        retry_limits: RetryLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._open_source = open_source
        self._size_bytes = size_bytes
        self._grid = grid
        self._host = host
        self._budget = budget
        self._new_permit = new_permit
        rate_limiter = rate_limiter or NoRateLimit()
        self._settings = (settings or ReadSettings()).within(rate_limiter.burst_bytes)
        self._want_chunk_digests = want_chunk_digests
        self._retry_limits = retry_limits or RetryLimits()
        self._state = PumpState(watcher, rate_limiter, clock=clock, sleep=sleep)

    def run(self, extents: Iterable[Extent], sink: BlockSink, tuner: Tuner | None = None) -> PumpStatistics:
        """Deliver every byte of ``extents`` to ``sink`` once.

        Args:
            extents: what is wanted, a sorted set.
            sink: takes the blocks.
            tuner: finds out how to read, in place of the settings.

        Raises:
            HostError: the host did not deliver within the retry limits, or reported an error.
            HvpsError: from the watcher or the sink.
        """
        queue = WindowQueue(extents, self._grid, self._window_bytes)
        if tuner is not None:
            self._try(tuner, queue, sink)
            self._settings = tuner.settings
        self._read(queue, sink)
        return self._state.statistics

    def _window_bytes(self) -> int:
        return self._settings.window_bytes

    def _try(self, tuner: Tuner, queue: WindowQueue, sink: BlockSink) -> None:
        """Read in trials until the tuner has decided or everything is read."""
        while not queue.empty and (settings := tuner.trial()) is not None:
            self._settings = settings
            resumed = self._state.statistics.resumed
            with self._state.trying(tuner.trial_seconds) as trial:
                self._read(queue, sink)
            if not trial.over:
                return
            if self._state.statistics.resumed == resumed:  # otherwise it measured a loss and is repeated
                tuner.measured(trial.data_bytes, trial.seconds)

    def _read(self, queue: WindowQueue, sink: BlockSink) -> None:
        if self._settings.pipelines == 1:
            self._work(queue, sink)
        else:
            self._work_in_threads(queue, sink)

    def _work_in_threads(self, queue: WindowQueue, sink: BlockSink) -> None:
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
        if self._state.failure is not None:
            raise self._state.failure

    def _guarded_work(self, queue: WindowQueue, sink: BlockSink) -> None:
        try:
            self._work(queue, sink)
        except BaseException as err:  # noqa: BLE001 - raised by the thread that waits
            self._state.fail(err)

    def _work(self, queue: WindowQueue, sink: BlockSink) -> None:
        """Run one exchange after the other until the queue is empty or the trial is over."""
        backoff = self._new_backoff()
        permit = self._new_permit()
        while not self._state.over and not queue.empty:
            exchange: Exchange | None = None
            try:
                permit.enter(self._state.check)
                self._state.check()
                exchange = self._new_exchange(self._open_source(), permit)
                exchange.run(queue, sink, backoff)
            except ConnectionLimit:
                # A limit of this machine does not go away while the host is waited for.
                raise
            except (SessionLost, OperationTimedOut, DiskBusy, HostUnreachable, BlockError) as err:
                if isinstance(err, (DiskBusy, HostUnreachable)) and not backoff.failing:
                    # After a loss both are temporary: the host comes back, and its watchdog releases the disk
                    # that the lost reader holds. Before a loss they are final.
                    raise
                failure = self._violation(err) if isinstance(err, BlockError) else err
                pause = backoff.failed(failure, counts=isinstance(failure, ProtocolViolation))
                logger.warning("reader lost, continuing in %.1f s: %s", pause, failure)
                if exchange is not None:
                    exchange.put_back_owed(queue)
                self._state.count_resumed()
                permit.leave()
                self._state.pause(pause)
            finally:
                if exchange is not None:
                    exchange.close()
                permit.leave()

    def _new_backoff(self) -> Backoff:
        limits = self._retry_limits
        return Backoff(
            limits.first_pause_seconds,
            limits.longest_pause_seconds,
            max_failures=limits.violations,
            give_up_seconds=limits.resume_seconds,
            clock=self._state.clock,
        )

    def _new_exchange(self, source: BlockSource, permit: ReadPermit) -> Exchange:
        stream = BlockStream(
            self._size_bytes,
            self._grid,
            block_bytes=self._settings.block_bytes,
            want_chunk_digests=self._want_chunk_digests,
            allow_deflate=self._settings.deflate,
        )
        return Exchange(
            source,
            stream,
            permit,
            self._state,
            self._budget,
            host=self._host,
            stall_seconds=self._retry_limits.stall_seconds,
        )

    def _violation(self, err: BlockError) -> ProtocolViolation:
        violation = ProtocolViolation(self._host, READ_OPERATION, str(err))
        violation.__cause__ = err
        return violation
