"""Planned VMs on the simulated host: what Windows would refuse, and what they become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.sim.model import ControllerType, HyperVError, Model, Slot, SnapshotType, VMState, Wmi
from hvpsbridge.sim.model.state import JobKind
from hvpsbridge.units import MIB
from tests.sim.planned import FOLDER, act, configuration_file, planned, write_file

SLOT = Slot(ControllerType.SCSI, 0, 0)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path / "world")
    world.set_knob("job_seconds", 0.0)
    world.set_knob("visibility_seconds", 0.0)
    yield world
    world.close()


@pytest.fixture
def vm_id(model: Model) -> UUID:
    vm = model.setup.create_vm("source", state=VMState.Off, notes="notes")
    model.setup.add_disk(vm.vm_id, SLOT, size_bytes=1 * MIB)
    return vm.vm_id


def imported(model: Model, path: str, *, new_id: bool = True) -> tuple[int, str]:
    job = model.jobs.wait(model.planned.import_definition(path, new_id=new_id))
    return job.error_code, job.error_text


def test_a_planned_vm_becomes_a_vm_of_another_id(model: Model, vm_id: UUID) -> None:
    planned_id = planned(model, configuration_file(model, vm_id), "copy")
    assert [vm.name for vm in model.vms.all()] == ["source"]
    disk = model.setup.create_vm("other").vm_id
    model.setup.add_disk(disk, SLOT, size_bytes=1 * MIB, path="C:\\new.vhdx")
    model.setup.remove_disk(disk, SLOT)
    model.planned.set_file(planned_id, str(SLOT), None)
    model.planned.disconnect(planned_id, 0)
    assert act(model, JobKind.ValidatePlanned, planned_id) == ""
    assert act(model, JobKind.RealizePlanned, planned_id) == ""
    vm = model.vms.get(planned_id)
    assert (vm.name, vm.state, vm.notes, vm.vm_id != vm_id) == ("copy", VMState.Off, "mark", True)
    assert (model.planned.all(), vm.drives[str(SLOT)].layer) == ((), None)
    assert vm.hardware["adapters"][0]["members"]["Connected"] is False


def test_an_import_is_refused(model: Model, vm_id: UUID) -> None:
    path = configuration_file(model, vm_id)
    assert imported(model, f"{FOLDER}\\nothing.vmcx")[1].endswith("(0x80070002)")
    assert imported(model, write_file(model, b"x" * 100, "bad.vmcx"))[0] == Wmi.FAILED
    # Without a new id, the VM is there already.
    assert imported(model, path, new_id=False)[0] == Wmi.IN_USE
    handle = model.host_files.open(path, "pid:1")
    assert imported(model, path)[0] == Wmi.IN_USE
    model.host_files.close(handle)
    model.nodes.get().supported_vm_versions = ("8.0",)
    assert imported(model, path)[0] == Wmi.NOT_SUPPORTED
    assert model.planned.all() == ()


def test_realizing_is_refused(model: Model, vm_id: UUID) -> None:
    vm = model.vms.get(vm_id)
    vm.hardware["dvd"] = {"scsi0:5": "C:\\gone.iso"}
    planned_id = planned(model, configuration_file(model, vm_id))

    def refused() -> str:
        text = act(model, JobKind.ValidatePlanned, planned_id)
        assert act(model, JobKind.RealizePlanned, planned_id) == text
        return text

    model.nodes.get().switches = ("Other",)
    assert "'External'" in refused()
    model.planned.disconnect(planned_id, 0)
    assert "gone.iso" in refused()
    model.planned.set_file(planned_id, "scsi0:5", None)
    # The disk is that of the source.
    assert refused().endswith("(0x80070020)")
    model.planned.set_file(planned_id, str(SLOT), "C:\\nothing.vhdx")
    assert refused().endswith("(0x80070002)")
    assert [one.vm_id for one in model.planned.all()] == [planned_id]
    assert act(model, JobKind.DestroySystem, planned_id) == ""
    with pytest.raises(HyperVError):
        model.planned.act(JobKind.DestroySystem, planned_id)


def test_a_configuration_that_refers_to_a_checkpoint_is_not_realized(model: Model, vm_id: UUID) -> None:
    for name, kind in (("by hand", SnapshotType.Standard), ("backup", SnapshotType.Recovery)):
        model.jobs.wait(model.checkpoints.create(vm_id, name=name, kind=kind))
    last = next(one for one in model.checkpoints.all(vm_id) if one.name == "backup")
    planned_id = planned(model, configuration_file(model, vm_id, checkpoint=last.checkpoint_id))
    assert "checkpoint" in act(model, JobKind.RealizePlanned, planned_id)


def test_planned_vms_are_saved_with_the_world(model: Model, vm_id: UUID, tmp_path: Path) -> None:
    planned_id = planned(model, configuration_file(model, vm_id))
    model.save()
    again = Model(tmp_path / "world")
    assert again.planned.get(planned_id).settings == model.planned.get(planned_id).settings
    again.close()
