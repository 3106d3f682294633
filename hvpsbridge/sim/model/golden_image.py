"""Images kept apart: what each disk of each checkpoint must turn out to be, byte for byte.

Rule: shares no layer, chain or tracking code with what a backup reads. Every guest write is made here a
second time, on a flat image of the disk. A checkpoint costs nothing at first: before a range is overwritten
its old bytes are put aside for the newest checkpoint, and an image is built from those when somebody wants
to compare with it. Whoever restores a disk compares with that image.
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
class _Aside:
    """Old bytes of the ranges that were overwritten after a checkpoint and before the next one."""

    checkpoint: str
    size_bytes: int
    ranges: ExtentSet = field(default_factory=ExtentSet)


@dataclass(slots=True)
class _Disk:
    """A disk's flat image, and what was put aside for its checkpoints, oldest first."""

    number: int
    asides: list[_Aside] = field(default_factory=list)


class GoldenImages:
    """Flat images of live disks, and images of checkpoints built from them.

    ``live`` and ``at_checkpoint`` take the model's lock; callers of the other methods hold it.
    """

    def __init__(self, folder: Path, lock: AbstractContextManager[object], *, enabled: bool) -> None:
        self._folder = folder
        self._lock = lock
        self.enabled = enabled
        self._last = 0
        # Disks by VM and slot, and those that were taken off.
        self._live: dict[str, _Disk] = {}
        self._retired: list[tuple[str, _Disk]] = []
        if (folder / _STATE_FILE).exists():
            self._load()

    # -- looking --------------------------------------------------------------------------------------

    def live(self, vm_id: UUID, slot: Slot) -> Path:
        """Flat image of a disk as the guest sees it now; no file when there is no such disk."""
        with self._lock:
            disk = self._live.get(_key(vm_id, slot))
            return self._image(disk) if disk is not None else self._folder / "none"

    def at_checkpoint(self, checkpoint_id: UUID, slot: Slot) -> Path:
        """Raw image of a disk as it was at a checkpoint, built on first use; it outlives the checkpoint.

        Raises:
            FileNotFoundError: nothing was kept of it.
        """
        with self._lock:
            target = self._folder / "checkpoints" / str(checkpoint_id) / f"{slot}.raw"
            if not target.exists():
                disk = self._disk_of(checkpoint_id, slot)
                if disk is None:
                    raise FileNotFoundError(f"no image was kept of {slot} at checkpoint {checkpoint_id}")
                self._build(target, disk, _index(disk, checkpoint_id))
            return target

    def _build(self, target: Path, disk: _Disk, first: int) -> None:
        """Make the image of a disk's checkpoint number ``first``."""
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = target.with_suffix(".new")
        sparse.copy(self._image(disk), beside)
        with _opened(beside) as image:
            os.ftruncate(image, max(aside.size_bytes for aside in disk.asides[first:]))
            # From the newest back: what an older checkpoint put aside is what stood there then.
            for aside in reversed(disk.asides[first:]):
                with _opened(self._aside(disk, aside)) as old:
                    for extent in aside.ranges:
                        sparse.copy_range(old, image, extent.offset, extent.end)
            os.ftruncate(image, disk.asides[first].size_bytes)
        beside.replace(target)

    # -- what happens to disks ------------------------------------------------------------------------

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
        """A disk was taken off the VM; what checkpoints keep of it stays."""
        disk = self._live.pop(_key(vm_id, slot), None)
        if disk is None:
            return
        if disk.asides:
            self._retired.append((_key(vm_id, slot), disk))
        else:
            self._image(disk).unlink()

    def write(self, vm_id: UUID, slot: Slot, offset: int, data: bytes | memoryview) -> None:
        """The guest wrote ``data`` at ``offset``."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            with _opened(self._image(disk)) as image:
                self._put_aside(disk, image, offset, offset + len(data))
                sparse.write(image, data, offset)

    def clear(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        """The guest trimmed a range; it reads as zeros."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            with _opened(self._image(disk)) as image:
                self._put_aside(disk, image, offset, offset + length)
                sparse.punch(image, offset, offset + length)

    def resize(self, vm_id: UUID, slot: Slot, size_bytes: int) -> None:
        """The disk has another size now."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            with _opened(self._image(disk)) as image:
                self._put_aside(disk, image, size_bytes, os.fstat(image).st_size)
                os.ftruncate(image, size_bytes)

    def freeze(self, checkpoint_id: UUID, vm_id: UUID, slot: Slot) -> None:
        """A checkpoint was made: what the disk is at this moment is kept."""
        if self.enabled:
            disk = self._live[_key(vm_id, slot)]
            size = self._image(disk).stat().st_size
            aside = _Aside(str(checkpoint_id), size)
            sparse.create(self._aside(disk, aside), size)
            disk.asides.append(aside)

    def apply(self, checkpoint_id: UUID, vm_id: UUID, slot: Slot) -> None:
        """The guest's disk goes back to what it was at a checkpoint."""
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
        changed = ExtentSet(extent for aside in wanted.asides[first:] for extent in aside.ranges)
        with _opened(self._image(wanted)) as image, _opened(then) as old:
            size, now = os.fstat(old).st_size, os.fstat(image).st_size
            self._put_aside(wanted, image, min(size, now), now)
            os.ftruncate(image, size)
            for extent in list(changed.within(0, size)):
                self._put_aside(wanted, image, extent.offset, min(extent.end, now))
                sparse.copy_range(old, image, extent.offset, extent.end)

    def drop(self, checkpoint_id: UUID) -> None:
        """Nobody will compare with this checkpoint any more: forget it, and the space it took."""
        for disk in self._disks():
            index = next((i for i, a in enumerate(disk.asides) if a.checkpoint == str(checkpoint_id)), None)
            if index is None:
                continue
            aside = disk.asides.pop(index)
            path = self._aside(disk, aside)
            if index:
                # What the older one lacks of it was the same then as it was at this one.
                older = disk.asides[index - 1]
                with _opened(path) as source, _opened(self._aside(disk, older)) as target:
                    for extent in subtract(tuple(aside.ranges), tuple(older.ranges)):
                        sparse.copy_range(source, target, extent.offset, extent.end)
                older.ranges.update(aside.ranges)
            path.unlink()
        folder = self._folder / "checkpoints" / str(checkpoint_id)
        for image in folder.glob("*.raw"):
            image.unlink()

    # -- the state file -------------------------------------------------------------------------------

    def save(self) -> None:
        """Write down what is kept, in one step."""
        if not self.enabled or not self._folder.exists():
            return
        document = {
            "last": self._last,
            "live": [[key, _plain(disk)] for key, disk in self._live.items()],
            "retired": [[key, _plain(disk)] for key, disk in self._retired],
        }
        beside = self._folder / (_STATE_FILE + ".new")
        beside.write_text(json.dumps(document), encoding="utf-8")
        beside.replace(self._folder / _STATE_FILE)

    def _load(self) -> None:
        document = json.loads((self._folder / _STATE_FILE).read_text(encoding="utf-8"))
        self._last = document["last"]
        self._live = {key: _rich(disk) for key, disk in document["live"]}
        self._retired = [(key, _rich(disk)) for key, disk in document["retired"]]

    # -- inside -----------------------------------------------------------------------------------------

    def _put_aside(self, disk: _Disk, image: int, start: int, end: int) -> None:
        """Keep bytes about to be overwritten, once, for the newest checkpoint."""
        if not disk.asides or start >= end:
            return
        aside = disk.asides[-1]
        fresh = subtract((Extent(start, end - start),), tuple(aside.ranges.within(start, end)))
        if fresh:
            with _opened(self._aside(disk, aside)) as old:
                for extent in fresh:
                    sparse.copy_range(image, old, extent.offset, extent.end)
            aside.ranges.add(start, end)

    def _image(self, disk: _Disk) -> Path:
        return self._folder / f"{disk.number}.raw"

    def _aside(self, disk: _Disk, aside: _Aside) -> Path:
        return self._folder / f"{disk.number}-{aside.checkpoint}.old"

    def _disks(self) -> Iterator[_Disk]:
        yield from self._live.values()
        yield from (disk for _, disk in self._retired)

    def _disk_of(self, checkpoint_id: UUID, slot: Slot) -> _Disk | None:
        everywhere = [*self._live.items(), *self._retired]
        for key, disk in everywhere:
            if key.endswith(f"/{slot}") and any(a.checkpoint == str(checkpoint_id) for a in disk.asides):
                return disk
        return None


def _key(vm_id: UUID, slot: Slot) -> str:
    return f"{vm_id}/{slot}"


def _index(disk: _Disk, checkpoint_id: UUID) -> int:
    return next(i for i, aside in enumerate(disk.asides) if aside.checkpoint == str(checkpoint_id))


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _plain(disk: _Disk) -> dict[str, object]:
    asides = [[aside.checkpoint, aside.size_bytes, aside.ranges.to_text()] for aside in disk.asides]
    return {"number": disk.number, "asides": asides}


def _rich(document: dict[str, object]) -> _Disk:
    number, asides = document["number"], document["asides"]
    assert isinstance(number, int)
    assert isinstance(asides, list)
    return _Disk(number, [_Aside(name, size, ExtentSet.from_text(text)) for name, size, text in asides])
