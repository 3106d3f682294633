"""Restoring onto a Hyper-V host from the configuration files of a point, through a planned VM."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ConfigurationError, ExitCode, HvpsError, SessionLost
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.repository import Point
from hvpsbridge.sim.model import ControllerType, Slot, SnapshotType, VMState
from hvpsbridge.sim.model.state import JobKind
from hvpsbridge.tasks.cleanup.restores import open_restores, sweep_restores
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.onto_host import HostOptions, HostVm
from hvpsbridge.tasks.restore.open_on_host import check_restores
from hvpsbridge.tasks.restore.results import RestoreResult
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.units import MIB
from tests.sim.planned import configuration_file
from tests.tasks.world import SECOND, SLOT, World, digest_of

FOLDER = "C:\\Restored"
MANAGEMENT = "Msvm_VirtualSystemManagementService"


def restored(
    world: World,
    host: HyperVHost,
    vm_id: UUID,
    name: str = "copy",
    *,
    disk: int | None = None,
    **more: object,
) -> RestoreResult:
    wanted = HostOptions(name=name, folder=FOLDER, from_config=True, **more)  # type: ignore[arg-type]
    target = HostVm(host, world.repository, uuid4(), wanted)
    options = RestoreOptions(to="raw:/unused", disk=disk)
    return restore_vm(world.context(VmRef("HV01", vm_id, "web")), options, target)


def point_of(world: World, vm_id: UUID) -> Point:
    return world.repository.catalog.points(vm_id)[0]


def assert_nothing_left(world: World) -> None:
    assert world.model.planned.all() == ()
    assert world.model.host_files.made() == ()
    assert list(open_restores(world.repository, "HV01")) == []
    assert [vm.name for vm in world.model.vms.all()] == ["web"]


def test_a_vm_comes_back_from_its_configuration(world: World, host: HyperVHost) -> None:
    vm_id = world.vm(disks=(8 * MIB, 4 * MIB), notes="by hand", processor_count=4, tpm_enabled=True)
    vm, files = world.model.vms.get(vm_id), world.model.host_files
    files.set_folder("C:\\ISO")
    files.close(files.create("C:\\ISO\\there.iso", "pid:1"))
    vm.hardware["dvd"] = {"scsi0:5": "C:\\ISO\\there.iso", "scsi0:6": "D:\\gone.iso"}
    # Nothing of it is in a definition.
    vm.hardware["unknown to hvps"] = {"kept": True}
    world.good_backup(vm_id)
    result = restored(world, host, vm_id)
    assert (result.error, result.exit_code, result.warnings) == (None, ExitCode.DONE, ())
    (made,) = [each for each in world.model.vms.all() if each.name == "copy"]
    assert (made.state, made.notes, made.processor_count, made.tpm_enabled) == (
        VMState.Off,
        "by hand",
        4,
        True,
    )
    assert made.vm_id != vm_id
    assert made.folder == f"{FOLDER}\\copy"
    assert made.hardware["unknown to hvps"] == {"kept": True}
    assert made.hardware["dvd"] == {"scsi0:5": "C:\\ISO\\there.iso", "scsi0:6": None}
    assert made.hardware["vm"]["AutomaticStartAction"] == 2
    assert made.hardware["adapters"][0]["members"]["Connected"] is False
    assert set(made.drives) == {str(SLOT), str(SECOND)}
    # The files that it was made of are gone; its disks stay.
    assert not [path for path in files.made() if path.endswith((".vmcx", ".vmrs", ".vmgs"))]
    assert f"{FOLDER}\\copy\\Imported Configuration" not in files.made()
    assert world.model.planned.all() == ()
    assert list(open_restores(world.repository, "HV01")) == []
    world.good_backup(made.vm_id)
    point, copied = point_of(world, vm_id), point_of(world, made.vm_id)
    for disk, other in zip(point.disks, copied.disks, strict=True):
        assert (other.mode, other.reason, other.stats.changed_bytes) == ("compare", "restored", 0)
        assert digest_of(world.repository.image(point, disk)) == digest_of(
            world.repository.image(copied, other)
        )


def test_adapters_are_connected_and_addresses_kept_on_request(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    members = {"DynamicMacAddressEnabled": False, "MacAddress": "00155D010203"}
    world.model.vms.get(vm_id).hardware["adapters"] = [{"key": "adapter", "members": members}]
    world.good_backup(vm_id)
    assert restored(world, builtin, vm_id, "plain").error is None
    assert restored(world, builtin, vm_id, "kept", connect_network=True, keep_macs=True).error is None
    made = {
        vm.name: vm.hardware["adapters"][0]["members"] for vm in world.model.vms.all() if vm.vm_id != vm_id
    }
    assert (made["plain"]["SwitchName"], made["plain"]["DynamicMacAddressEnabled"]) == ("", True)
    assert (made["kept"]["SwitchName"], made["kept"]["MacAddress"]) == ("External", "00155D010203")


def test_a_vm_of_generation_1_comes_back(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(generation=1, disks=())
    world.model.setup.add_disk(vm_id, Slot(ControllerType.IDE, 0, 0), size_bytes=4 * MIB)
    world.good_backup(vm_id)
    assert restored(world, builtin, vm_id).error is None
    (made,) = [each for each in world.model.vms.all() if each.name == "copy"]
    assert (made.generation, list(made.drives)) == (1, ["ide0:0"])


def test_drives_of_other_disks_are_empty(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(disks=(8 * MIB, 4 * MIB))
    world.good_backup(vm_id)
    result = restored(world, builtin, vm_id, disk=1)
    assert result.error is None
    assert "left out: disk scsi 0:0, whose drive is empty" in result.notes
    (made,) = [each for each in world.model.vms.all() if each.name == "copy"]
    assert [made.drives[str(slot)].layer is None for slot in (SLOT, SECOND)] == [True, False]


def test_all_problems_are_named_at_once(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(tpm_enabled=True)
    world.good_backup(vm_id)
    point = point_of(world, vm_id)
    files = tuple(file for file in point.manifest.files if not file.name.endswith(".vmgs"))
    node = world.model.nodes.get(None)
    node.supported_vm_versions, node.switches = ("8.0", "9.0"), ("Internal",)
    target = HostVm(
        builtin,
        world.repository,
        uuid4(),
        HostOptions(name="web", folder=FOLDER, from_config=True, connect_network=True),
    )
    lacking = replace(point, manifest=replace(point.manifest, files=files))
    with pytest.raises(ConfigurationError) as caught:
        target.check(lacking, world.sources(point))
    text = str(caught.value)
    assert "configuration version 10.0, but 8.0, 9.0" in text
    assert "no switch 'External'" in text
    assert "no .vmgs file" in text
    assert "a VM named 'web' exists" in text
    for names, said in (((), "no configuration file (.vmcx)"), (("..\\a.vmcx",), "named '..\\\\a.vmcx'")):
        given = tuple(replace(files[0], name=name) for name in names)
        other = replace(point, manifest=replace(point.manifest, files=given))
        with pytest.raises(ConfigurationError) as caught:
            target.check(other, world.sources(point))
        assert said in str(caught.value)
    assert_nothing_left(world)


def test_a_point_without_a_definition_comes_back(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.model.faults.arm_call("Get-VMMemory", 100, error="failed")
    world.backup(vm_id)
    world.model.faults.clear()
    assert json.loads(point_of(world, vm_id).manifest.definition)["memory"] is None
    assert restored(world, builtin, vm_id).error is None


def test_a_version_that_only_the_configuration_has_is_refused_before_disks_are_sent(
    world: World, builtin: HyperVHost
) -> None:
    vm_id = world.vm()
    world.model.faults.arm_call("Get-VMMemory", 100, error="failed")
    world.backup(vm_id)
    world.model.faults.clear()
    world.model.nodes.get(None).supported_vm_versions = ("8.0",)
    seen = world.model.faults.calls.seen.copy()
    error = restored(world, builtin, vm_id).error
    assert error is not None
    assert "10.0" in str(error)
    assert (world.model.faults.calls.seen - seen)["MoveFileEx"] == 0
    assert_nothing_left(world)


def test_a_configuration_with_checkpoints_is_refused(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="x", kind=SnapshotType.Standard))
    world.good_backup(vm_id)
    error = restored(world, builtin, vm_id).error
    assert isinstance(error, ConfigurationError)
    assert "refers to 1 checkpoint" in str(error)
    assert world.model.planned.all() == ()
    assert world.model.host_files.made() == ()


CALLS = (
    *(f"{MANAGEMENT}.{name}" for name in ("ImportSystemDefinition", "ModifySystemSettings")),
    *(f"{MANAGEMENT}.{name}" for name in ("ModifyResourceSettings", "ValidatePlannedSystem")),
    *(f"{MANAGEMENT}.{name}" for name in ("RealizePlannedSystem",)),
    "Get-CimAssociatedInstance:Msvm_PlannedComputerSystem",
    "Get-CimAssociatedInstance:Msvm_StorageAllocationSettingData",
    "Get-CimAssociatedInstance:Msvm_EthernetPortAllocationSettingData",
    "Get-CimInstance:Msvm_PlannedComputerSystem",
    "Get-VMNetworkAdapter",
    "CreateFile",
    "WriteFile",
)


@pytest.mark.parametrize(
    ("call", "how"),
    [
        *((call, {"error": error}) for call in CALLS for error in ("failed", "busy")),
        *((call, {"error": "failed", "job": True}) for call in CALLS if call.startswith(MANAGEMENT)),
    ],
)
def test_a_call_that_fails_leaves_nothing(
    world: World, builtin: HyperVHost, call: str, how: dict[str, object]
) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    # Not for ever: what follows cleans up with the same calls.
    again = 1 if "Associated" not in call else 20
    world.model.faults.arm_call(call, again, **how)
    result = restored(world, builtin, vm_id)
    world.model.faults.clear()
    if result.error is not None:
        swept = sweep_restores(builtin, world.repository, "HV01")
        assert swept.left == ()
        if (planned := world.model.planned.all()) and call.endswith("Msvm_PlannedComputerSystem"):
            pytest.fail(f"{planned} is left")
        assert_nothing_left(world)


@pytest.mark.parametrize("call", CALLS[:5])
def test_a_slow_call_is_waited_for(world: World, builtin: HyperVHost, call: str) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.model.set_knob("job_seconds", 0.2)
    world.model.faults.arm_call(call, seconds=0.3)
    assert restored(world, builtin, vm_id).error is None


def test_a_lost_reply_leaves_the_planned_vm_to_the_next_sweep(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    kind = type(builtin.restoring)
    real = kind.new_planned_vm

    def lost(*given: Any, **more: Any) -> Any:
        real(*given, **more)
        raise SessionLost("HV01", "New-HvpsPlannedVm", "gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "new_planned_vm", lost)
        assert isinstance(restored(world, builtin, vm_id).error, SessionLost)
    assert len(world.model.planned.all()) == len(list(open_restores(world.repository, "HV01"))) == 1
    (row,) = check_restores(world.repository, "HV01", "hv01")
    assert "a planned VM" in row.text
    assert restored(world, builtin, vm_id).error is None
    assert world.model.planned.all() == ()


def left_unmarked(world: World, vm_id: UUID) -> UUID:
    """A planned VM as a script leaves it that is killed before it sets the mark."""
    job = world.model.planned.import_definition(configuration_file(world.model, vm_id), new_id=True)
    return world.model.jobs.wait(job).vm_id


def killed(world: World, host: HyperVHost, vm_id: UUID, at: Callable[[], None]) -> HostVm:
    """A restore that ends when it makes the planned VM, without undoing anything."""

    class Died(BaseException):
        pass

    def dying(*_: object, **__: object) -> None:
        at()
        raise Died

    target = HostVm(
        host, world.repository, uuid4(), HostOptions(name="copy", folder=FOLDER, from_config=True)
    )
    point = point_of(world, vm_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(host.restoring), "new_planned_vm", dying)
        with pytest.raises(Died):
            target.check(point, world.sources(point))
    assert target._journal is not None
    target._journal.release()
    return target


def test_a_planned_vm_without_the_mark_waits_for_a_user(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    foreign = left_unmarked(world, vm_id)
    world.model.host_files.delete("C:\\Imports\\a.vmcx")
    found: list[UUID] = []
    killed(world, builtin, vm_id, lambda: found.append(left_unmarked(world, vm_id)))
    (planned_id,) = found

    def sweep(**decided: object) -> tuple[str, ...]:
        swept = sweep_restores(builtin, world.repository, "HV01", **decided)  # type: ignore[arg-type]
        return swept.left

    (line,) = sweep()
    assert str(planned_id) in line
    assert str(foreign) not in line
    assert len(list(open_restores(world.repository, "HV01"))) == 1
    assert sweep(ours=[str(planned_id)]) == ()
    assert [one.vm_id for one in world.model.planned.all()] == [foreign]
    assert list(open_restores(world.repository, "HV01")) == []


def test_a_planned_vm_of_somebody_else_stays(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    found: list[UUID] = []
    killed(world, builtin, vm_id, lambda: found.append(left_unmarked(world, vm_id)))
    swept = sweep_restores(builtin, world.repository, "HV01", foreign=[str(found[0])])
    assert swept.left == ()
    assert [one.vm_id for one in world.model.planned.all()] == found
    assert list(open_restores(world.repository, "HV01")) == []
    world.model.jobs.wait(world.model.planned.act(JobKind.DestroySystem, found[0]))


def test_a_planned_vm_that_is_gone_is_one_error(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    complete = type(builtin.restoring).complete_planned_vm

    def late(restoring: object, planned_id: UUID, plan: str) -> object:
        world.model.jobs.wait(world.model.planned.act(JobKind.DestroySystem, planned_id))
        return complete(restoring, planned_id, plan)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(builtin.restoring), "complete_planned_vm", late)
        error = restored(world, builtin, vm_id).error
    assert isinstance(error, HvpsError)
    assert "does not exist" in str(error)
    assert_nothing_left(world)
