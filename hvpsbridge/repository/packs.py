"""Writing packs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from hvpsbridge.formats.chunk import FRAME_BYTES, Frame
from hvpsbridge.formats.envelope import Kind, Seal
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.pack import PackEntry, encode_entries, pack_head, pack_trailer
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
        """Store ``raw`` under ``identity``; how many bytes that takes.

        Compression and encryption run in the calling thread, without the lock.
        """
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
        full = None
        with self._lock:
            pack = self._open or self._begin()
            pack.sink.write(frame.pack())
            pack.sink.write(body)
            entry = PackEntry(identity, pack.size_bytes, FRAME_BYTES + len(body), len(raw))
            pack.entries.append(entry)
            pack.size_bytes += entry.frame_bytes
            if pack.size_bytes >= PACK_BYTES or len(pack.entries) >= PACK_ENTRIES:
                full, self._open = pack, None
        if full is not None:
            self._publish(full)
        return entry.frame_bytes

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
        head = pack_head(self._kind)
        sink.write(head)
        self._open = _OpenPack(name, self._kind, sink, len(head))
        return self._open

    def _publish(self, pack: _OpenPack) -> None:
        name = pack_name(pack.kind, pack.name)
        try:
            footer = self._objects.envelope(name, pack.kind, encode_entries(pack.entries))
            trailer = pack_trailer(len(footer))
            pack.sink.write(footer)
            pack.sink.write(trailer)
            pack.sink.publish()
        except BaseException:
            pack.sink.abandon()
            raise
        size = pack.size_bytes + len(footer) + len(trailer)
        self._published(IndexedPack(pack.name, pack.kind, size, tuple(pack.entries)))
