"""Restoring onto a Hyper-V host: the new VM as qemu-img, libvhdi and a backup of it see it."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pyvhdi

from hvpsbridge.errors import (
    ConfigurationError,
    DiskDamaged,
    ExitCode,
    HostDiskFull,
    RestoreDiffers,
    TargetExists,
)
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.writer import FileWriter
from hvpsbridge.sim.model import ControllerType, Slot, VMState
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.host_file import HostDiskFile
from hvpsbridge.tasks.restore.onto_host import HostOptions, HostVm
from hvpsbridge.tasks.restore.results import RestoreResult
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.units import MIB
from tests.qemu_images import assert_same_disk
from tests.tasks.world import SLOT, World, digest_of

SECOND = Slot(ControllerType.SCSI, 0, 1)
FOLDER = "C:\\Restored [x]"


def restored(
    world: World,
    host: HyperVHost,
    vm_id: UUID,
    name: str = "copy",
    *,
    skip_damaged: bool = False,
    **options: object,
) -> RestoreResult:
    wanted = HostOptions(name=name, folder=FOLDER, **options)  # type: ignore[arg-type]
    target = HostVm(host, world.repository, uuid4(), wanted)
    ref = VmRef("HV01", vm_id, "web")
    return restore_vm(world.context(ref), RestoreOptions(to="raw:/unused", skip_damaged=skip_damaged), target)


def test_the_new_vm_has_the_disks_of_the_point(world: World, host: HyperVHost, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(24 * MIB, 8 * MIB), notes="written by hand", processor_count=4)
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    result = restored(world, host, vm_id)
    assert result.error is None, result.error
    (made,) = [vm for vm in world.model.vms.all() if vm.name == "copy"]
    assert (made.state, made.generation, made.processor_count, made.notes) == (
        VMState.Off,
        2,
        4,
        "written by hand",
    )
    # Judges that know nothing of hvps read the file in the store of the simulated host.
    for disk, slot in zip(point.disks, (SLOT, SECOND), strict=True):
        golden = world.model.golden.at_checkpoint(point.manifest.checkpoint_id, slot)  # type: ignore[arg-type]
        file = world.model.host_files.content(
            f"{FOLDER}\\copy\\Virtual Hard Disks\\scsi-0-{slot.controller_location}.vhdx"
        )
        image = tmp_path / f"{slot.controller_location}.vhdx"
        image.symlink_to(file)
        assert_same_disk(image, "vhdx", golden)
        opened = pyvhdi.file()
        opened.open(str(file))
        assert opened.read_buffer_at_offset(disk.size_bytes, 0) == golden.read_bytes()
        opened.close()
    # And so does a backup of the new VM.
    world.good_backup(made.vm_id)
    copied = world.repository.catalog.points(made.vm_id)[0]
    # Only digests travelled: it was compared with the point that it came from.
    for disk in copied.disks:
        assert (disk.mode, disk.reason, disk.base) == ("compare", "restored", point.point_id)
        assert disk.stats.changed_bytes == 0
    for disk, other in zip(point.disks, copied.disks, strict=True):
        assert digest_of(world.repository.image(point, disk)) == digest_of(
            world.repository.image(copied, other)
        )
    before, after = (json.loads(one.manifest.definition) for one in (point, copied))
    for section in ("processor", "memory", "firmware", "scsi_controllers", "security"):
        found, kept = after[section], before[section]
        if section == "firmware":
            found["BootOrder"], kept["BootOrder"] = (
                [entry["Device"]["ControllerLocation"] for entry in one["BootOrder"]] for one in (found, kept)
            )
        assert found == kept, section
    assert [adapter["SwitchName"] for adapter in after["network"]] == [""]


def test_all_problems_are_named_at_once_and_nothing_is_made(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    template = {"SecureBootTemplate": "MicrosoftUEFICertificateAuthority"}
    world.model.vms.get(vm_id).hardware["firmware"] = template
    world.good_backup(vm_id)
    world.model.setup.create_vm("COPY")
    world.model.host_files.set_folder(FOLDER, encrypted=True)
    world.model.host_files.set_folder(f"{FOLDER}\\copy")
    node = world.model.nodes.get(None)
    node.supported_vm_versions, node.logical_processors = ("8.0", "9.0"), 1
    node.memory_bytes, node.switches = 1 << 30, ("Internal",)
    node.secure_boot_templates = ("MicrosoftWindows",)
    world.model.setup.add_volume("C:\\", 100 * MIB, 99 * MIB)
    before = world.model.host_files.made()
    error = restored(world, builtin, vm_id, connect_network=True).error
    assert isinstance(error, ConfigurationError)
    assert "configuration version 10.0, but 8.0, 9.0" in str(error)
    assert "2 processors, the host 1" in str(error)
    assert "4 GiB of memory, the host has 1 GiB" in str(error).replace(".0", "")
    assert "has no switch 'External'" in str(error)
    assert (
        "does not have secure boot template MicrosoftUEFICertificateAuthority, but MicrosoftWindows"
        in str(error)
    )
    assert "would be encrypted" in str(error)
    assert "the disks need" in str(error)
    assert "a VM named 'copy' exists" in str(error)
    assert f"{FOLDER}\\copy exists" in str(error)
    assert world.model.host_files.made() == before


def test_a_vm_is_started_when_it_is_proven(world: World, host: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    result = restored(world, host, vm_id, start=True)
    assert (result.error, result.exit_code) == (None, ExitCode.DONE)
    (made,) = [vm for vm in world.model.vms.all() if vm.name == "copy"]
    assert made.state is VMState.Running
    # Microsoft.HyperV.PowerShell.StartAction.Nothing
    assert made.hardware["vm"]["AutomaticStartAction"] == 2
    assert "it runs" in result.notes[0]


def test_a_vm_that_does_not_start_stays(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.model.faults.arm_call("Start-VM", error="failed")
    result = restored(world, builtin, vm_id, start=True)
    assert (result.error, result.exit_code) == (None, ExitCode.VM_FAILED)
    assert "Start-HvpsVm" in str(result.problems[0])
    (made,) = [vm for vm in world.model.vms.all() if vm.name == "copy"]
    assert made.state is VMState.Off
    assert "it is off" in result.notes[0]


def test_drives_adapters_and_the_vtpm_come_back(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(tpm_enabled=True)
    vm, files = world.model.vms.get(vm_id), world.model.host_files
    files.set_folder("C:\\ISO")
    files.close(files.create("C:\\ISO\\there.iso", "pid:1"))
    vm.hardware["dvd"] = {"scsi0:5": "C:\\ISO\\there.iso", "scsi0:6": "D:\\gone.iso"}
    vm.hardware["limits"] = {"scsi0:0": {"MinimumIOPS": 0, "MaximumIOPS": 500}}
    world.good_backup(vm_id)
    result = restored(world, builtin, vm_id)
    assert (result.error, result.exit_code) == (None, ExitCode.DONE)
    (made,) = [vm for vm in world.model.vms.all() if vm.name == "copy"]
    assert made.hardware["dvd"] == {"scsi0:5": "C:\\ISO\\there.iso", "scsi0:6": None}
    assert made.hardware["limits"]["scsi0:0"]["MaximumIOPS"] == 500
    assert made.tpm_enabled
    said = "; ".join(result.notes)
    assert "left out: D:\\gone.iso, which the host does not have" in said
    assert "BitLocker will ask for its recovery key" in said


def test_a_new_vtpm_is_made_on_request_only(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm(tpm_enabled=True)
    world.good_backup(vm_id)
    world.model.nodes.get(None).has_guardian = False
    without = restored(world, builtin, vm_id)
    assert "not set: key protector of the vTPM" in "; ".join(without.notes)
    assert "--new-tpm" in "; ".join(without.notes)
    renewed = restored(world, builtin, vm_id, "renewed", new_tpm=True)
    assert "BitLocker will ask" in "; ".join(renewed.notes)
    enabled = {vm.name: vm.tpm_enabled for vm in world.model.vms.all()}
    assert enabled == {"web": True, "copy": False, "renewed": True}


def test_a_share_without_delegation_is_named(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.model.set_knob("smb_without_delegation", True)
    wanted = HostOptions(name="copy", folder="\\\\FS01\\VMs")
    target = HostVm(builtin, world.repository, uuid4(), wanted)
    ref = VmRef("HV01", vm_id, "web")
    error = restore_vm(world.context(ref), RestoreOptions(to="raw:/unused"), target).error
    assert isinstance(error, ConfigurationError)
    assert "SMB needs delegation" in str(error)


def test_a_lost_connection_is_resumed_inside_the_disk(
    world: World, builtin: HyperVHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm(disks=(24 * MIB,))
    world.good_backup(vm_id)
    write, sent = FileWriter.write, []

    def losing(writer: FileWriter, offset: int, data: bytes) -> None:
        sent.append(offset)
        if len(sent) in (3, 6):
            # As if the process of the shell had been killed.
            assert builtin.end_shell(builtin.shell_id)
        write(writer, offset, data)

    monkeypatch.setattr(FileWriter, "write", losing)
    result = restored(world, builtin, vm_id)
    assert result.error is None, result.error
    assert len(sent) > len(set(sent))
    # Most of it was sent once.
    assert sum(sent.count(offset) > 3 for offset in sent) == 0


def test_what_the_host_reads_differently_is_not_kept(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.model.faults.arm("read_corrupt", 1)
    result = restored(world, builtin, vm_id)
    assert isinstance(result.error, RestoreDiffers)
    assert [path for path in world.model.host_files.made() if path.endswith(".vhdx")] == []
    assert [vm.name for vm in world.model.vms.all()] == ["web"]


def test_a_full_volume_is_one_error(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.model.faults.arm("SetEndOfFile:code=112")
    result = restored(world, builtin, vm_id)
    assert isinstance(result.error, HostDiskFull)
    assert [path for path in world.model.host_files.made() if path.endswith(".vhdx")] == []


def test_a_volume_that_fills_up_in_the_middle_is_one_error(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.model.faults.arm("WriteFile:code=112,after=1")
    result = restored(world, builtin, vm_id)
    assert isinstance(result.error, HostDiskFull)
    assert [path for path in world.model.host_files.made() if path.endswith(".vhdx")] == []
    assert restored(world, builtin, vm_id).error is None


def test_a_path_that_is_too_long_is_named(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    error = restored(world, builtin, vm_id, "n" * 250).error
    assert isinstance(error, ConfigurationError)
    assert "paths are too long by " in str(error)


def test_two_restores_to_one_place_do_not_touch_each_other(world: World, builtin: HyperVHost) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    first = HostVm(builtin, world.repository, uuid4(), HostOptions(name="copy", folder=FOLDER))
    first.check(point, world.sources(point))
    error = restored(world, builtin, vm_id).error
    assert isinstance(error, ConfigurationError)
    assert f"another restore is making {FOLDER}\\copy" in str(error)
    # One of another repository is not in the ledger.
    other = HostDiskFile(builtin, first.file(point.disks[0])).partial
    builtin.restoring.new_file(other, 1)
    builtin.restoring.close_file(other)
    with pytest.raises(TargetExists):
        first.write(world.sources(point)[0])
    assert other in world.model.host_files.made()


def test_a_damaged_tree_is_found_before_anything_is_made_and_left_out_on_request(
    world: World, builtin: HyperVHost
) -> None:
    vm_id = world.vm(disks=(2 * MIB, 2 * MIB))
    world.good_backup(vm_id)
    (point,) = world.repository.catalog.points(vm_id)
    world.damage(Kind.NODE_PACK, point.disks[1].tree.root)
    failed = restored(world, builtin, vm_id)
    assert isinstance(failed.error, DiskDamaged)
    assert world.model.host_files.made() == ()
    result = restored(world, builtin, vm_id, skip_damaged=True)
    assert result.error is None, result.error
    assert [len(disk.damaged) for disk in result.disks] == [0, 1]
    assert [condition.code for condition in result.conditions] == [ExitCode.DAMAGE]
    assert sorted(vm.name for vm in world.model.vms.all()) == ["copy", "web"]
