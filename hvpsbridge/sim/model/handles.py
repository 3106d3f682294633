"""Handles of virtual disks. An attach is exclusive.

See docs/hyperv-facts.md#attach-exclusive and docs/hyperv-facts.md#detach-on-close.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hvpsbridge.sim.model.errors import DiskError, Win32
from hvpsbridge.sim.model.faults import Faults
from hvpsbridge.sim.model.files import DiskFiles
from hvpsbridge.sim.model.knobs import Knobs
from hvpsbridge.sim.model.state import VMState, World

_LIVE = {VMState.Running, VMState.Paused, VMState.Starting, VMState.Stopping, VMState.Saving}


@dataclass(slots=True, kw_only=True)
class DiskHandle:
    """An open handle of a virtual disk file.

    Attributes:
        layer: number of the layer that was opened.
        owner: the host process that opened it, such as ``pid:4711``.
        node: the host of that process.
        info_only: opened with ``GetInfoOnly``.
    """

    number: int
    layer: int
    path: str
    owner: str
    node: str | None
    info_only: bool = False
    attached: bool = False


class Handles:
    """All open handles. Callers hold the model's lock."""

    def __init__(
        self, world: World, files: DiskFiles, knobs: Knobs, faults: Faults, time: Callable[[], float]
    ) -> None:
        self._world = world
        self._knobs = knobs
        self._time = time
        self._files = files
        self._faults = faults
        self._open: dict[int, DiskHandle] = {}
        # Handles that were taken away and not yet closed by their owners: reads through them fail.
        self._broken: set[int] = set()
        # Layers that the driver still holds after their handles were closed, and until when.
        self._held: dict[int, float] = {}
        self._watchers: list[Callable[[], None]] = []
        self._last = 0

    def watch(self, broken: Callable[[], None]) -> None:
        """Call ``broken`` whenever handles are taken away."""
        self._watchers.append(broken)

    @property
    def broken(self) -> bool:
        """Whether an owner has not yet closed a handle that was taken away."""
        return bool(self._broken)

    def open(self, path: str, owner: str, node: str | None = None, *, info_only: bool = False) -> DiskHandle:
        """Open the file at ``path``.

        Raises:
            DiskError: the file or one of its parents does not exist.
        """
        layer = self._files.by_path(path)
        if self._knobs.smb_without_delegation and layer.path.startswith("\\\\"):
            raise DiskError(Win32.ACCESS_DENIED, path)
        self._files.chain(layer)
        self._last += 1
        handle = DiskHandle(
            number=self._last,
            layer=layer.number,
            path=layer.path,
            owner=owner,
            node=node,
            info_only=info_only,
        )
        self._open[handle.number] = handle
        return handle

    def attach(self, handle: DiskHandle) -> None:
        """Attach the disk read-only.

        Raises:
            DiskError: the handle is for information only; or the disk is attached already, in use by a
                running VM, or gone.
        """
        if handle.info_only:
            raise DiskError(Win32.ACCESS_DENIED, handle.path)
        layer = self._world.layers.get(handle.layer)
        if layer is None:
            raise DiskError(Win32.FILE_NOT_FOUND, handle.path)
        if self._knobs.no_volume_privilege or self._knobs.rights != "administrator":
            raise DiskError(Win32.PRIVILEGE_NOT_HELD, handle.path)
        if self._faults.fires("attach_busy"):
            raise DiskError(Win32.VHD_ALREADY_OWNED, handle.path)
        attached = any(other.attached and other.layer == handle.layer for other in self._open.values())
        if attached or self._holds(handle.layer):
            raise DiskError(Win32.VHD_ALREADY_OWNED, handle.path)
        for vm in self._world.vms.values():
            if vm.state in _LIVE and any(drive.layer == handle.layer for drive in vm.drives.values()):
                raise DiskError(Win32.VHD_ONLINE_AND_WRITABLE, handle.path)
        handle.attached = True

    def detach(self, handle: DiskHandle) -> None:
        """Detach; the handle remains open."""
        handle.attached = False

    def close(self, handle: DiskHandle) -> None:
        """Close a handle. A disk that it still has is detached, knob ``detach_seconds`` later."""
        if handle.attached and self._knobs.detach_seconds:
            self._held[handle.layer] = self._time() + self._knobs.detach_seconds
        handle.attached = False
        self._open.pop(handle.number, None)
        self._broken.discard(handle.number)

    def close_owner(self, owner: str) -> None:
        """Close the handles of a process that has ended."""
        for handle in [handle for handle in self._open.values() if handle.owner == owner]:
            self.close(handle)

    def close_node(self, node: str) -> None:
        """Take away all handles on a host that is gone."""
        self._take([handle for handle in self._open.values() if handle.node == node])

    def close_layer(self, number: int) -> None:
        """Take away the handles of a layer whose file has moved."""
        self._take([handle for handle in self._open.values() if handle.layer == number])

    def locks(self, number: int) -> bool:
        """Whether layer ``number`` is attached, itself or as a parent."""
        attached = {handle.layer for handle in self._open.values() if handle.attached}
        for top in attached | {held for held in self._held if self._holds(held)}:
            layer = self._world.layers.get(top)
            if layer is not None and any(member.number == number for member in self._files.chain(layer)):
                return True
        return False

    def is_open(self, handle: DiskHandle) -> bool:
        """Whether the handle was neither closed nor taken away."""
        return handle.number in self._open

    def attached(self) -> tuple[DiskHandle, ...]:
        """Handles that have a disk attached."""
        return tuple(handle for handle in self._open.values() if handle.attached)

    def __len__(self) -> int:
        return len(self._open)

    def _holds(self, number: int) -> bool:
        return self._held.get(number, 0.0) > self._time()

    def _take(self, handles: list[DiskHandle]) -> None:
        for handle in handles:
            self.close(handle)
            self._broken.add(handle.number)
        if handles:
            for broken in self._watchers:
                broken()
