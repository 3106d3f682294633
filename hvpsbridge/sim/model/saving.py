"""Writing the world to its state folder, on request or after every change."""

from __future__ import annotations

from hvpsbridge.sim.model import store
from hvpsbridge.sim.model.core import Core


class Saver:
    """Saves a world. Hold the core's lock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._on_change = False
        self._saved: tuple[object, ...] | None = None

    def save(self) -> None:
        """Replace the saved state in one step."""
        core = self._core
        self._saved = self._summary()
        core.golden.save()
        store.save(core.state_file, core.world, core.knobs)

    def start_saving_on_change(self) -> None:
        """Make :meth:`changed` save from now on."""
        self._saved = None
        self._on_change = True

    def changed(self) -> None:
        """Save if saving on change is on and something was added, removed or changed its state.

        Guests' writes alone do not count: they are on disk already, and a killed process loses what
        change tracking learned since the last save, as a host does that loses power.
        """
        if self._on_change and self._summary() != self._saved:
            self.save()

    def _summary(self) -> tuple[object, ...]:
        """A value that differs after every change except a guest's write."""
        world = self._core.world
        return (
            world.counter,
            len(world.layers),
            [(file.path, file.size_bytes) for file in world.host_files.values()],
            len(world.host_folders),
            len(world.merges),
            len(world.checkpoints),
            len(world.reference_points),
            [(vm.revision, vm.state, vm.node) for vm in world.vms.values()],
            [point.name for point in world.checkpoints.values()],
        )
