"""Reading and building a disk's tree of chunk ids (see ``formats.node``)."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from hvpsbridge.errors import Damaged, NoSpace, StoreError
from hvpsbridge.folders import temporary_folder_text
from hvpsbridge.formats.chunk import ID_BYTES, ZERO_ID
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.node import (
    FAN_OUT,
    NODE_BYTES,
    ZERO_NODE,
    TreeRoot,
    entries,
    entry,
    is_zero,
    levels,
    set_entry,
)
from hvpsbridge.repository.frames import FrameReader, label

# Nodes that a reader keeps in memory (512 KiB), and leaves that a builder does (2 MiB) before it uses its
# spill file.
NODES_KEPT = 64
LEAVES_KEPT = 256


class TreeReader:
    """A stored tree. Thread-safe; keeps the most recently used nodes."""

    def __init__(self, frames: FrameReader, root: TreeRoot, chunks: int) -> None:
        self._frames = frames
        self.root = root
        self.chunks = chunks
        self.level = levels(chunks)
        self._nodes: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def chunk_id(self, number: int) -> bytes:
        """Id of chunk ``number``; the zero id beyond the tree.

        Raises:
            Damaged: a node above it cannot be read.
        """
        if number >= self.chunks:
            return ZERO_ID
        return entry(self.node(1, number // FAN_OUT), number % FAN_OUT)

    def ids_between(self, first: int, end: int) -> list[bytes]:
        """Ids of the chunks from ``first`` up to ``end``; zero ids beyond the tree.

        Raises:
            Damaged: a node above them cannot be read.
        """
        found: list[bytes] = []
        while first < end:
            stop = min(end, (first // FAN_OUT + 1) * FAN_OUT)
            node = ZERO_NODE if first >= self.chunks else self.node(1, first // FAN_OUT)
            start = first % FAN_OUT
            for index in range(start, start + stop - first):
                found.append(node[index * ID_BYTES : (index + 1) * ID_BYTES])
            first = stop
        return found

    def node_id(self, level: int, number: int) -> bytes:
        """Id of node ``number`` of a level (leaves are level 1); the zero id beyond the tree."""
        if level > self.level or number >= FAN_OUT ** (self.level - level):
            return ZERO_ID
        identity = self.root.root
        for above in range(self.level, level, -1):
            if is_zero(identity):
                break
            identity = entry(self._load(identity), number // FAN_OUT ** (above - 1 - level) % FAN_OUT)
        return identity

    def node(self, level: int, number: int) -> bytes:
        """The node's 8 KiB; zeros where nothing is stored."""
        identity = self.node_id(level, number)
        return ZERO_NODE if is_zero(identity) else self._load(identity)

    def leaves(
        self, walked: set[bytes] | None = None, on_damaged: Callable[[int, int, Damaged], None] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Stored leaves as (number, node), ascending; without leaves of zeros.

        Args:
            walked: ids of subtrees to skip; those that are read completely are added. Increments share most
                of their tree, so a walk over many points reads each part once.
            on_damaged: called with the first and the number of chunks below a node that cannot be read, which
                are left out then. Without it the walk ends there.

        Raises:
            Damaged: a node cannot be read, and there is no ``on_damaged``, or the tree is forged.
        """
        yield from self._walk(self.root.root, self.level, 0, walked, on_damaged)

    def chunk_ids(
        self, walked: set[bytes] | None = None, on_damaged: Callable[[int, int, Damaged], None] | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Number and id of every chunk that is not zero, ascending.

        Args:
            walked: as in :meth:`leaves`.
            on_damaged: as in :meth:`leaves`.

        Raises:
            Damaged: as :meth:`leaves`.
        """
        for leaf, node in self.leaves(walked, on_damaged):
            first = leaf * FAN_OUT
            for number, identity in enumerate(entries(node)[: self.chunks - first], first):
                if identity != ZERO_ID:
                    yield number, identity

    def node_ids(self) -> frozenset[bytes]:
        """Ids of all stored nodes of the tree that can be reached."""
        found: set[bytes] = set()
        self._gather(self.root.root, self.level, found)
        return frozenset(found)

    def _gather(self, identity: bytes, level: int, found: set[bytes]) -> None:
        if is_zero(identity) or identity in found:
            return
        found.add(identity)
        if level > 1:
            try:
                below = entries(self._load(identity))
            except Damaged:
                return  # its own id has been added
            for each in below:
                self._gather(each, level - 1, found)

    def _walk(
        self,
        identity: bytes,
        level: int,
        number: int,
        walked: set[bytes] | None,
        on_damaged: Callable[[int, int, Damaged], None] | None,
    ) -> Iterator[tuple[int, bytes]]:
        if is_zero(identity) or (walked is not None and identity in walked):
            return
        try:
            node = self._load(identity)
        except Damaged as err:
            if on_damaged is None:
                raise
            first = number * FAN_OUT**level
            on_damaged(first, min(FAN_OUT**level, self.chunks - first), err)
            return
        if level == 1:
            yield number, node
        else:
            for index, below in enumerate(entries(node)):
                if below != ZERO_ID:
                    if (number * FAN_OUT + index) * FAN_OUT ** (level - 1) >= self.chunks:
                        # Forged, in a plain repository: nodes that name one node many times make no end.
                        raise self._frames.damaged(
                            label(Kind.NODE_PACK, identity), "it has chunks beyond the end of the disk"
                        )
                    yield from self._walk(below, level - 1, number * FAN_OUT + index, walked, on_damaged)
        if walked is not None:
            walked.add(identity)

    def _load(self, identity: bytes) -> bytes:
        with self._lock:
            node = self._nodes.get(identity)
            if node is not None:
                self._nodes.move_to_end(identity)
                return node
        node = self._frames.read(identity, Kind.NODE_PACK)
        if len(node) != NODE_BYTES:
            raise self._frames.damaged(label(Kind.NODE_PACK, identity), f"it is {len(node)} bytes long")
        with self._lock:
            self._nodes[identity] = node
            while len(self._nodes) > NODES_KEPT:
                self._nodes.popitem(last=False)
        return node


class TreeBuilder:
    """Builds a tree from chunks in any order, on a base or on zeros. Not thread-safe.

    Up to :data:`LEAVES_KEPT` modified leaves are in memory. The least recently used ones beyond that go to a
    spill file: a terabyte of chunks of 256 KiB has 128 MiB of leaves, and random writes modify them all.

    Args:
        store_node: stores a node unless it is stored already; returns its id.
        base: the tree to modify; None for zeros.
        spill_folder: folder of the spill file, which has no name and is gone when the process ends.
    """

    def __init__(
        self,
        store_node: Callable[[bytes], bytes],
        base: TreeReader | None,
        spill_folder: Path | None = None,
    ) -> None:
        self._store_node = store_node
        self._base = base
        # Without a cache folder, the spill file goes to the default temporary folder.
        # Without the cache folder, as when nothing can be written there.
        usable = spill_folder is not None and os.access(spill_folder, os.W_OK | os.X_OK)
        self._spill_folder = spill_folder if usable else None
        self._leaves: OrderedDict[int, bytearray] = OrderedDict()
        self._spilled: set[int] = set()
        self._spill: IO[bytes] | None = None

    def prepare(self, number: int) -> None:
        """Read what the base has for the leaf of chunk ``number``.

        Raises:
            Damaged: a node of the base cannot be read.
        """
        if self._base is not None:
            self._leaf(number // FAN_OUT)

    def put(self, number: int, identity: bytes) -> None:
        """Set the id of chunk ``number``."""
        leaf = number // FAN_OUT
        if self._base is None and not self._holds(leaf) and is_zero(identity):
            return
        set_entry(self._leaf(leaf), number % FAN_OUT, identity)

    def finish(self, chunks: int, size_bytes: int) -> TreeRoot:
        """Store the modified nodes; the root of the tree of the first ``chunks`` chunks."""
        top = levels(chunks)
        changed: dict[int, bytes] = {}
        touched = sorted({*self._leaves, *self._spilled, *self._edge(chunks)})
        for leaf in touched:
            if leaf * FAN_OUT >= chunks:
                continue
            node = self._leaf(leaf)
            if (leaf + 1) * FAN_OUT > chunks:
                kept = chunks - leaf * FAN_OUT
                node[kept * len(ZERO_ID) :] = ZERO_NODE[kept * len(ZERO_ID) :]
            changed[leaf] = self._stored(bytes(node))
            self._leaves.pop(leaf, None)
        for level in range(2, top + 1):
            changed = self._above(changed, level, chunks)
        self.close()
        if 0 in changed:
            return TreeRoot(changed[0], size_bytes)
        return TreeRoot(ZERO_ID if self._base is None else self._base.node_id(top, 0), size_bytes)

    def close(self) -> None:
        """Close the spill file. May be called more than once."""
        if self._spill is not None:
            self._spill.close()
            self._spill = None
        self._leaves.clear()
        self._spilled.clear()

    def _edge(self, chunks: int) -> frozenset[int]:
        # A base of another size: its last leaf is cut, or its root becomes a node of a higher tree.
        if self._base is None or self._base.chunks == chunks:
            return frozenset()
        edge = min(chunks, self._base.chunks)
        return frozenset({edge // FAN_OUT, max(edge - 1, 0) // FAN_OUT, 0})

    def _above(self, changed: dict[int, bytes], level: int, chunks: int) -> dict[int, bytes]:
        parents: dict[int, bytearray] = {}
        covered = FAN_OUT ** (level - 1)  # chunks below one entry of this level
        for number, identity in changed.items():
            parent = parents.get(number // FAN_OUT)
            if parent is None:
                parent = parents[number // FAN_OUT] = self._inherited(
                    level, number // FAN_OUT, covered, chunks
                )
            set_entry(parent, number % FAN_OUT, identity)
        return {number: self._stored(bytes(node)) for number, node in parents.items()}

    def _inherited(self, level: int, number: int, covered: int, chunks: int) -> bytearray:
        if self._base is None:
            return bytearray(NODE_BYTES)
        if level <= self._base.level:
            node = bytearray(self._base.node(level, number))
        else:
            # Above the base's root: the tree of the base is the first entry.
            node = bytearray(NODE_BYTES)
            if number == 0:
                set_entry(node, 0, self._base.node_id(min(level - 1, self._base.level), 0))
        for index in range(FAN_OUT):
            if (number * FAN_OUT + index) * covered >= chunks:
                node[index * len(ZERO_ID) :] = ZERO_NODE[index * len(ZERO_ID) :]
                break
        return node

    def _stored(self, node: bytes) -> bytes:
        return ZERO_ID if node == ZERO_NODE else self._store_node(node)

    def _holds(self, leaf: int) -> bool:
        return leaf in self._leaves or leaf in self._spilled

    def _leaf(self, number: int) -> bytearray:
        node = self._leaves.get(number)
        if node is not None:
            self._leaves.move_to_end(number)
            return node
        if number in self._spilled:
            assert self._spill is not None  # the file has the leaf
            node = self._read_spilled(self._spill.fileno(), number)
            self._spilled.discard(number)
        elif self._base is not None:
            node = bytearray(self._base.node(1, number))
        else:
            node = bytearray(NODE_BYTES)
        self._leaves[number] = node
        while len(self._leaves) > LEAVES_KEPT:
            self._evict(*self._leaves.popitem(last=False))
        return node

    def _read_spilled(self, descriptor: int, number: int) -> bytearray:
        try:
            node = bytearray(os.pread(descriptor, NODE_BYTES, number * NODE_BYTES))
        except OSError as err:
            raise self._spill_failed("read", err.strerror or str(err)) from err
        if len(node) != NODE_BYTES:
            raise self._spill_failed("read", f"it has {len(node)} bytes of a node")
        return node

    def _spill_failed(self, action: str, reason: str) -> StoreError:
        where = str(self._spill_folder or temporary_folder_text())
        return StoreError(where, action, "a tree of chunk ids", reason)

    def _evict(self, number: int, node: bytearray) -> None:
        try:
            if self._spill is None:
                folder = self._spill_folder
                self._spill = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (lives with self)
            written = os.pwrite(self._spill.fileno(), node, number * NODE_BYTES)
        except OSError as err:
            raise self._no_spill(err.strerror or str(err)) from err
        if written != len(node):
            raise self._no_spill("no space left")
        self._spilled.add(number)

    def _no_spill(self, reason: str) -> NoSpace:
        where = str(self._spill_folder or temporary_folder_text())
        return NoSpace(where, "write", "a tree of chunk ids", reason)
