"""Writing packs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hvpsbridge.formats.chunk import Frame
from hvpsbridge.formats.envelope import Kind, Seal
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.pack import PackEntry, encode_footer, frame_check, pack_head, pack_trailer
from hvpsbridge.repository import compression
from hvpsbridge.repository.layout import pack_name, random_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stores.base import Sink
from hvpsbridge.units import MIB

# A pack is closed when it reaches this size; the last frame may exceed it a little.
PACK_BYTES = 32 * MIB
# A pack of chunks that compress to almost nothing would have very many entries; 16 Ki entries make a footer
# of 720 KiB.
PACK_ENTRIES = 16384


class StoredFrame(NamedTuple):
    """A frame as it is stored, in parts, and its checksum."""

    identity: bytes
    raw_bytes: int
    parts: tuple[bytes | memoryview, ...]
    check: bytes


@dataclass(slots=True)
class _OpenPack:
    name: bytes
    kind: Kind
    sink: Sink
    size_bytes: int
    entries: list[PackEntry] = field(default_factory=list)


class PackWriter:
    """Writes frames of one kind to packs. Thread-safe; the thread that fills a pack publishes it.

    Args:
        objects: store and sealer.
        kind: DATA_PACK or NODE_PACK.
        published: called with each pack when it is in the store, from any thread.
    """

    def __init__(self, objects: Objects, kind: Kind, published: Callable[[IndexedPack], None]) -> None:
        self._objects = objects
        self._kind = kind
        self._published = published
        self._lock = threading.Lock()
        self._open: _OpenPack | None = None

    def add(self, identity: bytes, raw: bytes | memoryview, level: int) -> int:
        """Store ``raw`` under ``identity``; how many bytes that takes."""
        return self.append_all([self.encoded(identity, raw, level)])[0]

    def append(self, identity: bytes, raw_bytes: int, *stored: bytes | memoryview) -> int:
        """Add a frame as it is stored, given in one or more parts; how many bytes it has."""
        return self.append_all([self._stored(identity, raw_bytes, stored)])[0]

    def encoded(self, identity: bytes, raw: bytes | memoryview, level: int) -> StoredFrame:
        """The frame of ``raw`` for :meth:`append_all`, compressed and encrypted in the calling thread."""
        codec, body = compression.compress(raw, level)
        frame = Frame(
            id=identity,
            kind=self._kind,
            codec=codec,
            seal=Seal.PLAIN,
            epoch=0,
            raw_bytes=len(raw),
            stored_bytes=len(body),
        )
        frame, body = self._objects.sealer.seal_frame(frame, body)
        return self._stored(identity, len(raw), (frame.pack(), body))

    def _stored(self, identity: bytes, raw_bytes: int, parts: tuple[bytes | memoryview, ...]) -> StoredFrame:
        # A pack of version 1 has no checksums.
        check = frame_check(*parts) if self._objects.format > 1 else b""
        return StoredFrame(identity, raw_bytes, parts, check)

    def append_all(self, frames: Sequence[StoredFrame]) -> list[int]:
        """Add frames one after another; how many bytes each has."""
        full: list[_OpenPack] = []
        added: list[int] = []
        with self._lock:
            unwritten: list[bytes | memoryview] = []
            for identity, raw_bytes, parts, check in frames:
                pack = self._open or self._begin()
                unwritten += parts
                frame_bytes = sum(map(len, parts))
                pack.entries.append(PackEntry(identity, pack.size_bytes, frame_bytes, raw_bytes, check))
                pack.size_bytes += frame_bytes
                added.append(frame_bytes)
                if pack.size_bytes >= PACK_BYTES or len(pack.entries) >= PACK_ENTRIES:
                    pack.sink.write_all(unwritten)
                    unwritten = []
                    full.append(pack)
                    self._open = None
            if unwritten and self._open is not None:
                self._open.sink.write_all(unwritten)
        for pack in full:
            self._publish(pack)
        return added

    def flush(self) -> None:
        """Publish the open pack, if there is one."""
        with self._lock:
            last, self._open = self._open, None
        if last is not None:
            self._publish(last)

    def abandon(self) -> None:
        """Discard the open pack, if there is one."""
        with self._lock:
            last, self._open = self._open, None
        if last is not None:
            last.sink.abandon()

    def _begin(self) -> _OpenPack:
        name = random_name()
        sink = self._objects.store.sink(pack_name(self._kind, name))
        head = pack_head(self._kind, self._objects.format)
        sink.write(head)
        self._open = _OpenPack(name, self._kind, sink, len(head))
        return self._open

    def _publish(self, pack: _OpenPack) -> None:
        name = pack_name(pack.kind, pack.name)
        try:
            payload = encode_footer(pack.entries, self._objects.format)
            footer = self._objects.envelope(name, pack.kind, payload)
            trailer = pack_trailer(len(footer))
            pack.sink.write(footer)
            pack.sink.write(trailer)
            pack.sink.publish()
        except BaseException:
            pack.sink.abandon()
            raise
        size = pack.size_bytes + len(footer) + len(trailer)
        self._published(IndexedPack(pack.name, pack.kind, size, tuple(pack.entries)))
