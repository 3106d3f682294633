"""What the stand-in PowerShell modules ask: one JSON line per cmdlet call, answered from the model.

The modules in ``sim/powershell`` only declare parameters and build objects; what they show is decided here.
A request is ``{"call", "node", ...}``; ``call`` is ``vm.``, ``cim.`` or ``event.`` and a name.
"""

from __future__ import annotations

from typing import Any

from hvpsbridge.sim.model import HyperVError, Model
from hvpsbridge.sim.model.calls import CallRefused
from hvpsbridge.sim.model.state import Job
from hvpsbridge.sim.standin import administration, announcing, clusters, cmdlets, devices, hardware
from hvpsbridge.sim.standin.events import events
from hvpsbridge.sim.standin.provider import Provider
from hvpsbridge.sim.standin.rows import Rows

_VM_CALLS = {
    function.__name__: function
    for function in (
        cmdlets.types,
        cmdlets.host,
        clusters.cluster,
        clusters.cluster_resources,
        clusters.stop_resource,
        clusters.start_resource,
        cmdlets.supported_versions,
        cmdlets.machines,
        cmdlets.drives,
        cmdlets.dvd_drives,
        cmdlets.scsi_controllers,
        cmdlets.vhds,
        cmdlets.resize_vhd,
        cmdlets.snapshots,
        cmdlets.rename_snapshot,
        cmdlets.checkpoint_vm,
        cmdlets.remove_snapshot,
        hardware.processor,
        hardware.memory,
        hardware.firmware,
        hardware.bios,
        hardware.security,
        hardware.key_protector,
        hardware.integration_services,
        hardware.network_adapters,
        hardware.vlan,
        administration.new_vm,
        administration.set_processor,
        administration.set_memory,
        administration.set_firmware,
        administration.set_bios,
        administration.enable_service,
        administration.disable_service,
        devices.add_scsi_controller,
        devices.add_adapter,
        devices.remove_adapter,
        devices.set_adapter,
        devices.connect_adapter,
        devices.set_vlan,
        devices.add_dvd,
        devices.remove_dvd,
        devices.set_drive,
        devices.set_key_protector,
        devices.enable_tpm,
        administration.switches,
        administration.set_vm,
        devices.add_drive,
        administration.start_vm,
        administration.set_state,
        administration.remove_saved_state,
        administration.remove_vm,
        administration.apply_snapshot,
        administration.move_storage,
    )
}
_CIM_CALLS = {
    function.__name__: function
    for function in (
        Provider.schema,
        Provider.instances,
        Provider.get,
        Provider.associated,
        Provider.invoke,
        Provider.invoke_static,
    )
}
# Calls that wait for a job: the world must not be held meanwhile.
_WAITING = {"vm.checkpoint_vm", "vm.remove_snapshot", "vm.apply_snapshot"}


class StandIn:
    """Answers calls of the stand-in modules. Thread-safe."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def answer(self, request: dict[str, Any]) -> Any:
        """Result of one call, as JSON values.

        Raises:
            HyperVError: the host refuses.
            ValueError: there is no such call.
        """
        call = request["call"]
        # First, because a call may take long.
        instead = self._announce(request)
        if instead is not None:
            request = {**request, "instead": instead}
        if call in _WAITING:
            return self._answer(request)
        with self._model.timeline.hold():
            return self._answer(request)

    def _announce(self, request: dict[str, Any]) -> Job | HyperVError | None:
        """Announce a call. Returns what a method answers with because of a fault.

        Raises:
            CallRefused: anything else fails because of a fault.
        """
        call, about, calls = request["call"], announcing.subject(request), self._model.calls
        if call in announcing.CMDLETS:
            calls.cmdlet(announcing.CMDLETS[call], about)
        elif call in announcing.QUERIES:
            calls.query(announcing.query_name(request), about)
        elif call in ("cim.invoke", "cim.invoke_static"):
            try:
                return calls.method(announcing.method_name(request), about)
            except CallRefused:
                raise
            except HyperVError as err:
                return err
        return None

    def _answer(self, request: dict[str, Any]) -> Any:
        arguments = dict(request)
        call, node = str(arguments.pop("call")), arguments.pop("node", None) or None
        family, _, name = call.partition(".")
        if family == "event":
            return events(self._model, node, **arguments)
        if family == "vm" and name in _VM_CALLS:
            return _VM_CALLS[name](Rows(self._model, node), **arguments)
        if family == "cim" and name in _CIM_CALLS:
            return _CIM_CALLS[name](Provider(self._model, node), **arguments)
        raise ValueError(f"no stand-in call {call!r}")
