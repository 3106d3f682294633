"""Golden images: what each disk of each checkpoint must turn out to be, byte for byte.

This module shares no layer, chain or tracking code with what a backup reads. Every guest write is made a
second time, on a flat image of the disk. A checkpoint is a copy-on-write delta: before a range is
overwritten, its old bytes are saved in the newest checkpoint's delta. A checkpoint's image is built from
deltas when it is first asked for. Tests and the demo compare restored disks with these images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from hvpsbridge.formats.extents import Extent, subtract
from hvpsbridge.sim.model import sparse
from hvpsbridge.sim.model.extentset import ExtentSet
from hvpsbridge.sim.model.state import Slot

_STATE_FILE = "kept.json"


@dataclass(slots=True)
class _Delta:
    """Old bytes of the ranges that were overwritten between a checkpoint and the next one.

    Attributes:
        checkpoint: the checkpoint's id.
        size_bytes: size of the disk at the checkpoint.
    """

    checkpoint: str
    size_bytes: int
    ranges: ExtentSet = field(default_factory=ExtentSet)


@dataclass(slots=True)
class _Disk:
    """A disk's flat image and the deltas of its checkpoints, oldest first."""

    number: int
    deltas: list[_Delta] = field(default_factory=list)


class GoldenImages:
    """Flat images of disks, and images of checkpoints built from them.

    ``live`` and ``at_checkpoint`` take the lock; callers of the other methods hold it.

    Args:
        folder: where the images are.
        lock: the model's lock.
        enabled: whether to keep images at all.
    """

    def __init__(self, folder: Path, lock: AbstractContextManager[object], *, enabled: bool) -> None:
        self._folder = folder
        self._lock = lock
        self.enabled = enabled
        self._last = 0
        # Disks by VM and slot, and disks that were removed but have checkpoints.
        self._live: dict[str, _Disk] = {}
        self._retired: list[tuple[str, _Disk]] = []
        if (folder / _STATE_FILE).exists():
            self._load()

    # -- images -----------------------------------------------------------------------------------------

    def live(self, vm_id: UUID, slot: Slot) -> Path:
        """Flat image of a disk as the guest sees it now. The file does not exist if there is no such disk."""
        with self._lock:
            disk = self._live.get(_key(vm_id, slot))
            return self._image(disk) if disk is not None else self._folder / "none"

    def at_checkpoint(self, checkpoint_id: UUID, slot: Slot) -> Path:
        """Raw image of a disk as it was at a checkpoint. It outlives the checkpoint.

        Raises:
            FileNotFoundError: the checkpoint has no image of that disk.
        """
        with self._lock:
            target = self._folder / "checkpoints" / str(checkpoint_id) / f"{slot}.raw"
            if not target.exists():
                disk = self._disk_of(checkpoint_id, slot)
                if disk is None:
                    raise FileNotFoundError(f"checkpoint {checkpoint_id} has no golden image of {slot}")
                self._build(target, disk, _index(disk, checkpoint_id))
            return target

    def _build(self, target: Path, disk: _Disk, first: int) -> None:
        """Build the image of a disk's checkpoint number ``first``."""
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = target.with_suffix(".new")
        sparse.copy(self._image(disk), beside)
        with _opened(beside) as image:
            os.ftruncate(image, max(delta.size_bytes for delta in disk.deltas[first:]))
            # From the newest back: an older delta holds what was there before.
            for delta in reversed(disk.deltas[first:]):
                with _opened(self._delta_file(disk, delta)) as old:
                    for extent in delta.ranges:
                        sparse.copy_range(old, image, extent.offset, extent.end)
            os.ftruncate(image, disk.deltas[first].size_bytes)
        beside.replace(target)

    # -- what happens to disks --------------------------------------------------------------------------

    def add(self, vm_id: UUID, slot: Slot, size_bytes: int, image: Path | None) -> None:
        """A disk was added, from ``image`` or empty."""
        if not self.enabled:
            return
        self.remove(vm_id, slot)
        self._last += 1
        disk = _Disk(self._last)
        self._live[_key(vm_id, slot)] = disk
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self._image(disk)
        if image is None:
            sparse.create(target, size_bytes)
        else:
            sparse.copy(image, target)
            os.truncate(target, size_bytes)

    def remove(self, vm_id: UUID, slot: Slot) -> None:
        """A disk was removed from the VM. Images of its checkpoints remain."""
        disk = self._live.pop(_key(vm_id, slot), None)
        if disk is None:
            return
        if disk.deltas:
            self._retired.append((_key(vm_id, slot), disk))
        else:
            self._image(disk).unlink()

    def write(self, vm_id: UUID, slot: Slot, offset: int, data: bytes | memoryview) -> None:
        """The guest wrote ``data`` at ``offset``."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            with _opened(self._image(disk)) as image:
                self._save_old(disk, image, offset, offset + len(data))
                sparse.write(image, data, offset)

    def clear(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        """The guest trimmed a range, which reads as zeros now."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            with _opened(self._image(disk)) as image:
                self._save_old(disk, image, offset, offset + length)
                sparse.punch(image, offset, offset + length)

    def resize(self, vm_id: UUID, slot: Slot, size_bytes: int) -> None:
        """The disk was resized."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            with _opened(self._image(disk)) as image:
                self._save_old(disk, image, size_bytes, os.fstat(image).st_size)
                os.ftruncate(image, size_bytes)

    def freeze(self, checkpoint_id: UUID, vm_id: UUID, slot: Slot) -> None:
        """A checkpoint was created: start its delta."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            size = self._image(disk).stat().st_size
            delta = _Delta(str(checkpoint_id), size)
            sparse.create(self._delta_file(disk, delta), size)
            disk.deltas.append(delta)

    def apply(self, checkpoint_id: UUID, vm_id: UUID, slot: Slot) -> None:
        """The disk was reverted to a checkpoint."""
        if not self.enabled:
            return
        key, wanted = _key(vm_id, slot), self._disk_of(checkpoint_id, slot)
        assert wanted is not None, "a checkpoint froze this disk"
        if self._live.get(key) is not wanted:
            self.remove(vm_id, slot)
            self._retired.remove((key, wanted))
            self._live[key] = wanted
        then = self.at_checkpoint(checkpoint_id, slot)
        first = _index(wanted, checkpoint_id)
        changed = ExtentSet(extent for delta in wanted.deltas[first:] for extent in delta.ranges)
        with _opened(self._image(wanted)) as image, _opened(then) as old:
            size, now = os.fstat(old).st_size, os.fstat(image).st_size
            self._save_old(wanted, image, min(size, now), now)
            os.ftruncate(image, size)
            for extent in list(changed.within(0, size)):
                self._save_old(wanted, image, extent.offset, min(extent.end, now))
                sparse.copy_range(old, image, extent.offset, extent.end)

    # -- the state file ---------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the state file, in one step."""
        if not self.enabled or not self._folder.exists():
            return
        document = {
            "last": self._last,
            "live": [[key, _to_json(disk)] for key, disk in self._live.items()],
            "retired": [[key, _to_json(disk)] for key, disk in self._retired],
        }
        beside = self._folder / (_STATE_FILE + ".new")
        beside.write_text(json.dumps(document), encoding="utf-8")
        beside.replace(self._folder / _STATE_FILE)

    def _load(self) -> None:
        document = json.loads((self._folder / _STATE_FILE).read_text(encoding="utf-8"))
        self._last = document["last"]
        self._live = {key: _from_json(disk) for key, disk in document["live"]}
        self._retired = [(key, _from_json(disk)) for key, disk in document["retired"]]

    # -- inside -----------------------------------------------------------------------------------------

    def _save_old(self, disk: _Disk, image: int, start: int, end: int) -> None:
        """Copy bytes that are about to be overwritten to the newest delta, unless it has them."""
        if not disk.deltas or start >= end:
            return
        delta = disk.deltas[-1]
        fresh = subtract((Extent(start, end - start),), tuple(delta.ranges.within(start, end)))
        if fresh:
            with _opened(self._delta_file(disk, delta)) as old:
                for extent in fresh:
                    sparse.copy_range(image, old, extent.offset, extent.end)
            delta.ranges.add(start, end)

    def _image(self, disk: _Disk) -> Path:
        return self._folder / f"{disk.number}.raw"

    def _delta_file(self, disk: _Disk, delta: _Delta) -> Path:
        return self._folder / f"{disk.number}-{delta.checkpoint}.old"

    def _disk_of(self, checkpoint_id: UUID, slot: Slot) -> _Disk | None:
        everywhere = [*self._live.items(), *self._retired]
        for key, disk in everywhere:
            if key.endswith(f"/{slot}") and any(d.checkpoint == str(checkpoint_id) for d in disk.deltas):
                return disk
        return None


def _key(vm_id: UUID, slot: Slot) -> str:
    return f"{vm_id}/{slot}"


def _index(disk: _Disk, checkpoint_id: UUID) -> int:
    return next(i for i, delta in enumerate(disk.deltas) if delta.checkpoint == str(checkpoint_id))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _to_json(disk: _Disk) -> dict[str, object]:
    deltas = [[delta.checkpoint, delta.size_bytes, delta.ranges.to_text()] for delta in disk.deltas]
    return {"number": disk.number, "asides": deltas}


def _from_json(document: dict[str, object]) -> _Disk:
    number, deltas = document["number"], document["asides"]
    assert isinstance(number, int)
    assert isinstance(deltas, list)
    return _Disk(number, [_Delta(name, size, ExtentSet.from_text(text)) for name, size, text in deltas])
