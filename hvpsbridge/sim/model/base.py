"""What every part of the model stands on: the world, its lock, and finding things in it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from hvpsbridge.sim.model import store
from hvpsbridge.sim.model.clock import Clock, SystemClock
from hvpsbridge.sim.model.disks import DiskShelf, normal_path
from hvpsbridge.sim.model.errors import HyperVError, Wmi, vm_not_found
from hvpsbridge.sim.model.faults import Faults
from hvpsbridge.sim.model.golden_image import KeptImages
from hvpsbridge.sim.model.handles import Handles
from hvpsbridge.sim.model.knobs import Knobs
from hvpsbridge.sim.model.lifecycle import Lifecycle
from hvpsbridge.sim.model.state import (
    Checkpoint,
    Layer,
    Node,
    Slot,
    Vm,
    Volume,
    World,
)
from hvpsbridge.sim.model.tracking import Tracking
from hvpsbridge.units import TIB

STATE_FILE = "state.json"
FIRST_NODE = "HV01"
# How long a host has been up when its world begins.
_UP_SECONDS = 86400.0


class Base:
    """A Hyper-V world in a folder.

    Every public method of the parts takes the lock and lets what is due happen before it does anything
    (``with self._now()``).
    """

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, seed: int = 0, keep_images: bool = True
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.clock: Clock = clock or SystemClock()
        self._lock = threading.RLock()
        if (folder / STATE_FILE).exists():
            self._world, self.knobs = store.load(folder / STATE_FILE)
        else:
            self._world, self.knobs = World(seed=seed), Knobs()
        self.faults = Faults()
        self._watchers: list[Callable[[], None]] = []
        self._saving = False
        self._still = 0
        self._saved: tuple[object, ...] | None = None
        self._chance = random.Random(f"{self._world.seed}|reads")
        self.kept = KeptImages(folder / "kept", enabled=keep_images)
        self._shelf = DiskShelf(folder / "disks", self._world)
        self._shelf.sweep()
        self._tracking = Tracking(self._world, self.knobs)
        self._handles = Handles(self._world, self._shelf, self.knobs, self.faults)
        self._life = Lifecycle(
            self._world,
            self.knobs,
            self.faults,
            self.clock,
            self._shelf,
            self._tracking,
            self._handles,
            self.kept,
        )
        if not self._world.nodes:
            now = self.clock.now()
            self._world.nodes[FIRST_NODE] = Node(FIRST_NODE, "hv01.example.net", booted=now - _UP_SECONDS)
            self._world.volumes["C:\\"] = Volume("C:\\", 4 * TIB)

    def close(self) -> None:
        """Save the world and give every file back."""
        self.save()
        with self._lock:
            self._shelf.close()

    def save(self) -> None:
        """Write the world to its folder, in one step."""
        with self._now():
            self._write_down()

    def save_on_change(self) -> None:
        """From now on save by itself whenever something came, went or changed its form.

        Guests' writes alone do not: they are in the disks, and a world that is killed loses what its
        guests wrote since the last save, as a host without power does.
        """
        with self._now():
            self._saved = None
            self._saving = True

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Hold the world still, so that several questions are answered as of one moment.

        Nothing that is due happens meanwhile, so do not wait for a job within.
        """
        with self._now():
            self._still += 1
            try:
                yield
            finally:
                self._still -= 1

    @contextmanager
    def _now(self) -> Iterator[None]:
        with self._lock:
            if not self._still:
                self._life.advance()
            yield
            if self._saving and self._shape() != self._saved:
                self._write_down()

    def _write_down(self) -> None:
        self._saved = self._shape()
        self.kept.save()
        store.save(self.folder / STATE_FILE, self._world, self.knobs)

    def _shape(self) -> tuple[object, ...]:
        """What changes whenever anything but a guest's bytes does."""
        world = self._world
        return (
            world.counter,
            len(world.layers),
            len(world.merges),
            len(world.checkpoints),
            len(world.reference_points),
            [(vm.revision, vm.state, vm.node) for vm in world.vms.values()],
            [point.name for point in world.checkpoints.values()],
        )

    def set_knob(self, name: str, value: object) -> None:
        """Turn a knob (:class:`~knobs.Knobs`).

        Raises:
            ValueError: there is no such knob, or the value does not fit.
        """
        with self._now():
            self.knobs.set(name, value)
        self._tell_watchers()

    def watch(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever a knob was turned, a fault armed, handles were taken away, or a
        host died or booted; with or without the model's lock."""
        self._watchers.append(changed)
        self.faults.watch(changed)
        self._handles.watch(changed)

    def kept_image(self, checkpoint_id: UUID, slot: Slot) -> Path:
        """Raw image, kept apart, of what a disk was at a checkpoint; it outlives the checkpoint.

        Raises:
            FileNotFoundError: nothing was kept of it.
        """
        with self._now():
            return self.kept.frozen(checkpoint_id, slot)

    # -- inside -----------------------------------------------------------------------------------------

    def _tell_watchers(self) -> None:
        for changed in self._watchers:
            changed()

    def _vm(self, vm_id: UUID, node: str | None = None) -> Vm:
        vm = self._world.vms.get(vm_id)
        if vm is None or (node is not None and vm.node != node):
            raise vm_not_found(vm_id)
        return vm

    def _checkpoint(self, checkpoint_id: UUID) -> Checkpoint:
        found = self._world.checkpoints.get(checkpoint_id)
        if found is None:
            raise HyperVError(Wmi.NOT_FOUND, self._life.text("not_found"))
        return found

    def _top(self, vm_id: UUID, slot: Slot) -> Layer:
        drive = self._vm(vm_id).drives.get(str(slot))
        if drive is None or drive.layer is None:
            raise ValueError(f"no disk at {slot}")
        return self._world.layers[drive.layer]

    def _root(self, path: str) -> str | None:
        """The volume a path is on, by the longest root that fits."""
        fits = [root for root in self._world.volumes if normal_path(path).startswith(normal_path(root))]
        return max(fits, key=len, default=None)

    def _free(self, root: str) -> int:
        volume = self._world.volumes[root]
        used = sum(
            self._shelf.file_bytes(layer)
            for layer in self._world.layers.values()
            if self._root(layer.path) == root
        )
        return max(0, volume.total_bytes - volume.used_elsewhere_bytes - used)
