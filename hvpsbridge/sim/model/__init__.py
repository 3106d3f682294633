"""A model of Hyper-V: VMs, layered disks, checkpoints, reference points, change tracking, jobs."""

from hvpsbridge.sim.model.clock import Clock, ManualClock, SystemClock
from hvpsbridge.sim.model.errors import DiskError, HyperVError, Win32, Wmi
from hvpsbridge.sim.model.handles import DiskHandle
from hvpsbridge.sim.model.history import History
from hvpsbridge.sim.model.knobs import HOSTILE, Knobs
from hvpsbridge.sim.model.model import Model
from hvpsbridge.sim.model.state import (
    Consistency,
    ControllerType,
    Slot,
    SnapshotType,
    VhdFormat,
    VhdType,
    VMState,
)
from hvpsbridge.sim.model.tracking import Answer

__all__ = [
    "HOSTILE",
    "Answer",
    "Clock",
    "Consistency",
    "ControllerType",
    "DiskError",
    "DiskHandle",
    "History",
    "HyperVError",
    "Knobs",
    "ManualClock",
    "Model",
    "Slot",
    "SnapshotType",
    "SystemClock",
    "VMState",
    "VhdFormat",
    "VhdType",
    "Win32",
    "Wmi",
]
