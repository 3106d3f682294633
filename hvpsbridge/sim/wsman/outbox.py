"""Fragments that wait for a Receive, with backpressure.

An engine adds fragments in one thread, Receives take them in others. A lane is the queue of one pipeline, or
of the shell itself (key ``None``). ``put`` blocks while its lane has more than ``soft_bytes``: the engine
stops reading from its process, which then waits. All pipelines of a process share one pipe, so a full lane
would starve the others. While a Receive of another lane waits, a lane may grow to ``hard_bytes``.
"""

from __future__ import annotations

import binascii
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition

from hvpsbridge.units import MIB

SOFT_BYTES = 4 * MIB
HARD_BYTES = 64 * MIB
# The rest of an unfinished object comes at once. Waiting for it fills the envelope instead of sending one
# fragment per reply.
GATHER_SECONDS = 0.02
# How often a waiting Receive checks its client's connection.
LOOK_SECONDS = 0.5

_FRAGMENT_HEAD = struct.Struct(">QQBI")
_MESSAGE_TYPE = struct.Struct("<I")
_START, _END = 1, 2
_PIPELINE_STATE = 0x00041006
# 21 bytes of fragment head, 8 of message head; 40 base64 characters hold 30.
_PEEK_CHARS = 40
# PSInvocationState: Stopped, Completed, Failed.
_FINAL_STATES = (b">3<", b">4<", b">5<")


class ShellBroken(Exception):
    """The engine behind the shell is gone."""


class Superseded(Exception):
    """A later Receive took over the lane, or the lane was closed."""


class ClientGone(Exception):
    """The client has disconnected."""


@dataclass(slots=True, kw_only=True)
class _Lane:
    fragments: deque[bytes | memoryview] = field(default_factory=deque)
    waiting_bytes: int = 0
    complete: bool = True
    state_object: int | None = None
    done: bool = False
    ticket: int = 0
    wanted_bytes: int = 0


class Outbox:
    """All lanes of one shell. Keys are lower-case pipeline ids; ``None`` is the shell."""

    def __init__(self, *, soft_bytes: int = SOFT_BYTES, hard_bytes: int = HARD_BYTES) -> None:
        self._soft_bytes = soft_bytes
        self._hard_bytes = hard_bytes
        self._lanes: dict[str | None, _Lane] = {None: _Lane()}
        self._changed = Condition()
        self._broken: str | None = None
        self.peak_bytes = 0

    def open(self, key: str) -> None:
        """Add the lane of a pipeline."""
        with self._changed:
            self._lanes[key] = _Lane()

    def close(self, key: str) -> None:
        """Forget a pipeline's lane; what still comes for it is dropped."""
        with self._changed:
            self._lanes.pop(key, None)
            self._changed.notify_all()

    def fail(self, reason: str) -> None:
        """The engine has ended: Receives fail once their lane is empty."""
        with self._changed:
            if self._broken is None:
                self._broken = reason
            self._changed.notify_all()

    @property
    def broken(self) -> str | None:
        """Why the engine ended; None while it runs."""
        return self._broken

    def is_done(self, key: str) -> bool:
        """Whether the pipeline's final state has arrived, or the lane does not exist."""
        with self._changed:
            lane = self._lanes.get(key)
            return lane is None or lane.done

    def put(self, key: str | None, fragment: bytes | memoryview) -> None:
        """Queue one fragment (base64). Blocks while the lane is full."""
        with self._changed:
            lane = self._lanes.get(key)
            if lane is None or self._broken is not None:
                return
            lane.fragments.append(fragment)
            lane.waiting_bytes += len(fragment)
            self.peak_bytes = max(self.peak_bytes, lane.waiting_bytes)
            _follow(lane, fragment)
            if lane.complete or lane.waiting_bytes >= lane.wanted_bytes:
                self._changed.notify_all()
            while self._must_wait(key, lane):
                self._changed.wait()

    def _must_wait(self, key: str | None, lane: _Lane) -> bool:
        if lane.waiting_bytes <= self._soft_bytes or self._broken is not None:
            return False
        if self._lanes.get(key) is not lane:
            return False
        starving = any(
            other.wanted_bytes and not other.fragments for other in self._lanes.values() if other is not lane
        )
        return not starving or lane.waiting_bytes > self._hard_bytes

    def take(
        self,
        key: str | None,
        *,
        limit_bytes: int,
        overhead_bytes: int,
        enough_bytes: int,
        timeout_seconds: float,
        alive: Callable[[], bool],
    ) -> tuple[list[bytes | memoryview], bool]:
        """Fragments of a lane, oldest first, and whether they end the pipeline.

        Args:
            key: the lane.
            limit_bytes: maximum size; at least one fragment is returned.
            overhead_bytes: additional size of each fragment.
            enough_bytes: content of fragments after which no further one is added.
            timeout_seconds: how long to wait for the first fragment.
            alive: whether the waiting client is still connected.

        Raises:
            KeyError: there is no such lane.
            TimeoutError: no fragment arrived in time.
            ShellBroken: the engine is gone and the lane is empty.
            Superseded: a later Receive took over, or the lane was closed.
            ClientGone: the client disconnected.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            lane = self._lanes[key]
            lane.ticket += 1
            ticket = lane.ticket
            lane.wanted_bytes = 1
            self._changed.notify_all()
            try:
                while not lane.fragments and not lane.done:
                    if self._broken is not None:
                        raise ShellBroken(self._broken)
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        raise TimeoutError
                    self._changed.wait(min(remaining, LOOK_SECONDS))
                    self._check(key, lane, ticket, alive)
                self._gather(key, lane, ticket, limit_bytes, enough_bytes, overhead_bytes, alive)
                taken = _pop(lane, limit_bytes, enough_bytes, overhead_bytes)
            finally:
                if lane.ticket == ticket:
                    lane.wanted_bytes = 0
            self._changed.notify_all()
            return taken, lane.done and not lane.fragments

    def _gather(
        self,
        key: str | None,
        lane: _Lane,
        ticket: int,
        limit_bytes: int,
        enough_bytes: int,
        overhead_bytes: int,
        alive: Callable[[], bool],
    ) -> None:
        """Wait briefly for the rest of an unfinished object, to fill the reply."""
        deadline = time.monotonic() + GATHER_SECONDS
        lane.wanted_bytes = limit_bytes
        while (
            not lane.complete
            and self._broken is None
            and _content_bytes(lane.waiting_bytes) < enough_bytes
            and lane.waiting_bytes + len(lane.fragments) * overhead_bytes < limit_bytes
        ):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            self._changed.wait(remaining)
            self._check(key, lane, ticket, alive)

    def _check(self, key: str | None, lane: _Lane, ticket: int, alive: Callable[[], bool]) -> None:
        if lane.ticket != ticket or self._lanes.get(key) is not lane:
            raise Superseded
        if not alive():
            raise ClientGone


def _content_bytes(base64_length: int) -> int:
    """About how many bytes a text in base64 stands for."""
    return base64_length * 3 // 4


def _pop(lane: _Lane, limit_bytes: int, enough_bytes: int, overhead_bytes: int) -> list[bytes | memoryview]:
    taken: list[bytes | memoryview] = []
    size = content = 0
    while lane.fragments and content < enough_bytes:
        size += len(lane.fragments[0]) + overhead_bytes
        content += _content_bytes(len(lane.fragments[0]))
        if taken and size > limit_bytes:
            break
        fragment = lane.fragments.popleft()
        lane.waiting_bytes -= len(fragment)
        taken.append(fragment)
    return taken


def _follow(lane: _Lane, fragment: bytes | memoryview) -> None:
    """Find out from a fragment whether an object is unfinished and whether the pipeline has ended."""
    head = binascii.a2b_base64(fragment[:_PEEK_CHARS])
    object_id, _, flags, _ = _FRAGMENT_HEAD.unpack_from(head)
    if flags & _START:
        (kind,) = _MESSAGE_TYPE.unpack_from(head, _FRAGMENT_HEAD.size + 4)
        if kind == _PIPELINE_STATE and _is_final(binascii.a2b_base64(fragment)):
            lane.state_object = object_id
    lane.complete = bool(flags & _END)
    if lane.complete and lane.state_object == object_id:
        lane.done = True


def _is_final(message: bytes) -> bool:
    at = message.find(b'N="PipelineState"')
    return at >= 0 and message[at + 17 : at + 20] in _FINAL_STATES
