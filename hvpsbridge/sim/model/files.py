"""Backing files of layers: reading through a chain, writing to its top, freezing, merging.

Only this module touches backing files. A layer's bytes are at their offsets in the disk in a sparse raw
file, so a resolved chain is a table of extents and layers that a reader can follow with ``pread``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hvpsbridge.formats.extents import Extent, subtract
from hvpsbridge.sim.model import sparse
from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.state import VhdType, World
from hvpsbridge.sim.model.stored import Layer
from hvpsbridge.units import MIB

# How much of two images is compared at once.
COMPARE_BYTES = 1 * MIB
# Header, tables and log of a VHDX before its first block, as file_tables lays it out.
VHDX_OVERHEAD_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Piece:
    """An extent of a disk and the number of the layer that holds it."""

    extent: Extent
    layer: int


class DiskFiles:
    """Backing files of all layers. Callers hold the model's lock.

    Attributes:
        folder: where they are.
    """

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        self._world = world
        self._open: dict[int, int] = {}
        self._lock = threading.Lock()
        # Makes a virtual disk of a file that a program wrote; None if there is no such file.
        self.adopt: Callable[[str], Layer | None] = lambda path: None
        # Whether a program has such a file open to write.
        self.is_open: Callable[[str], bool] = lambda path: False
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove_unknown(self) -> None:
        """Delete files of no known layer, left by a process that was killed before it saved."""
        known = {layer.backing for layer in self._world.layers.values()}
        for file in self.folder.glob("*.raw"):
            if file.name not in known:
                file.unlink()

    def close(self) -> None:
        """Close all files."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def backing(self, layer: Layer) -> Path:
        """The sparse raw file with the layer's own bytes."""
        return self.folder / layer.backing

    # -- creating and finding -----------------------------------------------------------------------

    def new_base(self, layer: Layer, image: Path | None) -> None:
        """Create the file of a base layer, empty or from a raw image."""
        target = self.backing(layer)
        if image is None:
            sparse.create(target, layer.size_bytes)
        else:
            sparse.copy(image, target)
            os.truncate(target, layer.size_bytes)
            descriptor = self._descriptor(layer)
            layer.present.update(sparse.data_extents(descriptor, 0, layer.size_bytes))
        self._world.layers[layer.number] = layer

    def new_child(self, parent: Layer, path: str) -> Layer:
        """Create an empty child of ``parent``."""
        child = Layer(
            number=self._world.next(),
            path=path,
            size_bytes=parent.size_bytes,
            disk_id=parent.disk_id,
            parent=parent.number,
            logical_sector_bytes=parent.logical_sector_bytes,
            physical_sector_bytes=parent.physical_sector_bytes,
            block_bytes=2 * MIB,
            format=parent.format,
            kind=VhdType.Differencing,
            made_by_checkpoint=True,
        )
        sparse.create(self.backing(child), child.size_bytes)
        self._world.layers[child.number] = child
        return child

    def delete(self, layer: Layer) -> None:
        """Delete a layer and its file."""
        self._forget(layer.number)
        self.backing(layer).unlink(missing_ok=True)
        self._world.layers.pop(layer.number, None)
        for file in [file for file in self._world.host_files.values() if file.layer == layer.number]:
            (self.folder / file.backing).unlink(missing_ok=True)
            del self._world.host_files[file.number]

    def by_path(self, path: str) -> Layer:
        """The layer at a Windows path, ignoring case.

        Raises:
            DiskError: there is no such file.
        """
        wanted = normal_path(path)
        for layer in self._world.layers.values():
            if normal_path(layer.path) == wanted:
                return layer
        adopted = self.adopt(path)
        if adopted is not None:
            return adopted
        raise DiskError(Win32.FILE_NOT_FOUND, path)

    def chain(self, layer: Layer) -> list[Layer]:
        """The layer and its ancestors, top first.

        Raises:
            DiskError: a parent is missing.
        """
        chain = [layer]
        while chain[-1].parent is not None:
            parent = self._world.layers.get(chain[-1].parent)
            if parent is None:
                raise DiskError(Win32.VHD_PARENT_NOT_FOUND, layer.path)
            chain.append(parent)
        return chain

    def children(self, layer: Layer) -> list[Layer]:
        """Layers whose parent this one is."""
        return [child for child in self._world.layers.values() if child.parent == layer.number]

    def file_bytes(self, layer: Layer) -> int:
        """Size of the file on its Windows volume: allocated blocks and the overhead of the format."""
        if layer.kind is VhdType.Fixed:
            return layer.size_bytes + VHDX_OVERHEAD_BYTES
        blocks = layer.present.aligned(layer.block_bytes, layer.size_bytes)
        return blocks.total_bytes + VHDX_OVERHEAD_BYTES

    def stored_bytes(self, layer: Layer) -> int:
        """Bytes that the backing file takes on disk; trimmed ranges take none."""
        return self.backing(layer).stat().st_blocks * 512

    # -- content --------------------------------------------------------------------------------------

    def resolve(self, layer: Layer) -> list[Piece]:
        """Which layer of the chain holds which extent, ascending; the rest is zeros."""
        covered = ExtentRun()
        pieces: list[Piece] = []
        for member in self.chain(layer):
            own = tuple(member.present)
            fresh = subtract(own, covered.extents)
            pieces += [Piece(extent, member.number) for extent in fresh]
            covered.join(own)
        pieces.sort(key=lambda piece: piece.extent)
        return pieces

    def read(self, layer: Layer, offset: int, length: int) -> bytes:
        """Bytes of the disk as seen through ``layer``."""
        chain = self.chain(layer)
        if chain[0].present.covers(offset, offset + length):
            return sparse.read(self._descriptor(layer), length, offset)
        buffer = memoryview(bytearray(length))
        missing = [Extent(offset, length)]
        for member in chain:
            still: list[Extent] = []
            for want in missing:
                position = want.offset
                for extent in member.present.within(want.offset, want.end):
                    if extent.offset > position:
                        still.append(Extent(position, extent.offset - position))
                    part = buffer[extent.offset - offset : extent.end - offset]
                    sparse.read_into(self._descriptor(member), part, extent.offset)
                    position = extent.end
                if position < want.end:
                    still.append(Extent(position, want.end - position))
            missing = still
            if not missing:
                break
        return bytes(buffer)

    def write(self, layer: Layer, offset: int, data: bytes | memoryview) -> None:
        """Write to the layer's own file."""
        sparse.write(self._descriptor(layer), data, offset)
        layer.present.add(offset, offset + len(data))

    def clear(self, layer: Layer, offset: int, length: int) -> None:
        """Make a range read as zeros through this layer; it takes no space."""
        sparse.punch(self._descriptor(layer), offset, offset + length)
        if layer.parent is None:
            layer.present.remove(offset, offset + length)
        else:
            layer.present.add(offset, offset + length)

    def merge(self, child: Layer, parent: Layer) -> None:
        """Copy everything that ``child`` holds into ``parent``, which is resized to the child's size."""
        source, target = self._descriptor(child), self._descriptor(parent)
        if child.size_bytes != parent.size_bytes:
            self.resize(parent, child.size_bytes)
        for extent in child.present:
            sparse.copy_range(source, target, extent.offset, extent.end)
        parent.present.update(child.present)

    def resize(self, layer: Layer, size_bytes: int) -> None:
        """Resize the layer; what is cut off is lost."""
        os.ftruncate(self._descriptor(layer), size_bytes)
        layer.present.remove(size_bytes, max(layer.size_bytes, size_bytes))
        layer.size_bytes = size_bytes

    def differences(self, layer: Layer, newer: Path, unit_bytes: int) -> Iterator[tuple[int, bytes | int]]:
        """What turns the disk into ``newer``: (offset, bytes) to write or (offset, length) to clear.

        Only extents with data on either side are compared. Adjacent units that differ come as one.
        """
        with newer.open("rb") as image:
            size = layer.size_bytes
            here = [piece.extent for piece in self.resolve(layer)]
            there = list(sparse.data_extents(image.fileno(), 0, size))
            only_here = subtract(here, there)
            for extent in there:
                yield from self._compare(layer, image.fileno(), extent, unit_bytes)
            for extent in only_here:
                yield from self._nonzero(layer, extent)

    # -- inside ---------------------------------------------------------------------------------------

    def _compare(
        self, layer: Layer, image: int, extent: Extent, unit: int
    ) -> Iterator[tuple[int, bytes | int]]:
        position = extent.offset // unit * unit
        end = min(-(-extent.end // unit) * unit, layer.size_bytes)
        while position < end:
            length = min(COMPARE_BYTES, end - position)
            new = sparse.read(image, length, position)
            old = self.read(layer, position, length)
            if new != old:
                yield from _differing(position, old, new, unit)
            position += length

    def _nonzero(self, layer: Layer, extent: Extent) -> Iterator[tuple[int, bytes | int]]:
        position = extent.offset
        while position < extent.end:
            length = min(COMPARE_BYTES, extent.end - position)
            if self.read(layer, position, length).count(0) != length:
                yield position, length
            position += length

    def _descriptor(self, layer: Layer) -> int:
        with self._lock:
            if layer.number not in self._open:
                self._open[layer.number] = os.open(self.backing(layer), os.O_RDWR | os.O_CLOEXEC)
            return self._open[layer.number]

    def _forget(self, number: int) -> None:
        with self._lock:
            descriptor = self._open.pop(number, None)
        if descriptor is not None:
            os.close(descriptor)


class ExtentRun:
    """A growing union of sorted extents, sorted and joined."""

    def __init__(self) -> None:
        self.extents: tuple[Extent, ...] = ()

    def join(self, other: tuple[Extent, ...]) -> None:
        """Add the extents of ``other``."""
        joined: list[Extent] = []
        for extent in sorted((*self.extents, *other)):
            if joined and extent.offset <= joined[-1].end:
                last = joined[-1]
                joined[-1] = Extent(last.offset, max(last.end, extent.end) - last.offset)
            else:
                joined.append(extent)
        self.extents = tuple(joined)


def normal_path(path: str) -> str:
    """A form in which two spellings of one Windows path are equal."""
    return path.replace("/", "\\").lower()


def path_key(path: str) -> str:
    """:func:`normal_path` of a file or folder, without a separator at the end."""
    return normal_path(path).rstrip("\\")


def _differing(position: int, old: bytes, new: bytes, unit: int) -> Iterator[tuple[int, bytes | int]]:
    start: int | None = None
    for at in range(0, len(new), unit):
        if new[at : at + unit] != old[at : at + unit]:
            start = at if start is None else start
        elif start is not None:
            yield position + start, new[start:at]
            start = None
    if start is not None:
        yield position + start, new[start:]
