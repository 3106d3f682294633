"""Faults of the model: what tests and ``hvps sim fault`` make go wrong, by name and count."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hvpsbridge.sim.model.call_faults import CallFaults, is_call, parse

# What each fault does. Faults of the wire are in sim/faults.yaml.
MODEL_FAULTS: dict[str, str] = {
    "checkpoint_fails": "a CreateSnapshot job ends in state 10 with error 32768",
    "checkpoint_busy": "CreateSnapshot returns 32775, as while another job runs on the VM",
    "checkpoint_file_locked": "a CreateSnapshot job fails with 0x80070020, code 32774",
    "checkpoint_no_space": "a CreateSnapshot job fails with 0x80070070",
    "commit_forks": "a CreateSnapshot job fails with 0x80048102 and event 3216 is logged",
    "guest_backup_fails": "application consistency fails in the guest; crash consistency works",
    "checkpoint_leaves_out_disk": "a checkpoint is created without the VM's last disk",
    "convert_fails": "a ConvertToReferencePoint job ends in state 10 with error 32768",
    "convert_logon_right": "a ConvertToReferencePoint job fails with 0x8007052F: a logon right is missing",
    "convert_other_ids": "the ids of the reference point differ from those of the frozen disk",
    "remove_fails": "a DestroySnapshot job ends in state 10 with error 32768",
    "destroy_reference_point_fails": "a DestroyReferencePoint job ends in state 10 with error 32768",
    "merge_fails": "a merge is interrupted: event 19100 is logged, and it is tried again later",
    "merge_ends": "running merges end just before a chain is read, so that files of it may be gone",
    "query_fails": "QueryChangesVirtualDisk fails with 0xC03A0030",
    "query_empty": "QueryChangesVirtualDisk succeeds and reports no changes",
    "query_no_progress": "QueryChangesVirtualDisk succeeds with a processed length of 0",
    "query_lies": "QueryChangesVirtualDisk leaves out half of the changes",
    "attach_busy": "AttachVirtualDisk fails with 0xC03A001E",
    "read_error": "a read fails with error 1117",
    "read_short": "a read returns fewer bytes than requested",
    "read_corrupt": "a read returns one wrong bit without an error",
    "volume_full": "the volume is full at a guest's next write: the VM is paused",
}


class Faults:
    """Counters of armed faults. Thread-safe.

    Attributes:
        calls: faults of single calls, such as ``Get-VHD``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[str, int] = {}
        self._watchers: list[Callable[[], None]] = []
        self.calls = CallFaults()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` whenever a fault is armed or disarmed."""
        self._watchers.append(changed)

    def arm(self, name: str, count: int = 1) -> None:
        """Make fault ``name`` happen the next ``count`` times; 0 disarms it.

        Args:
            name: a fault of the model, or a call with settings (``CallFault``), as in ``Get-VHD:error=busy``.

        Raises:
            ValueError: there is no such fault.
        """
        call, settings = parse(name)
        if is_call(call):
            self.arm_call(call, count, **settings)
            return
        if name not in MODEL_FAULTS:
            raise ValueError(f"unknown fault {name!r}; use one of {', '.join(sorted(MODEL_FAULTS))}")
        with self._lock:
            self._armed[name] = count
        for changed in self._watchers:
            changed()

    def arm_call(self, name: str, count: int = 1, **settings: object) -> None:
        """Make calls of a cmdlet, WMI method or function fail or take long (``CallFaults.arm``).

        Raises:
            ValueError: there is no such call or setting.
        """
        self.calls.arm(name, count, **settings)
        for changed in self._watchers:
            changed()

    def clear(self) -> None:
        """Disarm every fault."""
        self.calls.clear()
        with self._lock:
            self._armed.clear()
        for changed in self._watchers:
            changed()

    def fires(self, name: str) -> bool:
        """Whether fault ``name`` happens now; if so, it is counted down."""
        assert name in MODEL_FAULTS, name
        with self._lock:
            left = self._armed.get(name, 0)
            if left:
                self._armed[name] = left - 1
            return bool(left)

    def armed(self) -> dict[str, int]:
        """Armed faults and how many times each will happen."""
        with self._lock:
            return {**{name: left for name, left in self._armed.items() if left}, **self.calls.armed()}
