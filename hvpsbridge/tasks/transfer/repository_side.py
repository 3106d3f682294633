"""The repository's side of a disk's backup: its base, and the chunks put over it."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.extents import Extent, align
from hvpsbridge.formats.node import TreeRoot, is_zero
from hvpsbridge.repository import Repository
from hvpsbridge.repository.disk import DiskWriter
from hvpsbridge.repository.writer import Writer
from hvpsbridge.tasks.planning.patching import FREE, LOCAL, REMOTE, BaseCost

logger = logging.getLogger(__name__)


class RepositorySide:
    """Takes the chunks of one disk, can be compared with, and finally gives the disk's tree.

    It is the receiver's :class:`~hvpsbridge.receiver.assembly.PatchTarget`. A damaged base chunk counts as
    missing.

    Args:
        repository: where the base is.
        writer: stores what is put.
        size_bytes: size of the disk.
        base: the tree that provides the chunks that are not put; None for zeros.
    """

    def __init__(
        self, repository: Repository, writer: Writer, size_bytes: int, base: TreeRoot | None
    ) -> None:
        self._repository = repository
        self._grid = repository.grid
        self._writer = writer
        self._size_bytes = size_bytes
        self._base = base
        self._disk = writer.disk(size_bytes, base)
        # The earlier ones count too: what they stored was stored for this disk.
        self._disks = [self._disk]
        # What was put, in whole chunks; together with the base's extents, where the disk is not zero.
        self._put: tuple[Extent, ...] = ()

    @property
    def comparable(self) -> DiskWriter:
        """What the disk can be compared with: the base, or the disk as of :meth:`make_comparable`.

        It also takes whole chunks; they count from the next :meth:`make_comparable` on.
        """
        return self._disk

    @property
    def stored_bytes(self) -> int:
        """Bytes added to the repository for this disk; complete once the writer was flushed."""
        return sum(disk.stats.stored_bytes for disk in self._disks)

    @property
    def new_chunks(self) -> int:
        """Chunks the repository did not have before."""
        return sum(disk.stats.new_chunks for disk in self._disks)

    def put(self, number: int, data: bytes | bytearray | memoryview | None) -> None:
        """Store a chunk; None for zeros."""
        self._disk.put(number, data)

    def base_chunk(self, number: int) -> bytes | None:
        """A chunk of the base; None if it cannot be read, so that the host is asked for all of it."""
        try:
            return self._disk.base_chunk(number)
        except Damaged as err:
            logger.warning("cannot read base chunk %d, reading it from the host: %s", number, err)
            return None

    def base_cost(self, number: int) -> BaseCost:
        """What reading the base of a chunk costs."""
        if not self._repository.remote:
            return LOCAL
        # Only where reading is expensive is it worth a look at the tree whether the chunk is zero.
        try:
            return FREE if is_zero(self._disk.base_id(number)) else REMOTE
        except Damaged:
            return REMOTE

    def note_put(self, extents: Iterable[Extent]) -> None:
        """The chunks that ``extents`` touch were put."""
        self._put = align([*self._put, *extents], self._grid.chunk_bytes, self._size_bytes)

    def bad_base_chunks(self) -> tuple[Extent, ...]:
        """Extents, in whole chunks, that would come from the base and are listed as bad.

        Raises:
            Damaged: nothing of the base can be used.
        """
        return self._disk.bad_extents()

    def ids(self, chunks: tuple[Extent, ...]) -> dict[int, bytes]:
        """Ids of chunks by number, as in :attr:`comparable`.

        Raises:
            Damaged: a node of the tree cannot be read.
        """
        return {number: self._disk.base_id(number) for number in self._grid.touched(chunks)}

    def count_replaced(self, before: dict[int, bytes]) -> int:
        """How many chunks have other ids in :attr:`comparable` than they had ``before``."""
        return sum(self._disk.base_id(number) != was for number, was in before.items())

    def base_extents(self) -> Iterable[Extent]:
        """Where the base may hold data other than zeros."""
        if self._base is None:
            return ()
        return self._repository.image_of(self._base).extents()

    def extents(self) -> Iterable[Extent]:
        """Where the disk as stored so far may hold data other than zeros."""
        return (*self.base_extents(), *self._put)

    def start_over(self) -> None:
        """Forget the base and all that was put; its chunks stay stored and need not be stored again."""
        self._disk = self._writer.disk(self._size_bytes)
        self._disks.append(self._disk)
        self._base = None
        self._put = ()

    def make_comparable(self) -> None:
        """Write the tree as it is now, so that the disk can be compared with and patched further."""
        root = self.finish()
        self._disk = self._writer.disk(self._size_bytes, root)
        self._disks.append(self._disk)

    def finish(self) -> TreeRoot:
        """The tree with all that was put, in durable packs; nothing may be put afterwards."""
        tree = self._disk.finish()
        self._writer.flush()  # its statistics are complete only after this
        return tree
