"""The model: a Hyper-V world in a folder, for everything that pretends to be a host.

Methods of the parts do what is due, then answer. Methods that a host answers take ``node``, the host that
is asked; None asks all hosts. Records they return (``state``) are the model's own: do not change them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hvpsbridge.sim.model.calls import Calls
from hvpsbridge.sim.model.checkpoints import Checkpoints
from hvpsbridge.sim.model.clock import Clock, SystemClock
from hvpsbridge.sim.model.clusters import Clusters
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.disks import Disks
from hvpsbridge.sim.model.driver import Driver
from hvpsbridge.sim.model.guests import Guests
from hvpsbridge.sim.model.host_files import HostFiles
from hvpsbridge.sim.model.incidents import Incidents
from hvpsbridge.sim.model.jobs import Jobs
from hvpsbridge.sim.model.lifecycle import Lifecycle
from hvpsbridge.sim.model.merges import Merges
from hvpsbridge.sim.model.nodes import Nodes
from hvpsbridge.sim.model.planned import PlannedVms
from hvpsbridge.sim.model.reference_points import ReferencePoints
from hvpsbridge.sim.model.roles import Roles
from hvpsbridge.sim.model.saving import Saver
from hvpsbridge.sim.model.setup import Setup
from hvpsbridge.sim.model.timeline import Timeline
from hvpsbridge.sim.model.vms import Vms
from hvpsbridge.sim.model.volumes import Volumes


class Model:
    """A Hyper-V world in a folder. Thread-safe.

    Args:
        folder: state folder; a world saved there is loaded.
        clock: time; the system clock by default.
        seed: seed of everything random, for a new world.
        keep_images: whether to keep golden images, against which restored disks can be compared.

    Attributes:
        folder: state folder.
        clock: the world's time.
        knobs: behaviour; change it with :meth:`set_knob`, or directly if nothing watches.
        faults: what goes wrong next.
        calls: what stand-ins and engines announce before they answer.
        golden: golden images of disks.
        timeline: holds the world still for several questions.
        nodes, volumes, vms, planned, disks, checkpoints, reference_points, jobs: what a host shows and does.
        driver: what virtdisk.dll does.
        host_files: files and folders that programs make on a host.
        guests: what happens inside VMs.
        setup: what an administrator adds and changes.
        incidents: what goes wrong around a backup.
        clusters: what the clusters of hosts know of VMs.
    """

    def __init__(
        self, folder: Path, *, clock: Clock | None = None, seed: int = 0, keep_images: bool = True
    ) -> None:
        core = Core(folder, clock or SystemClock(), seed=seed, keep_images=keep_images)
        self._core = core
        self.folder = folder
        self.clock = core.clock
        self.knobs = core.knobs
        self.faults = core.faults
        self.golden = core.golden
        self._saver = Saver(core)
        merges = Merges(core)
        lifecycle = Lifecycle(core, merges)
        roles = Roles(core, merges)
        timeline = Timeline(core, merges, lifecycle, roles, self._saver)
        self.timeline = timeline
        self.calls = Calls(core, timeline)
        self.nodes = Nodes(core, timeline)
        self.volumes = Volumes(core, timeline)
        self.vms = Vms(core, timeline, merges)
        self.planned = PlannedVms(core, timeline)
        self.disks = Disks(core, timeline, merges)
        self.checkpoints = Checkpoints(core, timeline, merges)
        self.reference_points = ReferencePoints(core, timeline)
        self.jobs = Jobs(core, timeline)
        self.driver = Driver(core, timeline)
        self.host_files = HostFiles(core, timeline)
        self.guests = Guests(core, timeline)
        self.setup = Setup(core, timeline, merges)
        self.incidents = Incidents(core, timeline, lifecycle)
        self.clusters = Clusters(core, timeline, roles)

    def set_knob(self, name: str, value: object) -> None:
        """Set a knob and tell watchers.

        Raises:
            ValueError: there is no such knob, or the value does not fit.
        """
        with self.timeline.now():
            self.knobs.set(name, value)
        self._core.notify()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a knob is set, a fault is armed, handles are taken away, or a host dies
        or boots. It may be called with the model's lock held, by any thread."""
        self._core.watch(changed)
        self.faults.watch(changed)
        self._core.handles.watch(changed)

    def save(self) -> None:
        """Write the world to its folder, in one step."""
        with self.timeline.now():
            self._saver.save()

    def save_on_change(self) -> None:
        """Save after every change from now on, except after guests' writes (see :class:`Saver`)."""
        with self.timeline.now():
            self._saver.start_saving_on_change()

    def close(self) -> None:
        """Save the world and close its files."""
        self.save()
        with self._core.lock:
            self._core.files.close()
