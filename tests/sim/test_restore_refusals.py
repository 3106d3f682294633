"""What a simulated host refuses of a restore, as Windows does: bad files, generations, and too much data."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.views.vhdx import vhdx_view
from hvpsbridge.formats.views.view import DiskShape
from hvpsbridge.sim.model import DiskError, HyperVError, Model, VMState, Win32, Wmi
from hvpsbridge.sim.standin import administration, devices
from hvpsbridge.sim.standin.rows import Rows
from hvpsbridge.sim.wsman.envelope import Fault
from hvpsbridge.sim.wsman.shells import Inbound, Quotas
from hvpsbridge.units import KIB, MIB

DISK = UUID(int=7)
PATH = "C:\\Loose\\a.vhdx"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(tmp_path / "world")


def written(model: Model, path: str, spoil: Callable[[bytearray], None]) -> str:
    """A VHDX file on the host, with bytes changed."""
    shape = DiskShape(size_bytes=3 * MIB, disk_id=DISK, block_bytes=MIB)
    view = vhdx_view(shape, [Extent(MIB, MIB)], DISK)
    content = bytearray(view.table_bytes(0, view.payload.end - MIB) + b"data" * (MIB // 4))
    spoil(content)
    model.host_files.set_folder("C:\\Loose")
    handle = model.host_files.create(path, "pid:1")
    model.host_files.set_size(handle, len(content))
    model.host_files.backing_of(handle).write_bytes(content)
    model.host_files.close(handle)
    return path


def _zero(start: int, end: int) -> Callable[[bytearray], None]:
    def spoil(content: bytearray) -> None:
        content[start:end] = bytes(end - start)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _zero(0, 8),  # the file identifier
        _zero(64 * KIB, 192 * KIB),  # both headers
        _zero(192 * KIB, 320 * KIB),  # both region tables
        lambda content: content.__delitem__(slice(512 * KIB, None)),
    ],
    ids=["identifier", "headers", "regions", "cut off"],
)
def test_a_bad_vhdx_is_not_attached(model: Model, spoil: Callable[[bytearray], None]) -> None:
    vm = model.setup.create_vm("vm", state=VMState.Off)
    with pytest.raises(HyperVError) as refused:
        devices.add_drive(Rows(model, None), str(vm.vm_id), written(model, PATH, spoil))
    assert f"0x8007{int(Win32.FILE_CORRUPT):04X}" in str(refused.value.message)


def test_a_good_vhdx_is_attached_once_and_to_a_free_slot(model: Model) -> None:
    vm = model.setup.create_vm("vm", state=VMState.Off)
    rows, vm_id = Rows(model, None), str(vm.vm_id)
    path = written(model, PATH, lambda content: None)
    assert devices.add_drive(rows, vm_id, path, slot="scsi0:3")[0]["Path"] == path
    other = written(model, "C:\\Loose\\b.vhdx", lambda content: None)
    for file, slot in ((path, "scsi0:4"), (other, "scsi0:3"), (other, "scsi0:64"), (other, "ide0:0")):
        with pytest.raises(HyperVError):
            devices.add_drive(rows, vm_id, file, slot=slot)


def test_generation_2_takes_no_vhd(model: Model) -> None:
    for generation, slot in ((1, "ide0:0"), (2, "scsi0:0")):
        vm = model.setup.create_vm(f"vm{generation}", generation=generation, state=VMState.Off)
        with pytest.raises(HyperVError) as refused:
            devices.add_drive(Rows(model, None), str(vm.vm_id), "C:\\Loose\\a.vhd", slot=slot)
        assert refused.value.code == (Wmi.NOT_SUPPORTED if generation == 2 else Wmi.NOT_FOUND)


def test_a_host_refuses_versions_generations_and_templates_that_it_lacks(model: Model) -> None:
    rows = Rows(model, None)
    model.nodes.get(None).secure_boot_templates = ("MicrosoftWindows",)
    for generation, version in ((3, None), (2, "99.0")):
        with pytest.raises(HyperVError):
            administration.new_vm(rows, "new", generation, "C:\\VMs", version=version)
    vm = model.setup.create_vm("vm", state=VMState.Off)
    administration.set_firmware(rows, str(vm.vm_id), {"SecureBootTemplate": "MicrosoftWindows"})
    with pytest.raises(HyperVError):
        administration.set_firmware(rows, str(vm.vm_id), {"SecureBootTemplate": "OpenSourceShieldedVM"})


def test_a_compressed_file_is_no_disk(model: Model) -> None:
    model.host_files.set_folder("C:\\Loose", compressed=True)
    handle = model.host_files.create(PATH, "pid:1")
    model.host_files.close(handle)
    vm = model.setup.create_vm("vm", state=VMState.Off)
    with pytest.raises(HyperVError):
        devices.add_drive(Rows(model, None), str(vm.vm_id), PATH)
    with pytest.raises(DiskError) as refused:
        model.host_files.make_folder("C:\\Loose")
    assert refused.value.code == Win32.ALREADY_EXISTS


def fragment(length: int, *, start: bool = True) -> bytes:
    """A PSRP fragment in base64 (MS-PSRP 2.2.4)."""
    return base64.b64encode(struct.pack(">QQBI", 1, 0, 1 if start else 0, length) + bytes(length))


def test_a_pipeline_receives_no_more_than_the_quotas(model: Model) -> None:
    quotas = Quotas()
    total = Inbound(quotas)
    for _ in range(49):
        total.count(fragment(MIB))
    with pytest.raises(Fault, match="Allowed maximum is 52428800"):
        total.count(fragment(MIB))
    one = Inbound(quotas)
    one.count(fragment(6 * MIB))
    with pytest.raises(Fault, match="maximum object size"):
        one.count(fragment(6 * MIB, start=False))
