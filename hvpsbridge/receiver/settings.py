"""How a pump reads: the figures that a host, a link and a disk decide between them."""

from __future__ import annotations

from dataclasses import dataclass

from hvpsbridge.units import MIB

# Raw bytes of a block: the host's serializer is fastest at 1 MiB (reference, transport).
BLOCK_BYTES = 1 * MIB
# Raw bytes of one request. With a credit of two this bounds what a host buffers for a slow receiver
# (reference, transport: windows of 4 to 16 MiB); the smaller end keeps several readers within 256 MiB.
WINDOW_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How one disk is read.

    Attributes:
        pipelines: reader pipelines at once, all in the disk's one process on the host.
        deflate: whether the host may deflate blocks where a sample pays.
        block_bytes: raw bytes of one answering block.
        window_bytes: raw bytes of one request; each pipeline keeps two of them asked for.
    """

    pipelines: int = 1
    deflate: bool = True
    block_bytes: int = BLOCK_BYTES
    window_bytes: int = WINDOW_BYTES
