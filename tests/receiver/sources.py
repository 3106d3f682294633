"""A block source that reads an image in memory as a host would, and may fail."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from hvpsbridge.errors import SessionLost
from hvpsbridge.formats.extents import Extent, split
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.wire import ChunkDigest, Request, encode_block


def answer(image: bytes, packed: bytes, first_block: int, piece_bytes: int = 24 * 1024) -> list[bytes]:
    """The blocks that a host sends for a request. Zero pieces have no data; sizes are odd on purpose."""
    request = Request.unpack(packed)
    grid = ChunkGrid(request.chunk_bytes)
    groups: list[list[tuple[Extent, bytes | None]]] = [[]]
    held = 0
    for extent in request.extents:
        for part in split([extent], piece_bytes):
            data = image[part.offset : part.end]
            assert len(data) == part.length, "the pump asked beyond the disk"
            if held + part.length > request.block_bytes and groups[-1]:
                groups.append([])
                held = 0
            groups[-1].append((part, data if data.count(0) < len(data) else None))
            held += part.length
    digests: list[list[ChunkDigest]] = [[] for _ in groups]
    if request.want_chunk_digests:
        for number in grid.touched(sorted(request.extents)):
            chunk = grid.extent(number, len(image))
            digest = hashlib.sha256(image[chunk.offset : chunk.end]).digest()
            last = max(
                index
                for index, group in enumerate(groups)
                for part, _ in group
                if grid.number(part.offset) <= number <= grid.number(part.end - 1)
            )
            digests[last].append(ChunkDigest(number, digest))
    return [
        encode_block(
            request.number,
            first_block + index,
            group,
            last=index == len(groups) - 1,
            chunk_digests=digests[index],
            deflate=request.allow_deflate and index % 2 == 0,
        )
        for index, group in enumerate(groups)
    ]


class ImageSource:
    """A pipeline that reads ``image``.

    ``tamper`` maps the list of blocks of one reply to what arrives, with the pipeline's block count
    so far; it may raise.
    """

    def __init__(
        self,
        image: bytes,
        tamper: Callable[[list[bytes], int], Sequence[bytes]] | None = None,
        *,
        trickle: int | None = None,
    ) -> None:
        self.image = image
        self.tamper = tamper
        self.trickle = trickle
        self.closed = False
        self.wire_bytes = 0
        self.requests: list[Request] = []
        self._made = 0
        self._waiting: list[bytes] = []

    def send(self, request: bytes) -> None:
        if self.closed:
            raise SessionLost("hv01", "Read-HvpsExtent", "closed")
        self.requests.append(Request.unpack(request))
        blocks = answer(self.image, request, self._made)
        self._made += len(blocks)
        arriving = blocks if self.tamper is None else list(self.tamper(blocks, self._made))
        self._waiting.extend(arriving)

    def receive(self, timeout_seconds: float) -> Sequence[bytes]:
        count = self.trickle or len(self._waiting)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self.wire_bytes += sum(map(len, taken)) * 2
        return taken

    def close(self) -> None:
        self.closed = True
