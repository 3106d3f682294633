"""Nodes at one place in the trees of several versions of a disk, and what differs between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hvpsbridge.formats.chunk import ID_BYTES
from hvpsbridge.formats.index_table import Rows
from hvpsbridge.formats.node import FAN_OUT


@dataclass(frozen=True, slots=True)
class Column:
    """Nodes at one place.

    Attributes:
        number: of the place in its level of the tree.
        versions: ids of the nodes, oldest first.
    """

    number: int
    versions: list[bytes]


def children(nodes: Sequence[bytes], first: int, count: int) -> list[Column]:
    """Columns of the children of nodes at one place, without zero ids, and without those that did not change.

    Args:
        nodes: 8 KiB each, oldest first.
        first: number of the first child.
        count: how many children are in the tree.
    """
    ids, changed = _changed(nodes, count)
    found: dict[int, list[bytes]] = {}
    for version, index in zip(*(each.tolist() for each in np.nonzero(changed)), strict=True):
        found.setdefault(index, []).append(ids[version, index].tobytes())
    return [Column(first + index, found[index]) for index in sorted(found)]


def new_ids(leaves: Sequence[bytes], count: int) -> bytes:
    """Ids in leaves at one place, one after another, without zero ids, and without those that did not change.

    Args:
        leaves: 8 KiB each, oldest first.
        count: how many chunks are left to the end of the disk.
    """
    ids, changed = _changed(leaves, min(count, FAN_OUT))
    return ids[changed].tobytes()


def batches(columns: Sequence[Column], most: int) -> Iterator[list[Column]]:
    """Columns with about so many nodes at a time."""
    batch: list[Column] = []
    count = 0
    for column in columns:
        if batch and count + len(column.versions) > most:
            yield batch
            batch, count = [], 0
        batch.append(column)
        count += len(column.versions)
    if batch:
        yield batch


def _changed(nodes: Sequence[bytes], count: int) -> tuple[Rows, Rows]:
    """Ids by version and place, and which of them are not zero and not as in the version before."""
    words = np.frombuffer(b"".join(nodes), np.uint64).reshape(len(nodes), FAN_OUT, ID_BYTES // 8)[:, :count]
    changed: Rows = np.asarray(words.any(axis=2))
    changed[1:] &= (words[1:] != words[:-1]).any(axis=2)
    return np.ascontiguousarray(words), changed
