"""Named objects in a store: compressed if it pays, bound to their name, encrypted if there is a key."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from uuid import UUID

from hvpsbridge.errors import Damaged, NewerObject, ObjectExists, StoreError
from hvpsbridge.formats.envelope import FORMAT, Codec, Kind, context, max_envelope_bytes, max_payload_bytes
from hvpsbridge.formats.malformed import Malformed, UnknownFields
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.repository import compression
from hvpsbridge.repository.layout import FOLDERS, POINTS, counted, is_object_name, next_counter
from hvpsbridge.repository.sealing import Sealer
from hvpsbridge.repository.stores.base import ObjectInfo, Store

logger = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")
# Below this size zstd saves less than its frame takes.
COMPRESS_FROM_BYTES = 512
# Concurrent requests for objects to a remote store.
REMOTE_REQUESTS = 8
# Bits of the random number that an appended object skips at most when names are taken.
MAX_SKIP_BITS = 20
# A store that still says that the name is taken says so whatever the name is.
MAX_APPEND_ATTEMPTS = 50


class Objects:
    """Reads and writes envelopes, with the store, the sealer and the format of an open repository."""

    def __init__(self, store: Store, sealer: Sealer, repository_id: UUID, format: int = FORMAT) -> None:
        self.store = store
        self.sealer = sealer
        self.repository_id = repository_id
        self.format = format

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

    def append_record(
        self,
        prefix: str,
        kind: Kind,
        record: object,
        *,
        last: Callable[[Sequence[str]], int] = lambda names: -1,
    ) -> str:
        """Create the next object of a series; returns its name.

        Somebody may have taken names that follow with what no listing shows: an empty object, a folder. More
        and more numbers are skipped then, at random, so nobody can take all of them.

        Args:
            prefix: of the series.
            kind: of its objects.
            record: what to store.
            last: a number that the new one must be higher than, from the names that there are.

        Raises:
            StoreError: as :meth:`write_record`, or the store takes no name at all.
        """
        after, name = -1, prefix
        for attempt in range(MAX_APPEND_ATTEMPTS):
            names = [info.name for info in self.list(prefix)]
            number = next_counter(names, after=max(after, last(names)))
            name = counted(prefix, number)
            try:
                self.write_record(name, kind, record)
                return name
            except ObjectExists:
                after = number + secrets.randbelow(1 << min(attempt, MAX_SKIP_BITS))
        raise StoreError(self.store.url, "create", name, "the store says of every name that it is taken")

    def read(self, name: str, kind: Kind) -> bytes:
        """Payload of the object.

        Raises:
            ObjectMissing: there is no such object.
            Damaged: it is not what was written there.
        """
        return self.open(name, kind, self.store.get(name, max_envelope_bytes(kind)))

    def read_record(self, record: type[T], name: str, kind: Kind) -> T:
        """The record in the object.

        Raises:
            ObjectMissing: there is no such object.
            Damaged: it is not what was written there.
            NewerObject: a newer hvps wrote it.
        """
        payload = self.read(name, kind)
        try:
            return decode_record(record, payload)
        except Malformed as err:
            raise self.unreadable(name, err) from err

    def delete_all(self, names: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error.

        Raises:
            StoreError: the store refuses; those before it are deleted.
        """
        for name in names:
            self.store.delete(name)

    def try_delete(self, name: str, why: str) -> bool:
        """Delete an object that does no harm if it stays; whether the store did so. A refusal is logged.

        Args:
            name: of the object.
            why: it can go, for the log: ``which is superseded``.
        """
        try:
            self.store.delete(name)
        except StoreError as err:
            logger.warning("cannot delete %s, %s: %s", name, why, err)
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects under ``prefix`` with the names that hvps makes there. Anything else (a ``.nfs`` file, a
        folder marker, a link, notes of an administrator) is skipped; see :meth:`unknown_names`."""
        return (info for info in self.list_all(prefix) if info.size_bytes > 0)

    def list_all(self, prefix: str) -> Iterator[ObjectInfo]:
        """As :meth:`list`, with what has such a name but is empty, or a link or a device (size -1)."""
        return (info for info in self.store.list(prefix) if is_object_name(info.name))

    def empty_names(self) -> Iterator[str]:
        """Names of objects that are empty, which count as absent."""
        for folder in FOLDERS:
            yield from (info.name for info in self.list_all(folder) if info.size_bytes == 0)

    def unknown_names(self) -> Iterator[str]:
        """Names in the folders of the repository that hvps did not make, or of links and devices."""
        for folder in FOLDERS:
            for info in self.store.list(folder):
                # A link in place of a manifest is a damaged manifest.
                is_object = info.size_bytes >= 0 or folder == POINTS
                if not is_object or not is_object_name(info.name):
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
