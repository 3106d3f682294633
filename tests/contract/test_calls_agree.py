"""The calls that each operation makes on a host: the same on both engines, with the same result if one fails.

A script that makes a new call fails here until the builtin engine declares it. This compares the engines with
each other only; tests/documented holds calls, parameters and codes to Microsoft's pages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from hvpsbridge.contract import OPERATIONS
from hvpsbridge.contract.results import Consistency
from hvpsbridge.errors import HvpsError
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.planned_vm import MovedDisk, planned_vm
from hvpsbridge.formats.vm_devices import PlannedDisk
from hvpsbridge.formats.vm_plan import PlanOptions, vm_plan
from hvpsbridge.formats.wire import Request
from hvpsbridge.sim.model import VMState
from hvpsbridge.sim.model.call_faults import METHODS
from hvpsbridge.units import MIB
from tests.contract.sides import SIZE, Side, comparable, defined, on_both
from tests.contract.test_engines_agree import disk_file
from tests.sim.planned import configuration_file, planned
from tests.waiting import DEADLINE_SECONDS

Call = Callable[[], Any]
# What an operation is called with; the preparation may call the host, too.
PREPARED: dict[str, Callable[[Side], Call]] = {}
# Asked at every read in the builtin engine, and by the library only while a fault is armed.
READS = {"ReadFile"}


def prepared(operation: str) -> Callable[[Callable[[Side], Call]], None]:
    def register(prepare: Callable[[Side], Call]) -> None:
        PREPARED[operation] = prepare

    return register


def _about_vm(operation: str, ask: Callable[[Side, UUID], Any], **settings: Any) -> None:
    def prepare(side: Side) -> Call:
        vm_id = side.vm(**settings)
        return lambda: ask(side, vm_id)

    PREPARED[operation] = prepare


def _frozen(side: Side) -> tuple[UUID, UUID, str]:
    vm_id = side.vm()
    return vm_id, *side.frozen(vm_id)


def _closing(side: Side, ask: Call) -> Call:
    """A call after which the process has no disk attached."""

    def closed() -> Any:
        try:
            return ask()
        finally:
            side.host.close_readers()

    return closed


PREPARED["Get-HvpsHost"] = lambda side: side.host.host_info
PREPARED["Get-HvpsAccess"] = lambda side: side.host.checks.access
PREPARED["Read-HvpsSample"] = lambda side: lambda: side.host.checks.measure_rate(1 << 20).sent_bytes
PREPARED["Test-HvpsReader"] = lambda side: side.host.check_reader
_about_vm("Get-HvpsVm", lambda side, vm_id: side.host.vm(vm_id))
_about_vm("Get-HvpsVm with events", lambda side, vm_id: side.host.vm(vm_id, read_events=True))
_about_vm("Get-HvpsVm of all", lambda side, vm_id: [vm.name for vm in side.host.list_vms()[0]])
_about_vm("Get-HvpsDisk", lambda side, vm_id: side.host.disks(vm_id))
_about_vm("Get-HvpsStorage", lambda side, vm_id: [found.root for found in side.host.checks.storage(vm_id)])
_about_vm("Get-HvpsEvent", lambda side, vm_id: len(side.host.checks.events(vm_id, 60)))
_about_vm("Get-HvpsVolume", lambda side, vm_id: [volume.root for volume in side.host.volumes(vm_id)])
_about_vm("Get-HvpsVmDefinition", defined)
_about_vm("Get-HvpsVmDefinition of generation 1", defined, generation=1)
_about_vm("Get-HvpsJob", lambda side, vm_id: side.host.jobs(vm_id))
_about_vm("Get-HvpsMerge", lambda side, vm_id: side.host.merge_state(vm_id))
_about_vm("Get-HvpsReferencePoint", lambda side, vm_id: side.host.reference_points(vm_id))
_about_vm(
    "New-HvpsCheckpoint",
    lambda side, vm_id: side.host.create_checkpoint(vm_id, "mark", Consistency.APPLICATION),
)


@prepared("Get-HvpsCheckpoint")
def _checkpoints(side: Side) -> Call:
    vm_id, _, _ = _frozen(side)
    return lambda: side.host.checkpoints(vm_id)


@prepared("Remove-HvpsCheckpoint")
def _removal(side: Side) -> Call:
    vm_id, checkpoint_id, _ = _frozen(side)
    return lambda: side.host.remove_checkpoint(vm_id, checkpoint_id, "by hand")


@prepared("ConvertTo-HvpsReferencePoint")
def _conversion(side: Side) -> Call:
    vm_id, checkpoint_id, _ = _frozen(side)
    return lambda: side.host.convert(vm_id, checkpoint_id)


@prepared("ConvertTo-HvpsReferencePoint with other ids")
def _conversion_in_vain(side: Side) -> Call:
    vm_id, checkpoint_id, _ = _frozen(side)
    return lambda: side.host.convert(vm_id, checkpoint_id, rct_ids=("rctX:other",))


@prepared("Remove-HvpsReferencePoint")
def _reference_point_removal(side: Side) -> Call:
    vm_id = side.vm()
    point = side.model.incidents.add_reference_point(vm_id)
    return lambda: side.host.remove_reference_point(vm_id, point, ())


@prepared("Get-HvpsFrozenDisk")
def _frozen_disks(side: Side) -> Call:
    vm_id, checkpoint_id, _ = _frozen(side)
    return lambda: side.host.frozen_disks(vm_id, checkpoint_id)


@prepared("Get-HvpsDiskTracking")
def _tracking(side: Side) -> Call:
    _, _, path = _frozen(side)
    return _closing(side, lambda: side.host.tracking(path))


@prepared("Test-HvpsDisk")
def _probe(side: Side) -> Call:
    _, _, path = _frozen(side)
    return lambda: side.host.checks.probe_disk(path)


@prepared("Read-HvpsConfiguration")
def _configuration(side: Side) -> Call:
    vm_id, checkpoint_id, _ = _frozen(side)
    return lambda: [piece.name.rpartition(".")[2] for piece in side.host.configuration(vm_id, checkpoint_id)]


@prepared("Get-HvpsDiskChange")
def _changes(side: Side) -> Call:
    _, _, path = _frozen(side)
    rct_id = side.model.driver.tracking_state(path)[2] or ""
    return _closing(side, lambda: side.host.changes(path, rct_id, SIZE))


@prepared("Get-HvpsAllocation")
def _allocation(side: Side) -> Call:
    _, _, path = _frozen(side)
    return lambda: side.host.allocation((path,), SIZE)


@prepared("Get-HvpsDiskDigest")
def _digests(side: Side) -> Call:
    _, _, path = _frozen(side)
    return _closing(side, lambda: [str(found) for found in side.host.digests(path, 65536, 0, SIZE)])


@prepared("Read-HvpsExtent")
def _blocks(side: Side) -> Call:
    _, _, path = _frozen(side)

    def ask() -> Any:
        source = side.host.open_reader(path)
        try:
            source.send(
                Request(number=1, chunk_bytes=65536, block_bytes=65536, extents=(Extent(0, 65536),)).pack()
            )
            return len(source.receive(DEADLINE_SECONDS))
        finally:
            source.close()

    return _closing(side, ask)


PREPARED["Get-HvpsSwitch"] = lambda side: side.host.restoring.switches
PREPARED["Get-HvpsFolder"] = lambda side: lambda: side.host.restoring.folder(None, ["C:\\x"])


def _file_of(side: Side) -> str:
    """A path that nothing has yet."""
    side.made += 1
    return f"C:\\Made\\{side.made}.vhdx"


@prepared("New-HvpsFile")
def _new_file(side: Side) -> Call:
    side.model.host_files.set_folder("C:\\Made", compressed=True)
    return lambda: side.host.restoring.new_file(_file_of(side), MIB)


@prepared("Write-HvpsFile")
def _written_file(side: Side) -> Call:
    path = _file_of(side)
    side.host.restoring.new_file(path, MIB)

    def ask() -> Any:
        writer = side.host.restoring.open_writer(path)
        try:
            writer.write(0, b"x" * 1000)
            writer.flush()
        finally:
            writer.close()

    return ask


@prepared("Close-HvpsFile")
def _closed_file(side: Side) -> Call:
    path = _file_of(side)
    side.host.restoring.new_file(path, MIB)
    return lambda: side.host.restoring.close_file(path)


@prepared("Move-HvpsFile")
def _moved_file(side: Side) -> Call:
    path = _file_of(side)
    side.host.restoring.new_file(path, MIB)
    side.host.restoring.close_file(path)
    return lambda: side.host.restoring.move_file(path, path + ".vhdx")


def _off_disk(side: Side) -> str:
    """The disk of a VM that is off."""
    vm_id = side.vm()
    side.model.vms.set_state(vm_id, "stop")
    return side.host.disks(vm_id)[0].path or ""


@prepared("Write-HvpsDisk")
def _written_disk(side: Side) -> Call:
    path = _off_disk(side)

    def ask() -> Any:
        writer = side.host.restoring.open_disk_writer(path)
        try:
            writer.write(0, b"x" * 4096)
            writer.flush()
        finally:
            writer.close()

    return ask


@prepared("Remove-HvpsSavedState")
def _saved(side: Side) -> Call:
    def ask() -> Any:
        vm_id = side.vm()
        side.model.vms.set_state(vm_id, "save")
        return side.host.restoring.discard_saved_state(vm_id)

    return ask


@prepared("Remove-HvpsSnapshot")
def _off_checkpoint(side: Side) -> Call:
    def ask() -> Any:
        vm_id = side.vm()
        side.model.vms.set_state(vm_id, "stop")
        job = side.model.jobs.wait(side.model.checkpoints.create(vm_id, name="x"))
        # It is listed a moment later.
        while not side.model.checkpoints.all(vm_id):
            time.sleep(0.01)
        return side.host.restoring.remove_snapshot(vm_id, UUID(job.results["checkpoint"]), "x")

    return ask


def _role(side: Side, *, running: bool) -> UUID:
    side.model.nodes.get("HV01").cluster = "one"
    return side.vm(clustered=True, state=VMState.Running if running else VMState.Off)


@prepared("Get-HvpsClusterRole")
def _shown_role(side: Side) -> Call:
    vm_id = _role(side, running=False)
    return lambda: side.host.restoring.cluster_role(vm_id)


@prepared("Set-HvpsClusterRole")
def _stopped_role(side: Side) -> Call:
    vm_id = _role(side, running=True)
    return lambda: side.host.restoring.set_cluster_role(vm_id, online=False, seconds=1)


@prepared("Set-HvpsClusterRole of a VM that starts")
def _started_role(side: Side) -> Call:
    vm_id = _role(side, running=False)
    return lambda: side.host.restoring.set_cluster_role(vm_id, online=True, seconds=1)


@prepared("Resize-HvpsDisk")
def _enlarged(side: Side) -> Call:
    path = _off_disk(side)
    return lambda: side.host.restoring.enlarge_disk(path, 16 * MIB)


@prepared("Copy-HvpsFile")
def _copied_file(side: Side) -> Call:
    path = _off_disk(side)
    return lambda: side.host.restoring.copy_file(path, path + ".vhdx", overwrite=True)


@prepared("New-HvpsVm")
def _new_vm(side: Side) -> Call:
    source = side.vm(folder=f"C:\\VMs\\source {side.made}")
    definition = json.loads(side.host.definition(source).json)
    definition["integration_services"][0]["Enabled"] ^= True
    definition["integration_services"][1]["Enabled"] ^= True
    definition["scsi_controllers"] = 2
    path = disk_file(side, _file_of(side) + ".vhdx")
    plan = vm_plan(json.dumps(definition), [PlannedDisk("scsi 1:0", path)], PlanOptions(mark="mark"))
    name = f"new {side.made}"

    def ask() -> Any:
        try:
            made = side.host.restoring.new_vm(name, "C:\\VMs", plan)
            return made.name, [warning.partition(":")[0] for warning in made.warnings]
        finally:
            side.model.faults.clear()

    return ask


def _config(side: Side) -> tuple[UUID, str]:
    """A VM, and a copy of its configuration."""
    vm_id = side.vm(state=VMState.Off)
    vm = side.model.vms.get(vm_id)
    vm.hardware["dvd"] = {"scsi0:9": "C:\\gone.iso"}
    return vm_id, configuration_file(side.model, vm_id, f"{side.made}.vmcx")


@prepared("Get-HvpsPlannedVm")
def _planned_vms(side: Side) -> Call:
    planned(side.model, _config(side)[1])
    return lambda: [one.name for one in side.host.restoring.planned_vms()]


@prepared("New-HvpsPlannedVm")
def _new_planned(side: Side) -> Call:
    _, path = _config(side)
    return lambda: side.host.restoring.new_planned_vm(path, "new", "C:\\VMs\\new", "mark")


@prepared("Complete-HvpsPlannedVm")
def _completed(side: Side) -> Call:
    vm_id, path = _config(side)
    planned_id = planned(side.model, path)
    side.model.planned.disconnect(planned_id, 0)
    new = disk_file(side, _file_of(side) + ".vhdx")
    old = side.host.disks(vm_id)[0].path or ""
    plan = planned_vm("mark", "notes", [MovedDisk(old, new)], adapters=[("Network Adapter", "External")])

    def ask() -> Any:
        try:
            made = side.host.restoring.complete_planned_vm(planned_id, plan)
            return made.name, [warning.partition(":")[0] for warning in made.warnings]
        finally:
            side.model.faults.clear()

    return ask


@prepared("Remove-HvpsPlannedVm")
def _removed_planned(side: Side) -> Call:
    planned_id = planned(side.model, _config(side)[1])
    return lambda: side.host.restoring.remove_planned_vm(planned_id, "planned", "mark")


@prepared("Start-HvpsVm")
def _started(side: Side) -> Call:
    vm_id = side.vm(state=VMState.Off)
    return lambda: side.host.restoring.start_vm(vm_id)


@prepared("Remove-HvpsVm")
def _removed_vm(side: Side) -> Call:
    side.made += 1
    folder = f"C:\\VMs\\{side.made}"
    vm_id = side.model.setup.create_vm("half", folder=folder, state=VMState.Off, notes="mark").vm_id
    return lambda: side.host.restoring.remove_vm(vm_id, folder, "mark")


@prepared("Remove-HvpsVm of a VM that runs")
def _removed_running(side: Side) -> Call:
    side.made += 1
    folder = f"C:\\VMs\\{side.made}"
    vm_id = side.model.setup.create_vm("drill", folder=folder, notes="mark").vm_id
    return lambda: side.host.restoring.remove_vm(vm_id, folder, "mark", turn_off=True)


@prepared("Get-HvpsHeartbeat")
def _heartbeat(side: Side) -> Call:
    vm_id = side.vm()
    return lambda: side.host.restoring.heartbeat(vm_id)


@prepared("New-HvpsVm of generation 1")
def _new_vm_1(side: Side) -> Call:
    source = side.vm(generation=1)
    plan = vm_plan(side.host.definition(source).json, [], PlanOptions(mark="mark"))
    name = f"new {side.made}"

    def ask() -> Any:
        made = side.host.restoring.new_vm(name, "C:\\VMs", plan)
        return made.name, [warning.partition(":")[0] for warning in made.warnings]

    return ask


@prepared("Remove-HvpsFile")
def _removed_file(side: Side) -> Call:
    path = _file_of(side)
    side.host.restoring.new_file(path, MIB)
    return lambda: side.host.restoring.remove_files([path], ["C:\\Nothing"])


PREPARED["Close-HvpsReader"] = lambda side: side.host.close_readers


def _outcome(call: Call) -> Any:
    try:
        return call()
    except HvpsError as err:
        return type(err).__name__, *(getattr(err, name, None) for name in ("error_id", "category", "native"))


def _calls(side: Side, prepare: Callable[[Side], Call]) -> set[str]:
    """The calls of an operation that succeeds."""
    ask = prepare(side)
    before = side.model.faults.calls.seen.copy()
    ask()
    return set(side.model.faults.calls.seen - before) - READS - {"Import-Module"}


def _struck(
    side: Side, prepare: Callable[[Side], Call], call: str, settings: dict[str, Any], count: int = 1000
) -> Any:
    """The outcome of an operation one of whose calls fails, always or ``count`` times."""
    ask = prepare(side)
    side.model.faults.arm_call(call, count, **settings)
    try:
        return comparable(_outcome(ask), {})
    finally:
        side.model.faults.clear()


def _other_ways(call: str) -> list[dict[str, Any]]:
    """Further errors of a call, which a script may catch elsewhere."""
    ways: list[dict[str, Any]] = [{"error": "busy"}, {"error": "not_found"}]
    if call in METHODS:
        ways += [{"job": True}, {"code": 0x800706BA}]
    elif "Virtual" not in call:
        ways += [{"error": "access_denied"}]
    return ways


def _differences(sides: dict[str, Side], name: str, ways: Callable[[str], list[dict[str, Any]]]) -> list[Any]:
    prepare = PREPARED[name]
    calls = on_both(sides, lambda side: _calls(side, prepare))
    assert calls["powershell"] == calls["builtin"]
    different = []
    for call in sorted(calls["builtin"]):
        for settings in ways(call):
            # Called before the next turn of the loop.
            answers = on_both(sides, lambda side: _struck(side, prepare, call, settings))  # noqa: B023
            if answers["powershell"] != answers["builtin"]:
                different.append((call, settings, answers))
    return different


def test_every_operation_is_prepared() -> None:
    assert {name.partition(" ")[0] for name in PREPARED} == set(OPERATIONS)


@pytest.mark.parametrize("name", PREPARED)
def test_an_operation_makes_the_same_calls_and_fails_alike(sides: dict[str, Side], name: str) -> None:
    assert not _differences(sides, name, lambda call: [{"error": "failed"}])


@pytest.mark.soak
@pytest.mark.parametrize("name", PREPARED)
def test_an_operation_fails_alike_with_every_error(sides: dict[str, Side], name: str) -> None:
    assert not _differences(sides, name, _other_ways)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("New-HvpsCheckpoint", "Get-CimInstance:Msvm_ConcreteJob"),
        ("New-HvpsCheckpoint", "Get-CimAssociatedInstance:Msvm_VirtualSystemSettingData"),
        ("ConvertTo-HvpsReferencePoint", "Get-CimAssociatedInstance:Msvm_VirtualSystemReferencePoint"),
    ],
)
def test_a_query_about_a_job_is_repeated(sides: dict[str, Side], name: str, call: str) -> None:
    prepare, busy = PREPARED[name], {"error": "busy"}
    answers = on_both(sides, lambda side: _struck(side, prepare, call, busy, count=2))
    assert answers["powershell"] == answers["builtin"]
    # Without the answer nothing would show that the checkpoint or reference point is ours.
    assert answers["builtin"][0] in ("CheckpointInfo", "ReferencePointInfo")
