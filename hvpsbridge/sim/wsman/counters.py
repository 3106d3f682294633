"""Counts what clients request and what the host sends, independently of the client and the engine."""

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
_READ = "Read-HvpsExtent"
_OPERATION = re.compile(rb"# hvps operation=([A-Za-z-]+) contract=")
_PATH = re.compile(rb'<S N="N">-?Path:?</S><S N="V">([^<]*)</S>')
_BYTES = re.compile(rb"<BA(?: [^>]*)?>([A-Za-z0-9+/=]+)</BA>")


@dataclass(slots=True)
class Asked:
    """Requests of one reader pipeline."""

    path: str = ""
    requests: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class _Pipeline:
    operation: str = ""
    buffer: bytearray = field(default_factory=bytearray)
    created: bool = False
    asked: Asked = field(default_factory=Asked)


class Counters:
    """Counters of one host since its start. Thread-safe.

    Attributes:
        requests: WSMan requests by the last word of the action, including those that ended with a fault.
        faults: WSMan faults by code.
        sent_bytes: bytes of HTTP bodies that were sent completely, by action.
        received_bytes: bytes of HTTP bodies received.
        operations: pipelines by operation; scripts that are not of hvps are ``?``.
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
        """Count a request and its reply."""
        with self._lock:
            self.requests[action] += 1
            self.received_bytes += received_bytes
            self.sent_bytes[action] += sent_bytes

    def faulted(self, code: int) -> None:
        """Count a fault."""
        with self._lock:
            self.faults[code] += 1

    def started(self, key: str, fragments: bytes) -> None:
        """Count a pipeline, from the fragments (base64) that start it."""
        with self._lock:
            self._pipelines[key] = _Pipeline()
        self.fed(key, fragments)

    def fed(self, key: str, fragments: bytes) -> None:
        """Count further fragments (base64) for a pipeline."""
        with self._lock:
            pipeline = self._pipelines.get(key)
            if pipeline is None or (pipeline.created and pipeline.operation != _READ):
                return  # what others read is not counted
            for part in _messages(pipeline.buffer, base64.b64decode(fragments)):
                if not pipeline.created:
                    pipeline.created = True
                    self._create(pipeline, part)
                elif pipeline.operation == _READ:
                    _take_input(pipeline.asked, part)

    def ended(self, key: str) -> None:
        """Forget a pipeline that has ended."""
        with self._lock:
            self._pipelines.pop(key, None)

    def _create(self, pipeline: _Pipeline, message: bytes) -> None:
        found = _OPERATION.search(message)
        pipeline.operation = found[1].decode() if found else "?"
        self.operations[pipeline.operation] += 1
        if pipeline.operation == _READ:
            path = _PATH.search(message)
            pipeline.asked.path = unescape(path[1].decode()) if path else ""
            self._readers.append(pipeline.asked)

    def snapshot(self) -> dict[str, Any]:
        """All counters as JSON values. ``asked_bytes`` has paths as the client wrote them."""
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
        """Bytes of disk that readers requested, including repetitions, for one path or all."""
        with self._lock:
            return sum(
                extent.length
                for asked in self._readers
                if path is None or asked.path.lower() == path.lower()
                for request in asked.requests
                for extent in request.extents
            )

    def asked_extents(self, path: str | None = None) -> tuple[Extent, ...]:
        """Extents that readers requested, in the order of the requests, for one path or all."""
        with self._lock:
            return tuple(
                extent
                for asked in self._readers
                if path is None or asked.path.lower() == path.lower()
                for request in asked.requests
                for extent in request.extents
            )


def _messages(buffer: bytearray, data: bytes) -> list[bytes]:
    """Complete messages in fragments; the rest remains in ``buffer``."""
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
