"""Reference points."""

from __future__ import annotations

from uuid import UUID

from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import HyperVError, Wmi
from hvpsbridge.sim.model.state import Job, JobKind, ReferencePoint
from hvpsbridge.sim.model.timeline import Timeline


class ReferencePoints:
    """The reference points of a world."""

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def all(self, vm_id: UUID) -> tuple[ReferencePoint, ...]:
        """Reference points of a VM, oldest first."""
        with self._timeline.now():
            points = self._core.world.reference_points.values()
            return tuple(point for point in points if point.vm_id == vm_id)

    def remove(self, instance_id: str) -> Job:
        """Start destroying a reference point.

        Raises:
            HyperVError: it does not exist, or its VM is busy.
        """
        with self._timeline.now():
            point = self._core.world.reference_points.get(instance_id)
            if point is None:
                raise HyperVError(Wmi.NOT_FOUND, self._core.text("not_found"))
            vm = self._core.vm(point.vm_id)
            self._timeline.check_ready(vm)
            return self._timeline.start(JobKind.RemoveReferencePoint, vm, reference_point=instance_id)
