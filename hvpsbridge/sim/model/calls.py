"""Calls of host programs, as the faults of single calls see them.

Stand-ins and engines announce each call here before they answer it. Nothing happens unless a fault is armed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.sim.model.call_faults import ERRORS, METHODS, CallFault
from hvpsbridge.sim.model.core import Core
from hvpsbridge.sim.model.errors import DiskError, HyperVError, Wmi
from hvpsbridge.sim.model.state import Job, JobKind, Vm
from hvpsbridge.sim.model.timeline import Timeline

# Its methods may be about planned VMs.
_MANAGEMENT = "Msvm_VirtualSystemManagementService."
# Codes from here on are HRESULTs.
_HRESULTS = 0x80000000


@dataclass(eq=False)
class CallRefused(HyperVError):
    """A cmdlet or WMI query that fails because of a fault.

    Attributes:
        error_id: ErrorIdentifier, if it is not that of the code.
        error_category: name of the ErrorCategory, if it is not that of the code.
        terminating: it is thrown, whatever the caller's ErrorAction.
    """

    error_id: str = ""
    error_category: str = ""
    terminating: bool = False

    @property
    def identifier(self) -> str:
        """``ErrorIdentifier``."""
        return self.error_id or super().identifier

    @property
    def category(self) -> str:
        """Name of the ``ErrorCategory``."""
        return self.error_category or super().category


class Calls:
    """Every call of a host program, before it is answered. Do not hold the world: calls may take long.

    ``about`` is text with the ids and paths that the call is about, from which its VM is found. ``pause`` is
    used to wait.
    """

    def __init__(self, core: Core, timeline: Timeline) -> None:
        self._core = core
        self._timeline = timeline

    def cmdlet(self, name: str, about: str = "", pause: Callable[[float], object] = time.sleep) -> None:
        """A cmdlet of Hyper-V or of Windows.

        Raises:
            CallRefused: it fails.
        """
        fault = self._meet(name, about, pause)
        if fault is not None:
            raise self._refused(fault, int(ERRORS[fault.error].cmdlet), fault.code)
        if name == "Get-VMHost" and self._core.knobs.rights in ("filtered", "user"):
            raise CallRefused(int(Wmi.ACCESS_DENIED), self._core.text("denied"))

    def query(self, name: str, about: str = "", pause: Callable[[float], object] = time.sleep) -> None:
        """A cmdlet of CIM, with its class.

        Raises:
            CallRefused: it fails.
        """
        fault = self._meet(name, about, pause)
        if fault is not None:
            kind = ERRORS[fault.error]
            refused = self._refused(fault, int(kind.cmdlet), 0)
            refused.hresult = fault.code or kind.hresult
            raise refused

    def method(self, name: str, about: str = "", pause: Callable[[float], object] = time.sleep) -> Job | None:
        """A method of a WMI service. Returns the job to answer with if it fails in a job.

        Raises:
            HyperVError: it returns this code, or WMI throws if the error has an HRESULT.
        """
        fault = self._meet(name, about, pause)
        if fault is None:
            return None
        code = fault.code or ERRORS[fault.error].method
        text = fault.text or self._text(fault)
        kind = METHODS[name]
        if fault.job and kind is not None:
            with self._timeline.now():
                vm = self._vm(about)
                if vm is not None:
                    return self._timeline.start(kind, vm, fails=str(code), text=text)
                if name.startswith(_MANAGEMENT):
                    node = next(iter(self._core.world.nodes))
                    return self._timeline.start_about(
                        JobKind.ImportDefinition, UUID(int=0), fails=str(code), text=text, node=node
                    )
        if code >= _HRESULTS:
            refused = self._refused(fault, int(ERRORS[fault.error].cmdlet), 0)
            refused.hresult = code
            raise refused
        raise HyperVError(code, text)

    def function(self, name: str, path: str, pause: Callable[[float], object] = time.sleep) -> None:
        """A function of virtdisk.dll or kernel32.dll.

        Raises:
            DiskError: it fails.
        """
        fault = self._meet(name, path, pause)
        if fault is not None:
            raise DiskError(fault.code or ERRORS[fault.error].win32, path)

    # -- inside ---------------------------------------------------------------------------------------

    def _meet(self, name: str, about: str, pause: Callable[[float], object]) -> CallFault | None:
        """The fault that makes a call fail, after the time that it takes."""
        if self._core.knobs.call_seconds:
            pause(self._core.knobs.call_seconds)
        fault = self._core.faults.calls.meet(name, lambda vm: self._affects(vm, about))
        if fault is not None and fault.seconds:
            pause(fault.seconds)
        return fault if fault is not None and fault.error else None

    def _refused(self, fault: CallFault, code: int, shown: int) -> CallRefused:
        text = fault.text or self._text(fault)
        if shown and not self._core.knobs.texts_without_codes:
            text = f"{text} (0x{shown:08X})"
        return CallRefused(
            code,
            text,
            error_id=fault.identifier,
            error_category=fault.category,
            terminating=fault.terminating,
        )

    def _text(self, fault: CallFault) -> str:
        key = {"busy": "busy", "not_found": "not_found"}.get(fault.error, "failed")
        return self._core.text(key)

    def _affects(self, wanted: str, about: str) -> bool:
        with self._core.lock:
            vm = self._vm(about)
            return vm is not None and wanted.lower() in (str(vm.vm_id), vm.name.lower())

    def _vm(self, about: str) -> Vm | None:
        """The VM whose id, checkpoint, reference point, job or file is named in ``about``."""
        core, world = self._core, self._core.world
        text = about.lower()
        for vm in world.vms.values():
            if str(vm.vm_id) in text:
                return vm
        owners = [(str(point.checkpoint_id), point.vm_id) for point in world.checkpoints.values()]
        owners += [(point.instance_id.lower(), point.vm_id) for point in world.reference_points.values()]
        owners += [(str(job.job_id), job.vm_id) for job in world.jobs.values()]
        for vm in world.vms.values():
            tops = {drive.layer for drive in vm.drives.values()}
            for point in world.checkpoints.values():
                if point.vm_id == vm.vm_id:
                    tops.update(point.disks.values())
            for top in tops & world.layers.keys():
                chain = core.files.chain(world.layers[top]) if top is not None else []
                owners += [(layer.path.lower(), vm.vm_id) for layer in chain]
        found = next((vm_id for name, vm_id in owners if name in text), None)
        return None if found is None else world.vms.get(found)
