"""Reading frames: chunks and nodes by id, each checked against its id."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from hvpsbridge.errors import Damaged, ObjectMissing, StoreError
from hvpsbridge.formats.chunk import unpack_frame
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.grid import MAX_CHUNK_BYTES
from hvpsbridge.formats.index import IndexedPack
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.repository import compression
from hvpsbridge.repository.cache import IndexCache
from hvpsbridge.repository.cache_rows import Location, places_in
from hvpsbridge.repository.check.reconcile import check_cache
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.units import KIB, MIB

# Frames of a pack with gaps up to this are fetched as one range, up to the given size.
GAP_BYTES = 64 * KIB
RANGE_BYTES = 2 * MIB
# Groups that are fetched and decoded at a time. Decryption, decompression and hashing use several cores. More
# threads than cores only compete for the interpreter's lock, except that a remote store waits for answers.
# Raw bytes can be several times as many as stored ones.
MAX_WORKERS = 4
# Decoded groups that wait for the caller, beside those that are being decoded.
GROUPS_WAITING = 2
# What is wrong with a frame that may be found again by rebuilding the index.
NOT_INDEXED = "it is in no index"


class FrameReader:
    """Reads chunks and nodes by id, and checks each against its id.

    Args:
        objects, cache: of the repository.
        refresh: updates the cache.
        check_selected: called when something is missing; raises PointGone if a point that is read was pruned.
    """

    def __init__(
        self,
        objects: Objects,
        cache: IndexCache,
        refresh: Callable[[], None],
        check_selected: Callable[[], None] = lambda: None,
    ) -> None:
        self._objects = objects
        self._cache = cache
        self._refresh = refresh
        self._check_selected = check_selected
        self._checked = False
        cores = len(os.sched_getaffinity(0))
        self._workers = MAX_WORKERS if objects.store.remote else min(MAX_WORKERS, cores)

    def damaged(self, name: str, what: object) -> Damaged:
        """The error for a damaged object or chunk."""
        return self._objects.damaged(name, what)

    def checked_length(self, identity: bytes, raw: bytes, length: int) -> bytes:
        """A chunk of a disk, which has the length of its place.

        Raises:
            Damaged: it has another.
        """
        if len(raw) != length:
            what = f"it has {len(raw)} bytes instead of {length}"
            raise self.damaged(label(Kind.DATA_PACK, identity), what)
        return raw

    def locate(self, identity: bytes, kind: Kind) -> tuple[Location, ...]:
        """Where the frame is; at least one place.

        Raises:
            Damaged: no index has it.
        """
        found = self._of_kind(identity, kind)
        if not found:
            # Another process may have published it meanwhile.
            self._refresh()
            found = self._of_kind(identity, kind)
        if not found and self._renew_cache():
            found = self._of_kind(identity, kind)
        if not found:
            self._check_selected()
            raise self._objects.damaged(label(kind, identity), NOT_INDEXED)
        return found

    def locate_all(self, identities: Sequence[bytes], kind: Kind) -> dict[bytes, tuple[Location, ...]]:
        """Where frames are, by id; without those that are nowhere, which :meth:`locate` explains."""
        found = self._cache.find_all(identities)
        return {
            identity: places
            for identity, each in found.items()
            if (places := tuple(place for place in each if place.kind is kind))
        }

    def _renew_cache(self) -> bool:
        """Compare the cache with the repository, once; whether that was done now.

        Otherwise a cache that is corrupt, manipulated or partly restored would be reported as a loss.
        """
        if self._checked:
            return False
        self._checked = True
        check_cache(self._objects, self._cache)
        self._refresh()
        return True

    @property
    def cache_checked(self) -> bool:
        """Whether the cache was compared with the index objects; its numbers do not change after that."""
        return self._checked

    def set_cache_checked(self) -> None:
        """Record that the cache was compared with the index objects."""
        self._checked = True

    def _of_kind(self, identity: bytes, kind: Kind) -> tuple[Location, ...]:
        return tuple(place for place in self._cache.find(identity) if place.kind is kind)

    def read(self, identity: bytes, kind: Kind) -> bytes:
        """The raw bytes, from the first copy that is good.

        Raises:
            Damaged: there is no good copy.
        """
        # With the length, which a corrupt cache may have wrong at first.
        tried: set[tuple[bytes, int, int]] = set()
        problem: Damaged | None = None
        while True:
            new = [place for place in self.locate(identity, kind) if _span(place) not in tried]
            if not new and not self._renew_cache():
                assert problem is not None  # locate returns at least one place
                raise problem
            for place in new:
                try:
                    return self.decode(place, self.fetch(place))
                except Damaged as err:
                    problem = err
                tried.add(_span(place))
            # A collect may have moved it to another pack since the index was read.
            self._refresh()

    def fetch(self, place: Location) -> bytes:
        """The frame's bytes as stored.

        Raises:
            Damaged: the pack is missing or too short.
        """
        return self._range(place.kind, place.pack, place.offset, place.frame_bytes)

    def _range(self, kind: Kind, pack: bytes, offset: int, length: int) -> bytes:
        name = pack_name(kind, pack)
        try:
            return self._objects.store.get_range(name, offset, length)
        except ObjectMissing as err:
            self._check_selected()
            raise self._objects.damaged(name, "the pack is missing") from err
        except StoreError as err:
            if self._is_short(name, offset + length):
                raise self._objects.damaged(name, "the pack is truncated") from err
            raise

    def _is_short(self, name: str, needed: int) -> bool:
        try:
            return self._objects.store.size(name) < needed
        except StoreError:
            return False

    def decode(self, place: Location, stored: bytes | memoryview) -> bytes:
        """Raw bytes of the frame ``stored``, checked against the id of ``place``.

        Raises:
            Damaged: it is not what was written.
        """
        try:
            frame, body = unpack_frame(stored, MAX_CHUNK_BYTES)
            if not frame.id.startswith(place.id) or frame.kind is not place.kind:
                raise Malformed("another chunk is stored there")
            opened = self._objects.sealer.open_frame(frame, body)
            raw = compression.expand(frame.codec, opened, frame.raw_bytes)
            if not self._objects.sealer.confirms(frame.id, raw):
                raise Malformed("the digest does not match")
        except Malformed as err:
            where = f"{label(place.kind, place.id)} in {pack_name(place.kind, place.pack)}"
            raise self._objects.damaged(where, err) from err
        return raw

    def read_all(self, places: Iterable[Location]) -> Iterator[tuple[Location, bytes | Damaged]]:
        """Each place with its raw bytes, or with what is wrong there, in the order of the packs."""
        return self.read_ordered(sorted(places, key=lambda place: (place.kind, place.pack, place.offset)))

    def read_ordered(self, places: Iterable[Location]) -> Iterator[tuple[Location, bytes | Damaged]]:
        """Each place with its raw bytes, or with what is wrong there, in the given order.

        Places that follow each other in a pack are fetched together, and decoded by other threads. At most
        :data:`MAX_WORKERS` and :data:`GROUPS_WAITING` groups of at most :data:`RANGE_BYTES` (or one frame)
        are in memory.

        Args:
            places: those of a pack one after another, by offset. Taken as they are needed.
        """
        groups = coalesce(places)
        first = list(itertools.islice(groups, 2))
        if len(first) < 2:
            for group in first:
                yield from self.read_group(group)
            return
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            ahead: deque[Future[list[tuple[Location, bytes | Damaged]]]] = deque()
            try:
                for group in itertools.chain(first, groups):
                    ahead.append(pool.submit(self.read_group, group))
                    if len(ahead) > self._workers + GROUPS_WAITING:
                        yield from ahead.popleft().result()
                while ahead:
                    yield from ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def read_group(self, group: list[Location]) -> list[tuple[Location, bytes | Damaged]]:
        """Each place of a group of :func:`coalesce` with its raw bytes, or with what is wrong there."""
        return list(self._decode_group(group, self._fetch_group(group)))

    def check_pack(self, pack: IndexedPack) -> None:
        """Read a pack and check every frame.

        Raises:
            Damaged: a frame is not what was written.
        """
        for _, found in self.read_all(places_in(pack)):
            if isinstance(found, Damaged):
                raise found

    def _fetch_group(self, group: list[Location]) -> bytes | Damaged:
        first, last = group[0], group[-1]
        end = last.offset + last.frame_bytes
        try:
            return self._range(first.kind, first.pack, first.offset, end - first.offset)
        except Damaged as err:
            return err

    def _decode_group(
        self, group: list[Location], data: bytes | Damaged
    ) -> Iterator[tuple[Location, bytes | Damaged]]:
        if isinstance(data, Damaged):
            for place in group:  # a truncated pack may still have the first of several
                yield place, self._read_one(place) if len(group) > 1 else data
            return
        view, start = memoryview(data), group[0].offset
        for place in group:
            at = place.offset - start
            try:
                raw: bytes | Damaged = self.decode(place, view[at : at + place.frame_bytes])
            except Damaged as err:
                raw = err
            yield place, raw

    def _read_one(self, place: Location) -> bytes | Damaged:
        try:
            return self.decode(place, self.fetch(place))
        except Damaged as err:
            return err


def _span(place: Location) -> tuple[bytes, int, int]:
    return place.pack, place.offset, place.frame_bytes


def coalesce(ordered: Iterable[Location]) -> Iterator[list[Location]]:
    """Groups of places that are fetched in one range."""
    group: list[Location] = []
    for place in ordered:
        if group and not _near(group, place):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _near(group: list[Location], place: Location) -> bool:
    first, last = group[0], group[-1]
    gap = place.offset - (last.offset + last.frame_bytes)
    return (
        (place.kind, place.pack) == (last.kind, last.pack)
        and gap <= GAP_BYTES
        and place.offset + place.frame_bytes - first.offset <= RANGE_BYTES
    )


def label(kind: Kind, identity: bytes) -> str:
    """Name of a chunk or node in messages: its kind and the first digits of its id."""
    return f"{'chunk' if kind is Kind.DATA_PACK else 'node'} {identity.hex()[:16]}"
