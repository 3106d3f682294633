"""How a host is best read: found out with the first seconds of a read, remembered for the next ones.

The search is greedy: from a sound start one thing after another is tried, and kept only when it brings
clearly more. More pipelines, larger blocks and larger windows cost memory and the host's processor, and
disks do not hold the same everywhere, so a small gain is no reason for them. A host that has just begun is
slow (.NET compiles what runs often), which would speak for whatever is tried later: what won is held against
the start once more. All of it is real reading.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from hvpsbridge.receiver.settings import ReadSettings
from hvpsbridge.units import KIB, MIB

# A setting that costs something must bring this much more.
WORTH = 1.10
# A trial, from its first block on. With eight trials at most a decision takes six seconds.
TRIAL_SECONDS = 0.7
# Less than this is read before it could be measured.
MEASURABLE_BYTES = 256 * MIB
# So often a trial that met nothing but zeros is made again.
EMPTY_TRIALS = 3
# Hosts and links change; then what was measured is wrong.
GOOD_FOR = timedelta(days=7)

START = ReadSettings()
# What is tried, in this order; a ladder is climbed for as long as each rung is worth it.
LADDERS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("pipelines", (2, 4)),
    ("deflate", (False,)),
    ("block_bytes", (256 * KIB, 1 * MIB)),
    ("window_bytes", (8 * MIB,)),
)
# What a remembered figure may be; anything else was not written by us.
BOUNDS = {"pipelines": (1, 8), "block_bytes": (64 * KIB, 16 * MIB), "window_bytes": (256 * KIB, 64 * MIB)}


@dataclass(frozen=True, slots=True)
class TuningWish:
    """What a user decided about reading; None is left to measurement."""

    pipelines: int | None = None
    deflate: bool | None = None
    block_bytes: int | None = None
    window_bytes: int | None = None

    def over(self, settings: ReadSettings) -> ReadSettings:
        """``settings`` with what the user decided."""
        return replace(settings, **dict(self._given()))

    @property
    def decided(self) -> frozenset[str]:
        """Names of what the user decided."""
        return frozenset(name for name, _ in self._given())

    def _given(self) -> Iterator[tuple[str, Any]]:
        for one in fields(self):
            if (value := getattr(self, one.name)) is not None:
                yield one.name, value


class Search:
    """One search (a ``receiver.terms.Tuner``). Pure.

    Args:
        wish: what needs no search.
        start: what is tried first.
    """

    def __init__(self, wish: TuningWish, start: ReadSettings = START) -> None:
        self._start = self._best = wish.over(start)
        self._confirming = False
        self._rate_bytes = 0.0
        self._ladders = [ladder for ladder in LADDERS if ladder[0] not in wish.decided]
        self._rung = 0
        self._empty = 0
        self._trying: ReadSettings | None = self._best if self._ladders else None

    @property
    def settings(self) -> ReadSettings:
        """The best so far."""
        return self._best

    @property
    def rate_bytes(self) -> float:
        """What it brought a second; 0 before it was measured."""
        return self._rate_bytes

    @property
    def trial_seconds(self) -> float:
        """How long one trial is."""
        return TRIAL_SECONDS

    @property
    def done(self) -> bool:
        """Whether all was tried that is to be."""
        return self._trying is None

    def trial(self) -> ReadSettings | None:
        """What to try now; the same until it was measured."""
        return self._trying

    def measured(self, data_bytes: int, seconds: float) -> None:
        """What the trial brought."""
        assert self._trying is not None
        if not data_bytes and self._empty < EMPTY_TRIALS:
            # Zeros travel for nothing and tell nothing.
            self._empty += 1
            return
        self._empty = 0
        rate = data_bytes / seconds
        if self._confirming:
            if self._rate_bytes < rate * WORTH:
                self._best, self._rate_bytes = self._start, rate
            self._trying = None
            return
        worth = rate >= self._rate_bytes * WORTH
        if worth:
            self._best, self._rate_bytes = self._trying, rate
        self._trying = self._next(worth)
        if self._trying is None and self._best != self._start:
            self._confirming, self._trying = True, self._start

    def _next(self, worth: bool) -> ReadSettings | None:
        """The next rung of this ladder when the last one was worth it, else the next ladder's first."""
        while self._ladders:
            name, rungs = self._ladders[0]
            if (worth or not self._rung) and self._rung < len(rungs):
                self._rung += 1
                return replace(self._best, **{name: rungs[self._rung - 1]})
            self._ladders.pop(0)
            self._rung = 0
        return None


@dataclass(frozen=True, slots=True)
class Learned:
    """What was found out about a host.

    Attributes:
        settings: how it is best read.
        rate_bytes: what that brought a second, when it was measured.
        measured: when, UTC.
    """

    settings: ReadSettings
    rate_bytes: float
    measured: datetime


class TuningStore(Protocol):
    """Where what was learned outlives a run."""

    def load(self) -> dict[str, Learned]:
        """All that is known, by host; empty when there is nothing, or nothing that can be read."""
        ...

    def save(self, host: str, learned: Learned) -> None:
        """Remember one host. Never raises: it is measured again at worst."""
        ...


class TuningBook:
    """What a run knows about its hosts. Thread-safe.

    One read of a host measures at a time: two would measure each other.

    Args:
        store: where it is remembered; without one it is forgotten after the run.
        clock: the time, UTC.
        measures: whether a host that is not known is measured.
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

    def begin(self, host: str, wish: TuningWish, owed_bytes: int) -> tuple[ReadSettings, Search | None]:
        """How to read ``owed_bytes`` of a host, and the search when it is to be found out.

        Whoever is given a search ends with :meth:`end`.
        """
        key = host.casefold()
        with self._lock:
            if self._known is None:
                self._known = {} if self._store is None else self._store.load()
            learned = self._known.get(key)
            now = self._clock()
            if learned is not None and timedelta() <= now - learned.measured < GOOD_FOR:
                return wish.over(learned.settings), None
            search = Search(wish)
            if search.done or not self._measures or owed_bytes < MEASURABLE_BYTES or key in self._measuring:
                return search.settings, None
            self._measuring.add(key)
            return search.settings, search

    def end(self, host: str, search: Search, wish: TuningWish) -> None:
        """Remember what a search found, when it came to its end and nothing was decided for it."""
        key = host.casefold()
        with self._lock:
            self._measuring.discard(key)
            if not search.done or wish.decided or not search.rate_bytes:
                return
            learned = Learned(search.settings, search.rate_bytes, self._clock())
            assert self._known is not None
            self._known[key] = learned
        if self._store is not None:
            self._store.save(key, learned)
