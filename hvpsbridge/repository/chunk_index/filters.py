"""The filter in front of a run: blocks of 64 bytes, a Bloom filter each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hvpsbridge.formats.index_table import Rows

BLOCK_BYTES = 64
BLOCK_BITS = 8 * BLOCK_BYTES
# With 10 bits for each row and 6 of them set, 1.2 % of absent ids pass.
FILTER_BITS = 10
PROBES = 6


def filter_mask(low: int) -> int:
    """The bits of a filter's block that an id sets, from its second 8 bytes."""
    mask = 0
    for probe in range(PROBES):
        mask |= 1 << (low >> 9 * probe & BLOCK_BITS - 1)
    return mask


def filter_bits(low: Rows) -> Iterator[Rows]:
    """The same for many ids: of each probe, the number of the bit that each id sets."""
    for probe in range(PROBES):
        yield low >> np.uint64(9 * probe) & np.uint64(BLOCK_BITS - 1)


def block_numbers(high: Rows, blocks: int) -> Rows:
    """Numbers of the blocks of a filter to which ids belong, from their first 8 bytes."""
    return ((high >> np.uint64(32)) * np.uint64(blocks) >> np.uint64(32)).astype(np.intp)
