"""Takes lost chunks and nodes from another copy of the same points.

The other repository may have another key and other ids, but must have the same grid: a chunk is read at the
same place of the same point, and counts if its content has the id that is missing here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from hvpsbridge.errors import ConfigurationError, Damaged
from hvpsbridge.formats.chunk import ZERO_ID
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.node import FAN_OUT, NODE_BYTES, ZERO_NODE, TreeRoot, entries, is_zero, levels
from hvpsbridge.repository.check.reconcile import check_cache
from hvpsbridge.repository.check.scan import NO_PACK
from hvpsbridge.repository.check.verify import VerifyContext, parts_of
from hvpsbridge.repository.image import DiskImage
from hvpsbridge.repository.layout import pack_name
from hvpsbridge.repository.points import Point
from hvpsbridge.repository.stored_packs import pack_sizes, size_fault
from hvpsbridge.repository.writer import Writer
from hvpsbridge.units import size_text

if TYPE_CHECKING:
    from hvpsbridge.repository.repository import Repository

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefillReport:
    """What was taken from another copy.

    Attributes:
        lost: chunks and nodes that points need and of which there was no good copy.
        taken: those that the other repository has; with a check, that would be taken.
        read_bytes: bytes of chunks that were read there.
    """

    lost: int
    taken: int
    read_bytes: int


def refill(
    context: VerifyContext, target: Repository, source: Repository, run_id: UUID, *, check: bool
) -> RefillReport:
    """Store chunks and nodes again that ``target`` has lost and ``source`` has.

    What is lost is listed as bad, also if the other repository does not have it.

    Args:
        context: parts of ``target``.
        target: the damaged repository.
        source: another copy of its points; only read.
        run_id: of this run.
        check: change nothing.

    Raises:
        ConfigurationError: the chunks of the other repository have another size.
        StoreError: a store fails. What was stored before stays.
    """
    if source.grid != target.grid:
        mine, other = size_text(target.grid.chunk_bytes), size_text(source.grid.chunk_bytes)
        what = f"its chunks have {other}, those of {target.url} have {mine}; use a copy with the same size"
        raise ConfigurationError(source.url, what)
    check_cache(context.objects, context.cache)
    context.frames.set_cache_checked()
    bad = _frames_of_faulty_packs(context)
    if check:
        return _Refill(context, target, source, None, context.cache.lost(bad)).run()
    target.publish_bad(bad)
    with target.begin(run_id) as writer:
        refilling = _Refill(context, target, source, writer, context.cache.lost())
        report = refilling.run()
        writer.flush()
        writer.check()
    target.publish_bad([(identity, NO_PACK) for identity in refilling.nowhere])
    return report


def _frames_of_faulty_packs(context: VerifyContext) -> list[tuple[bytes, bytes]]:
    sizes = pack_sizes(context.objects)
    return [
        (place.id, pack.name)
        for pack in context.cache.packs()
        if size_fault(sizes.get(pack_name(pack.kind, pack.name)), pack.pack_bytes) is not None
        for place in context.cache.pack_entries(pack.number)
    ]


class _Refill:
    """One refill.

    Args:
        context, target, source: as for :func:`refill`.
        writer: stores in ``target``; None for a check.
        lost: ids that are listed as bad and have no good copy.
    """

    def __init__(
        self,
        context: VerifyContext,
        target: Repository,
        source: Repository,
        writer: Writer | None,
        lost: frozenset[bytes],
    ) -> None:
        self._context = context
        self._target = target
        self._source = source
        self._writer = writer
        self._lost = set(lost)
        # Lost ids that points need; chunks that were taken; nodes that were rebuilt, by id.
        self._needed: set[bytes] = set()
        self._chunks: set[bytes] = set()
        self._nodes: dict[bytes, bytes] = {}
        self._unlisted: set[bytes] = set()
        self._walked: set[bytes] = set()
        self._read_bytes = 0

    def run(self) -> RefillReport:
        others = {point.point_id: point for point in self._source.catalog.points()}
        for point in self._target.catalog.points():
            there = {} if (other := others.get(point.point_id)) is None else dict(parts_of(other))
            for part, tree in parts_of(point):
                self._walk_part(point, part, tree, there)
        if self._writer is not None:
            self._writer.wait()
        taken = len(self._chunks) + len(self._nodes)
        return RefillReport(lost=len(self._needed), taken=taken, read_bytes=self._read_bytes)

    @property
    def nowhere(self) -> set[bytes]:
        """Ids in no index that were not taken."""
        return self._unlisted - self._chunks - self._nodes.keys()

    @property
    def _left(self) -> int:
        return len(self._needed) - len(self._chunks) - len(self._nodes)

    def _walk_part(self, point: Point, part: str, tree: TreeRoot, there: Mapping[str, TreeRoot]) -> None:
        other = there.get(part)
        image = None
        if other is not None and other.size_bytes == tree.size_bytes:
            image = self._source.image_of(other)
        count = self._target.grid.count(tree.size_bytes)
        place = _Place(image, tree.size_bytes, count)
        before = self._left
        self._walk(place, tree.root, levels(count), 0)
        if self._left > before:
            where = self._source.url
            logger.info("%s of point %s lacks chunks that %s does not have", part, point.short_id, where)

    def _walk(self, place: _Place, identity: bytes, level: int, number: int) -> None:
        if is_zero(identity) or identity in self._walked or number * FAN_OUT**level >= place.chunks:
            return
        node = self._node(place, identity, level, number)
        if node is None:
            return  # another point may show how to make it
        missed = False
        if level == 1:
            self._look_for(node)
        for index, below in enumerate(entries(node)):
            at = number * FAN_OUT + index
            if is_zero(below) or at * FAN_OUT ** (level - 1) >= place.chunks:
                continue
            if level > 1:
                self._walk(place, below, level - 1, at)
                missed = missed or below not in self._walked
            elif below in self._lost:
                self._needed.add(below)
                missed = not self._take_chunk(place, below, at) or missed
        if not missed:
            self._walked.add(identity)

    def _look_for(self, leaf: bytes) -> None:
        """Count chunks of a leaf as lost that are in no index."""
        ids = [identity for identity in set(entries(leaf)) if not is_zero(identity)]
        nowhere = set(ids) - self._context.frames.locate_all(ids, Kind.DATA_PACK).keys()
        self._unlisted |= nowhere - self._lost
        self._lost |= nowhere

    def _node(self, place: _Place, identity: bytes, level: int, number: int) -> bytes | None:
        """The node, from here or rebuilt."""
        if identity in self._nodes:
            return self._nodes[identity]
        if identity not in self._lost:
            try:
                return self._context.frames.read(identity, Kind.NODE_PACK)
            except Damaged as err:
                logger.info("%s", err)
                self._lost.add(identity)
                self._list_as_bad(identity)
        self._needed.add(identity)
        node = next(
            (node for node in self._rebuilt(place, level, number) if self._id(node) == identity), None
        )
        if node is not None:
            self._nodes[identity] = node
            if self._writer is not None:
                self._writer.store_node(node)
        return node

    def _list_as_bad(self, identity: bytes) -> None:
        places = [place for place in self._context.cache.find(identity) if place.kind is Kind.NODE_PACK]
        if not places:
            self._unlisted.add(identity)
        elif self._writer is not None:
            # Else the writer would rely on it.
            self._target.publish_bad([(identity, place.pack) for place in places])

    def _rebuilt(self, place: _Place, level: int, number: int) -> Iterator[bytes]:
        """What the node may be: as the other repository has it, or with ids made of the content there."""
        if place.image is None:
            return
        try:
            yield place.image.node(level, number)
            yield self._made_of_content(place, level, number)
        except Damaged as err:
            logger.info("%s", err)

    def _made_of_content(self, place: _Place, level: int, number: int) -> bytes:
        found = bytearray()
        for index in range(FAN_OUT):
            at = number * FAN_OUT + index
            if at * FAN_OUT ** (level - 1) >= place.chunks:
                break
            if level > 1:
                node = self._made_of_content(place, level - 1, at)
                found += ZERO_ID if node == ZERO_NODE else self._id(node)
            else:
                raw = self._read(place, at)
                found += ZERO_ID if not any(raw) else self._id(raw)
        return bytes(found).ljust(NODE_BYTES, b"\0")

    def _take_chunk(self, place: _Place, identity: bytes, number: int) -> bool:
        if identity in self._chunks:
            return True
        if place.image is None:
            return False
        try:
            raw = self._read(place, number)
        except Damaged as err:
            logger.info("%s", err)
            return False
        if self._id(raw) != identity:
            return False
        self._chunks.add(identity)
        if self._writer is not None:
            self._writer.store_chunk(raw, self._writer.stats, _ignore)
        return True

    def _read(self, place: _Place, number: int) -> bytes:
        assert place.image is not None  # callers have looked
        extent = self._target.grid.extent(number, place.size_bytes)
        place.image.seek(extent.offset)
        raw = place.image.read(extent.length) or b""
        self._read_bytes += len(raw)
        return raw

    def _id(self, raw: bytes) -> bytes:
        return self._target.identify(hashlib.sha256(raw).digest())


@dataclass(frozen=True, slots=True)
class _Place:
    """A disk or file, and its image in the other repository; None if that does not have it."""

    image: DiskImage | None
    size_bytes: int
    chunks: int


def _ignore(identity: bytes) -> None:
    """The tree has the id already."""
