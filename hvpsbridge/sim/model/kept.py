"""Images kept apart: what each disk of each checkpoint must turn out to be, byte for byte.

Law: shares no code path with layers, chains or tracking. Every guest write is made here a second time,
on a flat image of the disk; a checkpoint copies that image. Whoever restores a disk compares with it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import UUID

from hvpsbridge.sim.model import sparse
from hvpsbridge.sim.model.state import Slot


class KeptImages:
    """Flat images of live disks and of checkpoints, in a folder of their own."""

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self._folder = folder
        self.enabled = enabled

    def live(self, vm_id: UUID, slot: Slot) -> Path:
        """Flat image of a disk as the guest sees it now."""
        return self._folder / str(vm_id) / f"{slot}.raw"

    def frozen(self, checkpoint_id: UUID, slot: Slot) -> Path:
        """Flat image of a disk as it was at a checkpoint."""
        return self._folder / "checkpoints" / str(checkpoint_id) / f"{slot}.raw"

    def add(self, vm_id: UUID, slot: Slot, size_bytes: int, image: Path | None) -> None:
        """A disk was added, from ``image`` or empty."""
        if not self.enabled:
            return
        target = self.live(vm_id, slot)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.unlink(missing_ok=True)
        if image is None:
            sparse.create(target, size_bytes)
        else:
            sparse.copy(image, target)
            os.truncate(target, size_bytes)

    def remove(self, vm_id: UUID, slot: Slot) -> None:
        """A disk was taken off the VM; what checkpoints kept of it stays."""
        self.live(vm_id, slot).unlink(missing_ok=True)

    def write(self, vm_id: UUID, slot: Slot, offset: int, data: bytes | memoryview) -> None:
        """The guest wrote ``data`` at ``offset``."""
        if self.enabled:
            with self.live(vm_id, slot).open("r+b", buffering=0) as image:
                sparse.write(image.fileno(), data, offset)

    def clear(self, vm_id: UUID, slot: Slot, offset: int, length: int) -> None:
        """The guest trimmed a range; it reads as zeros."""
        if self.enabled:
            with self.live(vm_id, slot).open("r+b", buffering=0) as image:
                sparse.punch(image.fileno(), offset, offset + length)

    def resize(self, vm_id: UUID, slot: Slot, size_bytes: int) -> None:
        """The disk has another size now."""
        if self.enabled:
            os.truncate(self.live(vm_id, slot), size_bytes)

    def freeze(self, checkpoint_id: UUID, vm_id: UUID, slot: Slot) -> None:
        """A checkpoint was made: keep what the disk is at this moment."""
        if self.enabled:
            target = self.frozen(checkpoint_id, slot)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            sparse.copy(self.live(vm_id, slot), target)

    def apply(self, checkpoint_id: UUID, vm_id: UUID, slot: Slot) -> None:
        """The guest's disk goes back to what it was at a checkpoint."""
        if self.enabled:
            target = self.live(vm_id, slot)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            sparse.copy(self.frozen(checkpoint_id, slot), target)

    def drop(self, checkpoint_id: UUID) -> None:
        """Nobody will compare with this checkpoint any more."""
        shutil.rmtree(self._folder / "checkpoints" / str(checkpoint_id), ignore_errors=True)
