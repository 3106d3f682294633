"""How best to read a host: measured in the first seconds of a read, and remembered for the next ones.

The search is greedy: starting from sound settings, it tries one change after another and keeps those that
are clearly faster. More pipelines, larger blocks and larger windows cost memory and processor time on the
host, and disks hold different data in different places, so a small gain does not count. A host is slow at
first (.NET compiles code that runs often), which favours whatever is tried later; so the winner is compared
with the start once more. All trials read data that the backup needs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from hvpsbridge.receiver.settings import ReadSettings
from hvpsbridge.tasks.policy import TuningOptions
from hvpsbridge.units import KIB, MIB

# How many times faster a change must be to be kept.
MIN_GAIN = 1.10
# Length of a trial from its first block on. With at most eight trials the search takes six seconds.
TRIAL_SECONDS = 0.7
# A smaller read would end before the search does.
MEASURABLE_BYTES = 256 * MIB
# How often a trial that read nothing but zeros is repeated.
MAX_EMPTY_TRIALS = 3
# Hosts and links change, so what was learned expires.
GOOD_FOR = timedelta(days=7)

START = ReadSettings()
# What is tried, in this order; a ladder is climbed for as long as each rung is faster.
LADDERS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("pipelines", (2, 4)),
    ("deflate", (False,)),
    ("block_bytes", (256 * KIB, 1 * MIB)),
    ("window_bytes", (8 * MIB,)),
)
# Bounds of remembered settings; anything else was not written by hvps.
BOUNDS = {"pipelines": (1, 8), "block_bytes": (64 * KIB, 16 * MIB), "window_bytes": (256 * KIB, 64 * MIB)}


class Search:
    """One search; a :class:`~hvpsbridge.receiver.protocols.Tuner`. Pure.

    Args:
        options: settings that the user decided, which are not searched.
        start: settings to try first.
    """

    def __init__(self, options: TuningOptions, start: ReadSettings = START) -> None:
        self._start = self._best = options.over(start)
        self._confirming = False
        self._rate_bytes = 0.0
        self._ladders = [ladder for ladder in LADDERS if ladder[0] not in options.decided]
        self._rung = 0
        self._empty = 0
        self._trying: ReadSettings | None = self._best if self._ladders else None

    @property
    def settings(self) -> ReadSettings:
        """The best settings so far."""
        return self._best

    @property
    def rate_bytes(self) -> float:
        """Bytes per second with the best settings; 0 before they were measured."""
        return self._rate_bytes

    @property
    def trial_seconds(self) -> float:
        """Length of one trial."""
        return TRIAL_SECONDS

    @property
    def done(self) -> bool:
        """Whether the search has ended."""
        return self._trying is None

    def trial(self) -> ReadSettings | None:
        """Settings to try now, the same until they were measured; None when the search has ended."""
        return self._trying

    def measured(self, data_bytes: int, seconds: float) -> None:
        """Take the result of the trial."""
        assert self._trying is not None
        if not data_bytes and self._empty < MAX_EMPTY_TRIALS:
            # Zeros are not sent, so there was nothing to measure.
            self._empty += 1
            return
        self._empty = 0
        rate = data_bytes / seconds
        if self._confirming:
            if self._rate_bytes < rate * MIN_GAIN:
                self._best, self._rate_bytes = self._start, rate
            self._trying = None
            return
        faster = rate >= self._rate_bytes * MIN_GAIN
        if faster:
            self._best, self._rate_bytes = self._trying, rate
        self._trying = self._next(faster)
        if self._trying is None and self._best != self._start:
            self._confirming, self._trying = True, self._start

    def _next(self, faster: bool) -> ReadSettings | None:
        """The next rung of this ladder if the last one was faster, else the first one of the next ladder."""
        while self._ladders:
            name, rungs = self._ladders[0]
            if (faster or not self._rung) and self._rung < len(rungs):
                self._rung += 1
                return replace(self._best, **{name: rungs[self._rung - 1]})
            self._ladders.pop(0)
            self._rung = 0
        return None


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned about a host.

    Attributes:
        settings: the best ones.
        rate_bytes: bytes per second with these settings.
        measured: when, UTC.
    """

    settings: ReadSettings
    rate_bytes: float
    measured: datetime


class TuningStore(Protocol):
    """Keeps what was learned from one run to the next."""

    def load(self) -> dict[str, Learned]:
        """What is known by host; empty if nothing is, or it cannot be read."""
        ...

    def save(self, host: str, learned: Learned) -> None:
        """Remember one host. Never raises: at worst, the host is measured again."""
        ...


class TuningBook:
    """What a run knows about its hosts. Thread-safe.

    Only one read of a host is measured at a time; two would disturb each other.

    Args:
        store: keeps it for later runs; None to forget it after this one.
        clock: the time, UTC.
        measures: whether unknown hosts are measured.
    """

    def __init__(
        self,
        store: TuningStore | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        measures: bool = True,
    ) -> None:
        self._measures = measures
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, Learned] | None = None
        self._measuring: set[str] = set()

    def begin(self, host: str, options: TuningOptions, owed_bytes: int) -> tuple[ReadSettings, Search | None]:
        """How to read ``owed_bytes`` from a host: settings, and a search if they are to be measured.

        A caller that gets a search must call :meth:`end`.
        """
        key = host.casefold()
        with self._lock:
            if self._known is None:
                self._known = {} if self._store is None else self._store.load()
            learned = self._known.get(key)
            now = self._clock()
            if learned is not None and timedelta() <= now - learned.measured < GOOD_FOR:
                return options.over(learned.settings), None
            search = Search(options)
            if search.done or not self._measures or owed_bytes < MEASURABLE_BYTES or key in self._measuring:
                return search.settings, None
            self._measuring.add(key)
            return search.settings, search

    def end(self, host: str, search: Search, options: TuningOptions) -> None:
        """Remember what a search found, if it ended and searched all settings."""
        key = host.casefold()
        with self._lock:
            self._measuring.discard(key)
            if not search.done or options.decided or not search.rate_bytes:
                return
            learned = Learned(search.settings, search.rate_bytes, self._clock())
            assert self._known is not None
            self._known[key] = learned
        if self._store is not None:
            self._store.save(key, learned)
