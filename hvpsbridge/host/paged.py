"""Results that come in pages: changes, allocation and digests of disks, and configuration files.

Pages must cover what was asked, in order and without gaps, before anything of them is used.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from functools import partial
from uuid import UUID

from hvpsbridge.backoff import Backoff
from hvpsbridge.contract import OPERATIONS, Operation
from hvpsbridge.contract.readings import DigestPage, ExtentPage, FilePiece
from hvpsbridge.errors import ProtocolViolation, SessionLost
from hvpsbridge.formats.extents import Extent, align, normalise, unpack_extents
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.host.runner import OperationRunner
from hvpsbridge.units import KIB

# Tries of one page, each in a new shell.
PAGE_ATTEMPTS = 3
# Pages that may bring less than a small page or an extent each; hosts send 4096 extents in one.
SPARE_PAGES = 1000
SMALL_PAGE_BYTES = 64 * KIB
# Extents of a disk that are kept, at 430 bytes each. A disk with more changes than that is read on a coarser
# grid, which begins here.
MAX_EXTENTS = 262_144
SMALLEST_UNIT_BYTES = 8 * KIB
# A checkpoint has up to three configuration files, read in pieces of a megabyte.
MAX_FILES = 16
SMALLEST_PIECE_BYTES = 64 * KIB


def changes(runner: OperationRunner, path: str, rct_id: str, size_bytes: int) -> tuple[Extent, ...]:
    """Changes of a disk since an RCT id, as a sorted set; see ``HyperVHost.changes``."""
    pages = _Pages(runner, OPERATIONS["Get-HvpsDiskChange"], size_bytes)
    position = 0
    while position < size_bytes:
        start = position
        position = runner.fold(
            pages.operation.name,
            partial(pages.take, start),
            Path=path,
            RctId=rct_id,
            OffsetBytes=start,
            LengthBytes=size_bytes - start,
        )
        if position == start:
            raise runner.violation(pages.operation, f"no progress at byte {position} of {size_bytes}")
    return normalise(pages.extents, size_bytes)


def allocation(runner: OperationRunner, chain: tuple[str, ...], size_bytes: int) -> tuple[Extent, ...]:
    """What files hold data for, as a sorted set; see ``HyperVHost.allocation``."""
    pages = _Pages(runner, OPERATIONS["Get-HvpsAllocation"], size_bytes)
    position = runner.fold(pages.operation.name, partial(pages.take, 0), Chain=list(chain))
    if position != size_bytes:
        raise runner.violation(pages.operation, f"covers {position} of {size_bytes} bytes")
    return normalise(pages.extents, size_bytes)


class _Pages:
    """Pages of extents of one disk.

    Attributes:
        operation: that answers with them.
        extents: found so far; more than the pages had where there are too many of them.
    """

    def __init__(self, runner: OperationRunner, operation: Operation, size_bytes: int) -> None:
        self._runner = runner
        self._size_bytes = size_bytes
        self._count = 0
        self._came = 0
        self._unit_bytes = SMALLEST_UNIT_BYTES
        self.operation = operation
        self.extents: list[Extent] = []

    def take(self, position: int, pages: Iterable[ExtentPage]) -> int:
        """Add pages, the first of which begins at ``position``; where the next one must begin.

        Pages of an answer that was lost are taken again, which changes nothing.

        Raises:
            ProtocolViolation: they do not follow each other, exceed the disk, or bring too little.
        """
        for page in pages:
            end = position + page.processed_bytes
            if page.offset_bytes != position or end > self._size_bytes:
                raise self._violation(
                    f"a page from {page.offset_bytes} to {end}, "
                    f"expected from {position} within {self._size_bytes}"
                )
            try:
                extents = unpack_extents(page.extents or b"")
            except ValueError as err:
                raise self._violation(str(err)) from err
            for extent in extents:
                if extent.offset >= self._size_bytes:
                    raise self._violation(f"an extent at {extent.offset}, beyond {self._size_bytes}")
            position = end
            self._count += 1
            self._came += len(extents)
            if self._count > SPARE_PAGES + position // SMALL_PAGE_BYTES + self._came:
                raise self._violation(f"{self._count} pages with {self._came} extents up to byte {position}")
            self.extents.extend(extents)
            if len(self.extents) > MAX_EXTENTS:
                self._thin_out()
        return position

    def _thin_out(self) -> None:
        """Cover the extents with fewer ones, on a coarser and coarser grid.

        What is read in addition is right as well, and only costs time.
        """
        self.extents = list(normalise(self.extents, self._size_bytes))
        while len(self.extents) > MAX_EXTENTS // 2:
            self.extents = list(align(self.extents, self._unit_bytes, self._size_bytes))
            self._unit_bytes *= 2

    def _violation(self, problem: str) -> ProtocolViolation:
        return self._runner.violation(self.operation, problem)


def digests(
    runner: OperationRunner, path: str, chunk_bytes: int, offset_bytes: int, length_bytes: int
) -> Iterator[DigestPage]:
    """Digests of the chunks of a part of a disk, in order; see ``HyperVHost.digests``."""
    operation = OPERATIONS["Get-HvpsDiskDigest"]
    following = offset_bytes // chunk_bytes
    stop = -(-(offset_bytes + length_bytes) // chunk_bytes)
    backoff = Backoff(0, 0, max_failures=PAGE_ATTEMPTS)
    while following < stop:
        start = following * chunk_bytes
        pages = runner.run(
            operation.name,
            Path=path,
            ChunkBytes=chunk_bytes,
            OffsetBytes=start,
            LengthBytes=offset_bytes + length_bytes - start,
        )
        try:
            for page in pages:
                count, rest = divmod(len(page.digests), DIGEST_BYTES)
                if page.first_chunk != following or rest or not 0 < count <= stop - following:
                    raise runner.violation(
                        operation, f"{len(page.digests)} bytes of digests from chunk {page.first_chunk}"
                    )
                following += count
                backoff.reset()
                yield page
        except SessionLost as err:
            backoff.failed(err)
            runner.renew()
            continue
        if following < stop:
            raise runner.violation(operation, f"digests end at chunk {following} of {stop}")


def configuration(runner: OperationRunner, vm_id: UUID, checkpoint_id: UUID) -> Iterator[FilePiece]:
    """Pieces of a checkpoint's configuration files; see ``HyperVHost.configuration``.

    After a lost session the files, which do not change, are read again; pieces that came before are skipped.
    """
    came = 0
    backoff = Backoff(0, 0, max_failures=PAGE_ATTEMPTS)
    while True:
        try:
            for piece in itertools.islice(_pieces(runner, vm_id, checkpoint_id), came, None):
                came += 1
                backoff.reset()
                yield piece
        except SessionLost as err:
            backoff.failed(err)
            runner.renew()
        else:
            return


def _pieces(runner: OperationRunner, vm_id: UUID, checkpoint_id: UUID) -> Iterator[FilePiece]:
    operation = OPERATIONS["Read-HvpsConfiguration"]
    path, position, size = "", 0, 0
    files = 0
    for piece in runner.run(operation.name, VmId=vm_id, CheckpointId=checkpoint_id):
        if position == size:
            path, position, size = piece.path, 0, piece.size_bytes
            files += 1
        data = piece.data or b""
        if (piece.path, piece.size_bytes, piece.offset_bytes) != (path, size, position):
            raise runner.violation(operation, f"unexpected piece of {piece.name} at {piece.offset_bytes}")
        if hashlib.sha256(data).hexdigest() != piece.sha256:
            raise runner.violation(operation, f"the digest of {piece.name} at {position} does not match")
        position += len(data)
        if position > size:
            raise runner.violation(operation, f"{piece.name} is longer than its {size} bytes")
        if files > MAX_FILES or (position < size and len(data) < SMALLEST_PIECE_BYTES):
            raise runner.violation(operation, f"file {files}, a piece of {len(data)} bytes: too little")
        yield piece
    if position != size:
        raise runner.violation(operation, f"{path} ends at byte {position} of {size}")
