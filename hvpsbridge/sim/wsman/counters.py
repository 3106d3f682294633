"""What a host was asked for and what it sent, for tests and benchmarks that must not trust the client.

Requests of reader pipelines are recognised in what clients send, whichever engine answers them.
"""

from __future__ import annotations

import base64
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from xml.sax.saxutils import unescape

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import BlockError, Request

_HEAD = struct.Struct(">QQBI")
_END = 2
_OPERATION = re.compile(rb"# hvps operation=([A-Za-z-]+) contract=")
_PATH = re.compile(rb'<S N="N">-?Path:?</S><S N="V">([^<]*)</S>')
_BYTES = re.compile(rb"<BA(?: [^>]*)?>([A-Za-z0-9+/=]+)</BA>")


@dataclass(slots=True)
class Asked:
    """What one reader pipeline was asked for."""

    path: str = ""
    requests: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class _Pipeline:
    operation: str = ""
    buffer: bytearray = field(default_factory=bytearray)
    created: bool = False
    asked: Asked = field(default_factory=Asked)


class Counters:
    """Figures of one host since it was started. Thread-safe.

    Attributes:
        requests: WSMan requests by action's last word, faults included.
        faults: WSMan faults by code.
        sent_bytes: HTTP bodies sent whole, by action.
        received_bytes: HTTP bodies received.
        operations: pipelines started, by operation; other scripts are ``?``.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.requests: Counter[str] = Counter()
        self.faults: Counter[int] = Counter()
        self.sent_bytes: Counter[str] = Counter()
        self.received_bytes = 0
        self.operations: Counter[str] = Counter()
        self._pipelines: dict[str, _Pipeline] = {}
        self._readers: list[Asked] = []

    def answered(self, action: str, received_bytes: int, sent_bytes: int) -> None:
        """A request was answered."""
        with self._lock:
            self.requests[action] += 1
            self.received_bytes += received_bytes
            self.sent_bytes[action] += sent_bytes

    def faulted(self, code: int) -> None:
        """A request was answered with a fault."""
        with self._lock:
            self.faults[code] += 1

    def started(self, key: str, fragments: bytes) -> None:
        """A pipeline was started with these fragments (base64)."""
        with self._lock:
            self._pipelines[key] = _Pipeline()
        self.fed(key, fragments)

    def fed(self, key: str, fragments: bytes) -> None:
        """A pipeline was sent these fragments (base64)."""
        with self._lock:
            pipeline = self._pipelines.get(key)
            if pipeline is None:
                return
            for part in _messages(pipeline.buffer, base64.b64decode(fragments)):
                if not pipeline.created:
                    pipeline.created = True
                    self._create(pipeline, part)
                elif pipeline.operation == "Read-HvpsExtent":
                    _take_input(pipeline.asked, part)

    def ended(self, key: str) -> None:
        """A pipeline is over."""
        with self._lock:
            self._pipelines.pop(key, None)

    def _create(self, pipeline: _Pipeline, message: bytes) -> None:
        found = _OPERATION.search(message)
        pipeline.operation = found[1].decode() if found else "?"
        self.operations[pipeline.operation] += 1
        if pipeline.operation == "Read-HvpsExtent":
            path = _PATH.search(message)
            pipeline.asked.path = unescape(path[1].decode()) if path else ""
            self._readers.append(pipeline.asked)

    def snapshot(self) -> dict[str, Any]:
        """All figures as plain JSON values; ``asked_bytes`` by path as the client wrote it."""
        asked: Counter[str] = Counter()
        with self._lock:
            for reader in self._readers:
                asked[reader.path] += sum(
                    extent.length for request in reader.requests for extent in request.extents
                )
            return {
                "requests": dict(self.requests),
                "faults": {str(code): count for code, count in self.faults.items()},
                "sent_bytes": dict(self.sent_bytes),
                "received_bytes": self.received_bytes,
                "operations": dict(self.operations),
                "asked_bytes": dict(asked),
            }

    def asked_bytes(self, path: str | None = None) -> int:
        """Bytes of disk asked for by reader requests, repetitions counted, of one path or all."""
        with self._lock:
            return sum(
                extent.length
                for asked in self._readers
                if path is None or asked.path.lower() == path.lower()
                for request in asked.requests
                for extent in request.extents
            )

    def asked_extents(self, path: str | None = None) -> tuple[Extent, ...]:
        """Extents asked for by reader requests, in the order they came, of one path or all."""
        with self._lock:
            return tuple(
                extent
                for asked in self._readers
                if path is None or asked.path.lower() == path.lower()
                for request in asked.requests
                for extent in request.extents
            )


def _messages(buffer: bytearray, data: bytes) -> list[bytes]:
    """Whole messages in fragments; what is unfinished stays in ``buffer``."""
    found: list[bytes] = []
    position = 0
    while position + _HEAD.size <= len(data):
        _, _, flags, length = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        buffer += data[position : position + length]
        position += length
        if flags & _END:
            found.append(bytes(buffer))
            buffer.clear()
    return found


def _take_input(asked: Asked, message: bytes) -> None:
    for encoded in _BYTES.findall(message):
        try:
            asked.requests.append(Request.unpack(base64.b64decode(encoded)))
        except BlockError:
            continue
