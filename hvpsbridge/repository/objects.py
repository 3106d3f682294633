"""Named objects in a store: compressed if it pays, bound to their name, encrypted if there is a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID

from hvpsbridge.errors import Damaged, NewerObject, StoreError
from hvpsbridge.formats.envelope import Codec, Kind, context, max_envelope_bytes, max_payload_bytes
from hvpsbridge.formats.malformed import Malformed, UnknownFields
from hvpsbridge.formats.record import encode_record
from hvpsbridge.repository import compression
from hvpsbridge.repository.layout import FOLDERS, is_object_name
from hvpsbridge.repository.sealing import Sealer
from hvpsbridge.repository.stores.base import ObjectInfo, Store

S = TypeVar("S")
T = TypeVar("T")
# Below this size zstd saves less than its frame takes.
COMPRESS_FROM_BYTES = 512
# Concurrent requests for objects to a remote store.
REMOTE_REQUESTS = 8


class Objects:
    """Reads and writes envelopes, with the store and the sealer of an open repository."""

    def __init__(self, store: Store, sealer: Sealer, repository_id: UUID) -> None:
        self.store = store
        self.sealer = sealer
        self.repository_id = repository_id

    def envelope(self, name: str, kind: Kind, payload: bytes) -> bytes:
        """The bytes as which ``payload`` is stored under ``name``.

        Raises:
            StoreError: no reader would accept a payload that large.
        """
        if len(payload) > max_payload_bytes(kind):
            what = f"it would have {len(payload)} bytes, but may have at most {max_payload_bytes(kind)}"
            raise StoreError(self.store.url, "create", name, what)
        codec, packed = Codec.RAW, payload
        if len(payload) >= COMPRESS_FROM_BYTES:
            codec, packed = compression.compress(payload, compression.DEFAULT_LEVEL)
        place = context(self.repository_id, name)
        return self.sealer.seal_object(kind, codec, len(payload), packed, place)

    def open(self, name: str, kind: Kind, data: bytes) -> bytes:
        """The payload in the envelope ``data`` of the object ``name``.

        Raises:
            Damaged: it is not what was written there. This includes another format version than that of
                the settings, which were read first: the format of a repository never changes.
        """
        try:
            header, payload = self.sealer.open_object(data, kind, context(self.repository_id, name))
            return compression.expand(header.codec, payload, header.raw_bytes)
        except Malformed as err:
            raise Damaged(self.store.url, name, str(err)) from err

    def write(self, name: str, kind: Kind, payload: bytes) -> None:
        """Create the object.

        Raises:
            ObjectExists: the name is taken.
            StoreError: as :meth:`envelope`.
        """
        self.store.put(name, self.envelope(name, kind, payload))

    def write_record(self, name: str, kind: Kind, record: object) -> None:
        """Create the object with the canonical text of a record.

        Raises:
            ObjectExists: the name is taken.
            StoreError: as :meth:`envelope`, or the record has text that no reader would accept.
        """
        try:
            payload = encode_record(record)
        except Malformed as err:
            raise StoreError(self.store.url, "create", name, str(err)) from err
        self.write(name, kind, payload)

    def read(self, name: str, kind: Kind) -> bytes:
        """Payload of the object.

        Raises:
            ObjectMissing: there is no such object.
            Damaged: it is not what was written there.
        """
        return self.open(name, kind, self.store.get(name, max_envelope_bytes(kind)))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects under ``prefix`` with the names that hvps makes there. Anything else (a ``.nfs`` file, a
        folder marker, a link, notes of an administrator) is skipped; see :meth:`unknown_names`."""
        return (info for info in self.store.list(prefix) if info.size_bytes > 0 and is_object_name(info.name))

    def unknown_names(self) -> Iterator[str]:
        """Names in the folders of the repository that hvps did not make, and those of links and devices."""
        for folder in FOLDERS:
            for info in self.store.list(folder):
                if info.size_bytes < 0 or not is_object_name(info.name):
                    yield info.name

    def each(self, read: Callable[[S], T], which: Sequence[S]) -> tuple[T, ...]:
        """The results of ``read`` in the order of ``which``; read concurrently from a remote store.

        For small objects and the ends of large ones, which cost little more than their round trips.
        """
        if not self.store.remote or len(which) < 2:
            return tuple(map(read, which))
        with ThreadPoolExecutor(REMOTE_REQUESTS, thread_name_prefix="object") as pool:
            return tuple(pool.map(read, which))

    def unreadable(self, name: str, err: Malformed) -> Damaged | NewerObject:
        """The error for an authentic object whose record cannot be decoded."""
        if isinstance(err, UnknownFields):
            return NewerObject(self.store.url, name, str(err))
        return self.damaged(name, err)

    def damaged(self, name: str, what: object) -> Damaged:
        """The error for a damaged object."""
        return Damaged(self.store.url, name, str(what))
