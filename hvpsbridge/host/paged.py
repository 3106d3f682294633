"""Results that come in pages: changes, allocation and digests of disks, and configuration files.

Pages must cover what was asked, in order and without gaps, before anything of them is used.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from uuid import UUID

from hvpsbridge.backoff import Backoff
from hvpsbridge.contract import OPERATIONS, Operation
from hvpsbridge.contract.results import DigestPage, ExtentPage, FilePiece
from hvpsbridge.errors import SessionLost
from hvpsbridge.formats.extents import Extent, normalise, unpack_extents
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.host.runner import OperationRunner

# Tries of one page, each in a new shell.
PAGE_ATTEMPTS = 3


def changes(runner: OperationRunner, path: str, rct_id: str, size_bytes: int) -> tuple[Extent, ...]:
    """Changes of a disk since an RCT id, as a sorted set; see ``HyperVHost.changes``."""
    operation = OPERATIONS["Get-HvpsDiskChange"]
    found: list[Extent] = []
    position = 0
    while position < size_bytes:
        start = position
        for page in runner.many(
            operation.name,
            Path=path,
            RctId=rct_id,
            OffsetBytes=position,
            LengthBytes=size_bytes - position,
        ):
            position = _add_page(runner, operation, page, position, size_bytes, found)
        if position == start:
            raise runner.violation(operation, f"no progress at byte {position} of {size_bytes}")
    return normalise(found, size_bytes)


def allocation(runner: OperationRunner, chain: tuple[str, ...], size_bytes: int) -> tuple[Extent, ...]:
    """What files hold data for, as a sorted set; see ``HyperVHost.allocation``."""
    operation = OPERATIONS["Get-HvpsAllocation"]
    found: list[Extent] = []
    position = 0
    for page in runner.many(operation.name, Chain=list(chain)):
        position = _add_page(runner, operation, page, position, size_bytes, found)
    if position != size_bytes:
        raise runner.violation(operation, f"covers {position} of {size_bytes} bytes")
    return normalise(found, size_bytes)


def _add_page(
    runner: OperationRunner,
    operation: Operation,
    page: ExtentPage,
    position: int,
    size_bytes: int,
    found: list[Extent],
) -> int:
    """Add a page of extents to ``found``; returns where the next page must begin."""
    end = position + page.processed_bytes
    if page.offset_bytes != position or end > size_bytes:
        raise runner.violation(
            operation,
            f"a page from {page.offset_bytes} to {end}, expected from {position} within {size_bytes}",
        )
    try:
        extents = unpack_extents(page.extents or b"")
    except ValueError as err:
        raise runner.violation(operation, str(err)) from err
    for extent in extents:
        if extent.offset >= size_bytes:
            raise runner.violation(operation, f"an extent at {extent.offset}, beyond {size_bytes}")
    found.extend(extents)
    return end


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
                if page.first_chunk != following or rest or following + count > stop:
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
    for piece in runner.run(operation.name, VmId=vm_id, CheckpointId=checkpoint_id):
        if position == size:
            path, position, size = piece.path, 0, piece.size_bytes
        data = piece.data or b""
        if (piece.path, piece.size_bytes, piece.offset_bytes) != (path, size, position):
            raise runner.violation(operation, f"unexpected piece of {piece.name} at {piece.offset_bytes}")
        if hashlib.sha256(data).hexdigest() != piece.sha256:
            raise runner.violation(operation, f"the digest of {piece.name} at {position} does not match")
        position += len(data)
        if position > size:
            raise runner.violation(operation, f"{piece.name} is longer than its {size} bytes")
        yield piece
    if position != size:
        raise runner.violation(operation, f"{path} ends at byte {position} of {size}")
