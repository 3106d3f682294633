"""One disk as the repository has it while it is backed up: its base, and what was put over that."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.extents import Extent, align
from hvpsbridge.formats.node import TreeRoot, is_zero
from hvpsbridge.repository import Repository
from hvpsbridge.repository.writer import DiskWriter, Writer
from hvpsbridge.tasks.planning.patching import FREE, LOCAL, REMOTE, BaseCost

logger = logging.getLogger(__name__)


class StoredDisk:
    """Takes the chunks of one disk, is compared with, and gives the disk's tree in the end.

    It is the receiver's patch store; a base chunk that is damaged counts as not there.

    Args:
        repository: where the base is.
        writer: stores what is put.
        size_bytes: of the disk.
        base: the tree whose chunks count where none is put; None for zeros.
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
        # All there were: what the earlier ones stored was stored for this disk, too.
        self._disks = [self._disk]
        # What was put, in whole chunks; with the base's extents this is where the disk is not zero.
        self._put: tuple[Extent, ...] = ()

    @property
    def settled(self) -> DiskWriter:
        """What the disk can be compared with: the base, or the disk as :meth:`settle` left it."""
        return self._disk

    @property
    def stored_bytes(self) -> int:
        """Added to the repository for this disk; whole once the writer was flushed."""
        return sum(disk.stats.stored_bytes for disk in self._disks)

    @property
    def new_chunks(self) -> int:
        """Chunks the repository did not have before."""
        return sum(disk.stats.new_chunks for disk in self._disks)

    def put(self, number: int, data: bytes | bytearray | memoryview | None) -> None:
        """See :class:`~hvpsbridge.receiver.assembly.ChunkStore`."""
        self._disk.put(number, data)

    def base_chunk(self, number: int) -> bytes | None:
        """See :class:`~hvpsbridge.receiver.assembly.PatchTarget`."""
        try:
            return self._disk.base_chunk(number)
        except Damaged as err:
            logger.warning("base chunk %d is read whole from the host: %s", number, err)
            return None

    def base_cost(self, number: int) -> BaseCost:
        """What reading the base of a chunk costs. Only where that is much is it worth a look at the tree."""
        if not self._repository.remote:
            return LOCAL
        try:
            return FREE if is_zero(self._disk.base_id(number)) else REMOTE
        except Damaged:
            return REMOTE

    def note_put(self, extents: Iterable[Extent]) -> None:
        """The chunks that ``extents`` touch have been put."""
        self._put = align([*self._put, *extents], self._grid.chunk_bytes, self._size_bytes)

    def lacking(self) -> tuple[Extent, ...]:
        """Extents, in whole chunks, that would be inherited from the base and are listed as bad.

        Raises:
            Damaged: nothing of the base can be inherited.
        """
        return self._disk.lacking()

    def ids(self, chunks: tuple[Extent, ...]) -> dict[int, bytes]:
        """Ids of chunks by their numbers, as they are in :attr:`settled`.

        Raises:
            Damaged: a node of the tree cannot be read.
        """
        return {number: self._disk.base_id(number) for number in self._grid.touched(chunks)}

    def count_replaced(self, before: dict[int, bytes]) -> int:
        """How many chunks have another content in :attr:`settled` than they had ``before``."""
        return sum(self._disk.base_id(number) != was for number, was in before.items())

    def base_extents(self) -> Iterable[Extent]:
        """Where the base may be other than zero."""
        if self._base is None:
            return ()
        return self._repository.image_of(self._base).extents()

    def extents(self) -> Iterable[Extent]:
        """Where the disk as stored now may be other than zero."""
        return (*self.base_extents(), *self._put)

    def begin_anew(self) -> None:
        """Nothing is put and there is no base; what was stored so far spares storing it again."""
        self._disk = self._writer.disk(self._size_bytes)
        self._disks.append(self._disk)
        self._base = None
        self._put = ()

    def settle(self) -> None:
        """Bring the tree as it is now to where it can be compared and patched."""
        root = self.finish()
        self._disk = self._writer.disk(self._size_bytes, root)
        self._disks.append(self._disk)

    def finish(self) -> TreeRoot:
        """The tree with all that was put, in durable packs; nothing may be put afterwards."""
        tree = self._disk.finish()
        self._writer.flush()  # only then are its figures whole
        return tree
