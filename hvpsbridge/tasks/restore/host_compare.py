"""Compares a disk on a host, as its driver reads it, with a point."""

from __future__ import annotations

from collections.abc import Iterator

from hvpsbridge.formats.chunk import zero_digest
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import DIGEST_BYTES
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.tasks.restore.source import DiskSource


def differing_chunks(host: HyperVHost, path: str, source: DiskSource) -> Iterator[Extent]:
    """Chunks of the disk in a file that are not those of the point, ascending.

    Chunks that were found to be damaged count as zeros, or are left out if the source keeps what the disk
    has. The disk stays attached to be read.

    Args:
        host: the host.
        path: of a file that nothing writes.
        source: a disk of the same size.

    Raises:
        DiskDamaged: a part of the tree cannot be read, and may not be left out.
        Interrupted: the restore was cancelled.
        HostError: the host cannot read the disk.
    """
    repository = source.repository
    grid, size = repository.grid, source.size_bytes
    # Both are ascending, so neither is held: a disk of many TiB has millions of chunks.
    stored = source.image.chunk_ids(on_damaged=source.on_damaged)
    coming = next(stored, None)
    for page in host.digests(path, grid.chunk_bytes, 0, size):
        for index in range(len(page.digests) // DIGEST_BYTES):
            source.cancel.check()
            number = page.first_chunk + index
            extent = grid.extent(number, size)
            digest = page.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
            identity = None
            if coming is not None and coming[0] == number:
                identity, coming = coming[1], next(stored, None)
            if source.is_damaged(extent.offset):
                if source.keeps_damaged:
                    continue
                identity = None
            same = (
                digest == zero_digest(extent.length)
                if identity is None
                else repository.identify(digest) == identity
            )
            if not same:
                yield extent
