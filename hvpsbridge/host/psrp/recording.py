"""Records the exchanges with a host as shapes: sizes, order, times, states and types, but no values.

An exchange is recorded before it is encrypted and after it was decrypted. Text is replaced by its length,
unless the element is known to hold a word of the protocol. So no password, name or content of a disk is
recorded.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.etree import ElementTree

from hvpsbridge.units import MIB

FILE_NAME = "exchanges.jsonl"
VERSION = 1
# Enough to see every kind of exchange; a soak would fill the disk.
MAX_BYTES = 64 * MIB
# Bodies of blocks are counted, not parsed.
MAX_PARSED_BYTES = 256 * 1024


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements whose text is a word or a number of WSMan, SOAP or CLIXML.
_WORDS = _names(
    "Action MaxEnvelopeSize OperationTimeout IdleTimeOut MaxIdleTimeOut IdleTimeout State ExitCode Value "
    "InputStreams OutputStreams BufferMode CompressionMode ResourceURI T I32 I64 U32 U64 By B Db"
)
# Properties of error records and states that name a kind.
_NAMED_WORDS = _names(
    "FullyQualifiedErrorId ErrorCategory_Category ErrorCategory_Reason PipelineState RunspaceState "
    "PSVersion protocolversion SerializationVersion"
)
_ATTRIBUTES = _names("N Name End Code State mustUnderstand MustComply SequenceLevel RefId Version lang")
_FRAGMENT = struct.Struct(">QQBI")
# Type, destination, runspace pool and pipeline of a PSRP message.
_MESSAGE_HEAD_BYTES = 40


class WireRecorder:
    """Writes exchanges into a folder, one line of JSON each. Thread-safe. Use as a context manager.

    Attributes:
        largest_reply_bytes: size of the largest reply so far.

    Args:
        folder: created if missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / FILE_NAME).open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._written = 0
        self.largest_reply_bytes = 0
        self._write({"recording": VERSION})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._file.close()

    def exchange(self, request: bytes, reply: bytes, seconds: float, status: int) -> None:
        """Record one exchange. Never raises.

        Args:
            request: body of the request.
            reply: body of the reply.
            seconds: from the request to the end of the reply.
            status: HTTP status of the reply.
        """
        ended = time.monotonic() - self._started
        self.largest_reply_bytes = max(self.largest_reply_bytes, len(reply))
        try:
            line = {
                "at": round(ended - seconds, 4),
                "seconds": round(seconds, 4),
                "status": status,
                "request": _body(request),
                "reply": _body(reply),
            }
        except Exception as err:  # noqa: BLE001 - a recording never ends what it records
            line = {"at": round(ended, 4), "unreadable": type(err).__name__}
        self._write(line)

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":"))
        with self._lock:
            if self._file.closed or self._written > MAX_BYTES:
                return
            self._written += len(text)
            self._file.write(text + "\n")
            self._file.flush()


def _body(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_PARSED_BYTES or not body:
        return {"bytes": len(body)}
    root = ElementTree.fromstring(body)  # noqa: S314 - checked by safe_xml before, like every reply
    return {"bytes": len(body), "shape": shape(root)}


def shape(element: ElementTree.Element) -> list[Any]:
    """An element as ``[name, attributes, text or length, children]``; empty parts are left out."""
    name = element.tag.rpartition("}")[2]
    found: list[Any] = [name]
    attributes = {
        key.rpartition("}")[2]: value
        for key, value in element.attrib.items()
        if key.rpartition("}")[2] in _ATTRIBUTES
    }
    if attributes:
        found.append(attributes)
    text = (element.text or "").strip()
    if text and name in ("Stream", "Arguments", "creationXml"):
        found.append({"base64": len(text), "messages": list(_messages(text))})
    elif text and (name in _WORDS or attributes.get("N") in _NAMED_WORDS):
        found.append(text[:200])
    elif text:
        found.append(f"#{len(text)}")
    children = [shape(child) for child in element]
    if children:
        found.append(children)
    return found


def _messages(text: str) -> Iterator[dict[str, Any]]:
    """The PSRP fragments in a stream; a message that is in it as a whole with its shape."""
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return
    position = 0
    while position + _FRAGMENT.size <= len(data):
        _, number, flags, length = _FRAGMENT.unpack_from(data, position)
        position += _FRAGMENT.size
        blob = data[position : position + length]
        position += length
        found: dict[str, Any] = {"fragment": number, "flags": flags, "bytes": length}
        if number == 0 and len(blob) >= _MESSAGE_HEAD_BYTES:
            found["type"] = f"0x{int.from_bytes(blob[4:8], 'little'):08X}"
            if flags & 3 == 3:
                found |= _clixml(blob[_MESSAGE_HEAD_BYTES:])
        yield found


def _clixml(data: bytes) -> dict[str, Any]:
    try:
        return {"shape": shape(ElementTree.fromstring(data.removeprefix(b"\xef\xbb\xbf")))}  # noqa: S314
    except ElementTree.ParseError:
        return {}
