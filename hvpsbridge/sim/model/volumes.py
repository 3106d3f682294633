"""Windows volumes and the space on them."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.files import normal_path
from hvpsbridge.sim.model.stored import Volume
from hvpsbridge.sim.model.timeline import Timeline


class Volumes:
    """The volumes of a world."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def all(self, vm_id: UUID | None = None) -> tuple[Volume, ...]:
        """All volumes, or those that hold files of a VM."""
        with self._timeline.now():
            core = self._core
            if vm_id is None:
                return tuple(core.world.volumes.values())
            vm = core.vm(vm_id)
            paths = [vm.folder]
            for drive in vm.drives.values():
                if drive.layer is not None:
                    paths += [layer.path for layer in core.files.chain(core.layer(drive))]
            roots = {root for path in paths if (root := root_of(core, path)) is not None}
            return tuple(core.world.volumes[root] for root in sorted(roots))

    def free_bytes(self, root: str) -> int:
        """Free space on a volume; never negative."""
        with self._timeline.now():
            return free_bytes(self._core, root)


def root_of(core: Core, path: str) -> str | None:
    """Root of the volume that a path is on: the longest root that is a prefix of it."""
    fits = [root for root in core.world.volumes if normal_path(path).startswith(normal_path(root))]
    return max(fits, key=len, default=None)


def free_bytes(core: Core, root: str) -> int:
    """Free space on a volume; never negative."""
    volume = core.world.volumes[root]
    used = sum(
        core.files.file_bytes(layer)
        for layer in core.world.layers.values()
        if root_of(core, layer.path) == root
    )
    used += sum(
        file.size_bytes
        for file in core.world.host_files.values()
        if file.layer is None and root_of(core, file.path) == root
    )
    return max(0, volume.total_bytes - volume.used_elsewhere_bytes - used)
