"""What the parts of a model share: the world, its disk files, its clock and its faults."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

from hvpsbridge.sim.model import store
from hvpsbridge.sim.model.clock import Clock
from hvpsbridge.sim.model.errors import HyperVError, Wmi, vm_not_found
from hvpsbridge.sim.model.faults import Faults
from hvpsbridge.sim.model.files import DiskFiles
from hvpsbridge.sim.model.golden_image import GoldenImages
from hvpsbridge.sim.model.handles import Handles
from hvpsbridge.sim.model.knobs import Knobs
from hvpsbridge.sim.model.messages import text
from hvpsbridge.sim.model.state import Checkpoint, Drive, Event, Node, Slot, Vm, World
from hvpsbridge.sim.model.stored import Layer, Volume
from hvpsbridge.sim.model.tracking import Tracking
from hvpsbridge.units import TIB

FIRST_NODE = "HV01"
# Names of the event logs that Hyper-V writes to.
ADMIN_LOG = "Microsoft-Windows-Hyper-V-VMMS-Admin"
WORKER_LOG = "Microsoft-Windows-Hyper-V-Worker-Admin"
DISK_LOG = "Microsoft-Windows-VHDMP-Operational"
_STATE_FILE = "state.json"
# An HRESULT at the end of a message.
_CODE = re.compile(r" ?\(0x[0-9A-F]{8}\)")
# How long a new world's host has been up.
_UP_SECONDS = 86400.0


class Core:
    """The world of one model and everything that works on it. Hold ``lock`` while using it.

    Args:
        folder: state folder; a world saved there is loaded.
        clock: time of the world.
        seed: seed of a new world.
        keep_images: whether to keep golden images.

    Attributes:
        lock: guards everything here; re-entrant.
        time: when the current event happens: the clock's time, or the time at which a job or merge was due.
        chance: decides which reads fail.
    """

    def __init__(self, folder: Path, clock: Clock, *, seed: int, keep_images: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.state_file = folder / _STATE_FILE
        self.clock = clock
        self.lock = threading.RLock()
        if self.state_file.exists():
            self.world, self.knobs = store.load(self.state_file)
        else:
            self.world, self.knobs = World(seed=seed), Knobs()
        self.faults = Faults()
        self.chance = random.Random(f"{self.world.seed}|reads")
        self.golden = GoldenImages(folder / "kept", self.lock, enabled=keep_images)
        self.files = DiskFiles(folder / "disks", self.world)
        self.files.remove_unknown()
        self.tracking = Tracking(self.world, self.knobs)
        self.handles = Handles(self.world, self.files, self.knobs, self.faults, lambda: self.time)
        self.time = clock.now()
        self._watchers: list[Callable[[], None]] = []
        if not self.world.nodes:
            self.world.nodes[FIRST_NODE] = Node(
                name=FIRST_NODE, fqdn="hv01.example.net", booted=self.time - _UP_SECONDS
            )
            self.world.volumes["C:\\"] = Volume("C:\\", 4 * TIB)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` on every :meth:`notify`."""
        self._watchers.append(changed)

    def notify(self) -> None:
        """Tell watchers that a knob or a host's power has changed."""
        for changed in self._watchers:
            changed()

    def fresh_id(self) -> UUID:
        """A new id; the same sequence for the same seed."""
        chance = random.Random(f"{self.world.seed}|id|{self.world.next()}")  # not a secret
        return UUID(int=chance.getrandbits(128), version=4)

    def text(self, key: str, **values: object) -> str:
        """A message in the host's language, without its HRESULT with knob ``texts_without_codes``."""
        message = text(self.knobs.language, key, **values)
        return _CODE.sub("", message) if self.knobs.texts_without_codes else message

    def log(self, log: str, event_id: int, vm: Vm, message: str) -> None:
        """Add an entry to an event log of the VM's host."""
        self.world.events.append(
            Event(log=log, event_id=event_id, time=self.time, vm_id=vm.vm_id, node=vm.node, message=message)
        )

    def vm(self, vm_id: UUID, node: str | None = None) -> Vm:
        """The VM with this id, on ``node`` if given.

        Raises:
            HyperVError: there is none.
        """
        vm = self.world.vms.get(vm_id)
        if vm is None or (node is not None and vm.node != node):
            raise vm_not_found(vm_id)
        return vm

    def checkpoint(self, checkpoint_id: UUID) -> Checkpoint:
        """The checkpoint with this id.

        Raises:
            HyperVError: there is none.
        """
        found = self.world.checkpoints.get(checkpoint_id)
        if found is None:
            raise HyperVError(Wmi.NOT_FOUND, self.text("not_found"))
        return found

    def top(self, vm_id: UUID, slot: Slot) -> Layer:
        """The layer that the VM's disk at ``slot`` writes to.

        Raises:
            ValueError: there is no disk at that slot.
        """
        drive = self.vm(vm_id).drives.get(str(slot))
        if drive is None or drive.layer is None:
            raise ValueError(f"no disk at {slot}")
        return self.world.layers[drive.layer]

    def drives_of(self, layer: Layer) -> Iterator[tuple[Vm, Drive]]:
        """Drives that have a layer as their disk, with their VMs."""
        for vm in self.world.vms.values():
            for drive in vm.drives.values():
                if drive.layer == layer.number:
                    yield vm, drive

    def resize(self, layer: Layer, size_bytes: int) -> None:
        """Give a layer, and golden images of drives that have it, another size."""
        self.files.resize(layer, size_bytes)
        for vm, drive in self.drives_of(layer):
            self.golden.resize(vm.vm_id, drive.slot, size_bytes)

    def layer(self, drive: Drive) -> Layer:
        """The layer of a drive that has one."""
        assert drive.layer is not None
        return self.world.layers[drive.layer]
