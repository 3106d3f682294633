"""Faults of an engine's output: blocks of a disk that are lost, doubled, swapped, altered or cut.

Sits between an engine and a shell's outbox. Fragments pass through until a fault is armed; then the fragments
of one object are held back until it is complete, and the object is tampered with.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from hvpsbridge.sim.faults import WireFaults
from hvpsbridge.sim.wsman.outbox import Outbox

OUTPUT = "output"
_HEAD = struct.Struct(">QQBI")
_START, _END = 1, 2
_BLOCK = b'<BA N="Block">'
_BLOCK_END = b"</BA>"
# Position of a base64 character of the block's SHA-256 (bytes 32 to 63), and of one of its content, from the
# end.
_DIGEST_CHAR = 60
_CONTENT_FROM_END = 8


@dataclass(slots=True)
class _Lane:
    held: list[bytes | memoryview] = field(default_factory=list)
    waiting: list[bytes | memoryview] = field(default_factory=list)


class TamperingSink:
    """A sink in front of an outbox that carries out ``block_*`` faults."""

    def __init__(self, outbox: Outbox, faults: WireFaults) -> None:
        self._outbox = outbox
        self._faults = faults
        self._lanes: dict[str, _Lane] = {}

    def put(self, key: str | None, fragment: bytes | memoryview) -> None:
        """Pass a fragment on, or hold it back to tamper with its object."""
        if key is None or not (self._faults.any_armed or key in self._lanes):
            self._outbox.put(key, fragment)
            return
        lane = self._lanes.setdefault(key, _Lane())
        _, _, flags, _ = _HEAD.unpack_from(base64.b64decode(fragment[:28]))
        if not flags & _START and not lane.held:
            # The rest of an object whose beginning has already been passed on.
            self._outbox.put(key, fragment)
            return
        lane.held.append(fragment)
        if not flags & _END:
            return
        whole, lane.held = lane.held, []
        for part in self._objects(lane, whole):
            self._outbox.put(key, part)
        if not lane.waiting:
            del self._lanes[key]

    def fail(self, reason: str) -> None:
        """The engine has ended."""
        self._outbox.fail(reason)

    def _objects(self, lane: _Lane, whole: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        number, message = _message(whole)
        if _BLOCK not in message:
            # States and errors come last: nothing may be held back beyond them.
            yield from lane.waiting
            lane.waiting = []
            yield from whole
            return
        late, lane.waiting = lane.waiting, []
        fault = None if late else self._faults.fire(OUTPUT, "block")
        match fault.name if fault else None:
            case None:
                yield from whole
            case "block_lost":
                pass
            case "block_doubled":
                yield from whole
                # With a new object id, as from a sender that repeats itself.
                yield from _fragments(number + (1 << 40), message)
            case "block_reordered":
                lane.waiting = whole
            case "block_altered":
                yield from _fragments(number, _altered(message, content=True))
            case "block_wrong_digest":
                yield from _fragments(number, _altered(message, content=False))
            case "block_truncated":
                yield from _fragments(number, _truncated(message))
        yield from late


def _message(fragments: list[bytes | memoryview]) -> tuple[int, bytes]:
    parts = [base64.b64decode(fragment) for fragment in fragments]
    return _HEAD.unpack_from(parts[0])[0], b"".join(part[_HEAD.size :] for part in parts)


def _fragments(number: int, message: bytes) -> Iterator[bytes]:
    size = 32768 - _HEAD.size
    for index, start in enumerate(range(0, len(message), size)):
        part = message[start : start + size]
        flags = (_START if not start else 0) | (_END if start + size >= len(message) else 0)
        yield base64.b64encode(_HEAD.pack(number, index, flags, len(part)) + part)


def _altered(message: bytes, *, content: bool) -> bytes:
    start = message.index(_BLOCK) + len(_BLOCK)
    end = message.index(_BLOCK_END, start)
    at = end - _CONTENT_FROM_END if content else start + _DIGEST_CHAR
    # Another base64 character changes at least one bit.
    other = b"A" if message[at : at + 1] != b"A" else b"B"
    return message[:at] + other + message[at + 1 :]


def _truncated(message: bytes) -> bytes:
    start = message.index(_BLOCK) + len(_BLOCK)
    end = message.index(_BLOCK_END, start)
    # Whole groups of four characters keep the base64 valid.
    half = start + (end - start) // 8 * 4
    return message[:half] + message[end:]
