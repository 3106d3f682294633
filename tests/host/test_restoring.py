"""Files that are written on a host: quotas of pipelines, and what is asked of the host."""

from __future__ import annotations

import hashlib
import json
from uuid import UUID

import pytest

from hvpsbridge.contract.restoring import RoleState
from hvpsbridge.errors import HostDiskFull, OperationFailed
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.planned_vm import planned_vm
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.model import ControllerType, Model, Slot, SnapshotType, VMState
from hvpsbridge.units import MIB
from tests.sim.planned import configuration_file

PLACE = "C:\\Restored\\new"


def test_a_file_is_written_by_several_pipelines(host: HyperVHost, model: Model) -> None:
    path = f"{PLACE}\\disk.partial.vhdx"
    assert host.restoring.new_file(path, 40 * MIB).folders == ("C:\\Restored", PLACE)
    writer = host.restoring.open_writer(path)
    # More than the 50 MB that a pipeline may receive, twice encoded.
    for number in range(40):
        writer.write(number * MIB, bytes([number + 1]) * MIB)
    writer.flush()
    assert writer.take_written() == [Extent(number * MIB, MIB) for number in range(40)]
    writer.close()
    assert host.restoring.close_file(path).closed
    host.restoring.move_file(path, f"{PLACE}\\disk.vhdx")
    content = model.host_files.content(f"{PLACE}\\disk.vhdx").read_bytes()
    assert content == b"".join(bytes([number + 1]) * MIB for number in range(40))
    found = host.restoring.folder(PLACE, [path, f"{PLACE}\\disk.vhdx"])
    assert (found.exists, found.found) == (True, (f"{PLACE}\\disk.vhdx",))
    removed = host.restoring.remove_files([path, f"{PLACE}\\disk.vhdx"], [PLACE, "C:\\Restored"])
    assert removed.removed == (f"{PLACE}\\disk.vhdx", PLACE, "C:\\Restored")


def test_switches_are_listed(host: HyperVHost) -> None:
    assert [switch.name for switch in host.restoring.switches()] == ["External"]


def test_a_full_volume_is_found_before_anything_is_written(host: HyperVHost, model: Model) -> None:
    with pytest.raises(HostDiskFull):
        host.restoring.new_file(f"{PLACE}\\disk.vhdx", 1 << 50)
    assert model.host_files.made() == ("C:\\Restored", PLACE)


def test_a_vm_that_exists_is_not_taken_for_a_new_one(host: HyperVHost, model: Model) -> None:
    plan = json.dumps(
        {
            **{"mark": "m", "notes": "", "generation": 1, "version": None, "scsi_controllers": 1},
            **{"memory": {"StartupBytes": 512 * MIB}, "processor": None, "vm": None, "firmware": None},
            **{"disks": [], "adapters": [], "boot": [], "bios": None, "services": None},
            **{"dvd": [], "tpm": None},
        }
    )
    made = host.restoring.new_vm("plain", "C:\\VMs", plan)
    assert (made.name, made.warnings) == ("plain", ())
    assert host.vm(made.vm_id).generation == 1
    assert host.restoring.start_vm(made.vm_id).running
    assert host.restoring.heartbeat(made.vm_id).running
    model.vms.set_state(made.vm_id, "power_off")
    assert host.restoring.remove_vm(made.vm_id, "C:\\VMs\\plain", "m").removed
    assert not host.restoring.remove_vm(made.vm_id, "C:\\VMs\\plain", "m").removed


def test_the_role_of_a_clustered_vm_goes_offline_and_comes_back(host: HyperVHost, model: Model) -> None:
    node = model.nodes.get("HV01")
    node.cluster = "one"
    vm_id = model.setup.create_vm("clustered", clustered=True, state=VMState.Running).vm_id
    assert host.restoring.cluster_role(vm_id).state is RoleState.ONLINE
    assert host.restoring.set_cluster_role(vm_id, online=False).state is RoleState.OFFLINE
    assert model.vms.get(vm_id).state is VMState.Saved  # what the resource does by default
    assert host.restoring.set_cluster_role(vm_id, online=True).state is RoleState.ONLINE
    assert model.vms.get(vm_id).state is VMState.Running


def test_a_disk_is_enlarged_and_never_made_smaller(host: HyperVHost, model: Model) -> None:
    vm_id = model.setup.create_vm("small", state=VMState.Off).vm_id
    model.setup.add_disk(vm_id, Slot(ControllerType.SCSI, 0, 0), size_bytes=8 * MIB)
    path = host.disks(vm_id)[0].path or ""
    assert host.restoring.enlarge_disk(path, 16 * MIB).enlarged
    assert host.disks(vm_id)[0].size_bytes == 16 * MIB
    with pytest.raises(OperationFailed):
        host.restoring.enlarge_disk(path, 8 * MIB)


def test_a_vm_is_planned_and_made_real(host: HyperVHost, model: Model) -> None:
    source = model.setup.create_vm("source", notes="by hand", state=VMState.Off)
    path = configuration_file(model, source.vm_id)
    planned = host.restoring.new_planned_vm(path, "copy", PLACE, "mark")
    assert (planned.notes, planned.disk_paths, planned.checkpoints) == ("by hand", (), 0)
    (listed,) = host.restoring.planned_vms()
    assert (listed.vm_id, listed.name, listed.notes) == (planned.vm_id, "copy", "mark")
    with pytest.raises(OperationFailed) as caught:
        host.restoring.remove_planned_vm(planned.vm_id, "copy", "another mark")
    assert caught.value.error_id == "Hvps.BadRequest"
    made = host.restoring.complete_planned_vm(planned.vm_id, planned_vm("mark", planned.notes, ()))
    assert (made.name, made.path, model.vms.get(made.vm_id).notes) == ("copy", PLACE, "by hand")
    assert not host.restoring.remove_planned_vm(planned.vm_id, "copy", "mark").removed


def test_configuration_files_are_written_in_the_folder_of_an_import_only(host: HyperVHost) -> None:
    folder = f"{PLACE}\\Imported Configuration"
    for extension in ("vmcx", "vmrs", "vmgs"):
        host.restoring.new_file(f"{folder}\\a.{extension}", 1)
    for path in (f"{PLACE}\\a.vmcx", f"{folder}\\..\\a.vmcx", f"{folder}\\a.exe", f"{folder}.vmcx"):
        with pytest.raises(OperationFailed):
            host.restoring.new_file(path, 1)
        with pytest.raises(OperationFailed) as caught:
            host.restoring.remove_files([path])
        assert caught.value.error_id == "Hvps.BadRequest"
    with pytest.raises(OperationFailed):
        host.restoring.move_file(f"{folder}\\a.vmcx", f"{folder}\\b.vmcx")


def test_a_file_that_exists_is_left_alone(host: HyperVHost) -> None:
    host.restoring.new_file(f"{PLACE}\\disk.vhdx", 1)
    with pytest.raises(OperationFailed) as caught:
        host.restoring.new_file(f"{PLACE}\\disk.vhdx", 1)
    assert caught.value.error_id == "Hvps.FileExists"


def test_a_disk_of_a_vm_that_is_off_is_copied_and_written(host: HyperVHost, model: Model) -> None:
    vm = model.setup.create_vm("in place")
    model.setup.add_disk(vm.vm_id, Slot(ControllerType.SCSI, 0, 0), size_bytes=MIB)
    job = model.jobs.wait(model.checkpoints.create(vm.vm_id, name="by hand", kind=SnapshotType.Standard))
    while not host.checkpoints(vm.vm_id):
        pass
    model.vms.set_state(vm.vm_id, "save")
    assert host.restoring.discard_saved_state(vm.vm_id).removed
    assert host.restoring.remove_snapshot(vm.vm_id, UUID(job.results["checkpoint"]), "by hand").removed
    while host.merge_state(vm.vm_id).merging:
        pass
    (disk,) = host.disks(vm.vm_id)
    assert disk.path is not None
    copy = disk.path.replace(".vhdx", ".copy.vhdx")
    assert host.restoring.copy_file(disk.path, copy).path == copy
    writer = host.restoring.open_disk_writer(disk.path)
    writer.write(4096, b"x" * 4096)
    writer.flush()
    writer.close()
    assert host.restoring.close_file(disk.path).closed
    found = [next(host.digests(path, 4096, 4096, 4096)).digests for path in (disk.path, copy)]
    host.close_readers()
    assert found == [hashlib.sha256(block * 4096).digest() for block in (b"x", b"\0")]
    assert host.restoring.remove_files([copy]).removed == (copy,)
