"""Control of a simulated host from another process."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import SimulatorError
from hvpsbridge.sim.control import Control, ControlServer
from hvpsbridge.sim.model import Model
from hvpsbridge.units import MIB
from tests.waiting import DEADLINE_SECONDS


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path / "world")
    yield world
    world.close()


@pytest.fixture
def control(model: Model) -> Iterator[Control]:
    with ControlServer(model, model.folder, info={"url": "http://x"}), Control(model.folder) as client:
        yield client


def test_a_vm_is_made_written_and_checkpointed_through_the_socket(control: Control, tmp_path: Path) -> None:
    assert control.info() == {"url": "http://x"}
    vm_id = control.create_vm("db 'one'", generation=1)
    (tmp_path / "a.raw").write_bytes(b"a" * MIB)
    control.import_image("db 'one'", tmp_path / "a.raw")
    control.add_empty_disk(str(vm_id), 2 * MIB, "scsi0:1")
    (tmp_path / "b.raw").write_bytes(b"a" * 4096 + b"b" * 4096 + b"a" * (MIB - 8192))
    assert control.apply_image("db 'one'", tmp_path / "b.raw") == 4096
    point = control.checkpoint("db 'one'", "mine")
    control.write("db 'one'", "scsi0:1", 512, b"z" * 512)
    [vm] = control.vms()
    assert (vm.vm_id, vm.name, vm.state, vm.checkpoints, vm.reference_points) == (
        vm_id,
        "db 'one'",
        "running",
        1,
        0,
    )
    assert [disk.slot for disk in vm.disks] == ["scsi0:0", "scsi0:1"]
    assert [len(disk.chain) for disk in vm.disks] == [2, 2]
    assert control.golden_image(point, "scsi0:0").read_bytes() == (tmp_path / "b.raw").read_bytes()
    assert control.live_image("db 'one'", "scsi0:1").read_bytes()[512:1024] == b"z" * 512
    [listed] = control.checkpoints("db 'one'")
    assert (listed.checkpoint_id, listed.name, listed.kind) == (point, "mine", "standard")


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="needs qemu-img (Debian: qemu-utils)")
@pytest.mark.parametrize("kind", ["qcow2", "vhdx"])
def test_other_image_formats_are_imported_with_the_same_bytes(
    control: Control, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "a.raw").write_bytes(b"image" * 209715 + b"!")
    image = tmp_path / f"a.{kind}"
    subprocess.run(
        ["qemu-img", "convert", "-O", kind, tmp_path / "a.raw", image], check=True, capture_output=True
    )
    control.create_vm("v")
    control.import_image("v", image)
    assert control.live_image("v").read_bytes()[: 5 * 209715] == b"image" * 209715
    assert [entry.name for entry in tmp_path.rglob("import-*")] == []


def test_what_makes_no_sense_is_refused_with_one_line(control: Control, tmp_path: Path) -> None:
    for wrong, said in [
        (lambda: control.write("nobody", "scsi0:0", 0, b""), "no VM 'nobody'"),
        (lambda: control.set_fault("meteor"), "unknown fault 'meteor'"),
        (lambda: control.set_knob("gravity", 1), "unknown knob 'gravity'"),
        (lambda: control.create_vm("x", colour="red"), "unknown setting 'colour'"),
        (lambda: control.import_image("nobody", tmp_path / "missing.raw"), "cannot read image"),
        (lambda: control.golden_image(UUID(int=1), "scsi0:0"), "has no golden image"),
    ]:
        with pytest.raises(SimulatorError, match=said):
            wrong()


def test_faults_and_knobs_reach_the_model(control: Control, model: Model) -> None:
    control.set_fault("query_empty", 2)
    control.set_knob("merge_seconds", "2.5")
    control.set_knob("job_vanishes", "on")
    assert model.faults.fires("query_empty")
    assert control.faults() == {"query_empty": 1}
    assert (model.knobs.merge_seconds, model.knobs.job_vanishes) == (2.5, True)
    assert control.knobs()["merge_seconds"] == 2.5


def test_shutdown_is_passed_on_after_it_was_agreed_to(model: Model) -> None:
    asked = threading.Event()
    with ControlServer(model, model.folder, shutdown=asked.set), Control(model.folder) as client:
        client.shutdown()
        assert asked.wait(DEADLINE_SECONDS)


def test_a_folder_that_nobody_serves_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="no simulated host runs in"):
        Control(tmp_path)


def test_a_deep_folder_is_no_trouble(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    model = Model(deep)
    with ControlServer(model, deep), Control(deep) as client:
        assert client.vms() == ()
    model.close()


def test_settings_disks_and_competitors_are_reached_too(control: Control, model: Model) -> None:
    vm_id = control.create_vm("v")
    control.add_empty_disk("v", MIB)
    control.add_empty_disk("v", MIB, "scsi0:1")
    control.resize_disk("v", "scsi0:1", 2 * MIB)
    assert [disk.size_bytes for disk in control.vms()[0].disks] == [MIB, 2 * MIB]
    control.remove_disk("v", "scsi0:1")
    control.change_vm("v", checkpoint_type="production_only", merge_enabled=False)
    assert model.vms.get(vm_id).checkpoint_type.name == "ProductionOnly"
    with pytest.raises(SimulatorError, match="checkpoint_type takes one of"):
        control.change_vm("v", checkpoint_type="sometimes")
    with pytest.raises(SimulatorError, match="merge_enabled takes a bool"):
        control.change_vm("v", merge_enabled="no")
    control.add_reference_point("v")
    assert control.vms()[0].reference_points == 1
    assert control.destroy_reference_points("v") == 1
    control.lose_tracking("v")
    control.add_node("HV02")
    control.migrate("v", "HV02")
    control.crash_host("HV02")
    [vm] = control.vms()
    assert (vm.node, vm.state) == ("HV02", "off")
