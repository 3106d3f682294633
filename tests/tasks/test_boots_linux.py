"""A small real Linux that was backed up boots, and reads what it wrote before the backup."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hvpsbridge.qemu.guest import best_accelerator
from hvpsbridge.repository.points import Point
from hvpsbridge.sim.model import ControllerType, Slot
from hvpsbridge.tasks.boots import BootOptions, check_boots
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.libvirt import SCRIPT_NAME
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.units import MIB
from tests.conftest import unavailable
from tests.once import made_once
from tests.qemu.linux import ROOT_START, first_boot, linux_disk, missing
from tests.tasks.test_restore_libvirt import boots
from tests.tasks.world import World

IDE = Slot(ControllerType.IDE, 0, 0)


@pytest.fixture(scope="session")
def small_linux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a disk that booted once, and of a file with what it wrote."""
    if missing():
        unavailable(f"needs {missing()}")

    def make(folder: Path) -> None:
        written = first_boot(linux_disk(folder / "disk"))
        (folder / "written").write_text(written)

    return made_once(tmp_path_factory, "small-linux", make)


def stored(world: World, disk: Path) -> Point:
    """A point of a VM of generation 1 with that disk."""
    vm_id = world.vm("small", disks=(), generation=1)
    world.model.setup.add_disk(vm_id, IDE, size_bytes=disk.stat().st_size, block_bytes=MIB)
    with disk.open("rb") as file:
        for at in range(0, disk.stat().st_size, MIB):
            if any(data := file.read(MIB)):
                world.model.guests.write(vm_id, IDE, at, data)
    world.good_backup(vm_id)
    return world.repository.catalog.points(vm_id)[0]


def options(tmp_path: Path, **changes: object) -> BootOptions:
    wanted = {"wait_seconds": 600.0, "stay_seconds": 1.0, "screenshots": tmp_path / "shots", **changes}
    return BootOptions(**wanted)  # type: ignore[arg-type]


@pytest.mark.first
def test_it_boots_from_nbd_and_from_qcow2_and_reads_what_it_wrote(
    world: World, small_linux: Path, tmp_path: Path
) -> None:
    point = stored(world, small_linux / "disk")
    mark = f"read: {(small_linux / 'written').read_text()}"
    check = check_boots(world.repository, point, options(tmp_path, mark=mark))
    assert (check.shown, check.by) == (True, "serial")
    assert mark in check.what
    assert check.accelerator == best_accelerator().value
    assert 15 * MIB < check.read_bytes < (small_linux / "disk").stat().st_size
    folder = tmp_path / "libvirt"
    vm = VmRef("HV01", point.vm_id, point.vm_name)
    assert restore_vm(world.context(vm), RestoreOptions(to=f"libvirt:{folder}")).error is None
    machine = ["-machine", f"accel={best_accelerator().value}"]
    boots([folder / SCRIPT_NAME, *machine], mark, tmp_path)
    # It mounted its disk for writing; the point has not changed.
    assert world.repository.image(point, point.disks[0]).readall() == (small_linux / "disk").read_bytes()


def test_an_answer_of_the_agent_is_enough(world: World, small_linux: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    linux_disk(disk, files=("written", "agent"))
    check = check_boots(world.repository, stored(world, disk), options(tmp_path, stay_seconds=300.0))
    assert (check.shown, check.by) == (True, "agent"), check


def test_a_panic_is_not_shown_to_boot(world: World, small_linux: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    linux_disk(disk, system=False)
    check = check_boots(world.repository, stored(world, disk), options(tmp_path))
    assert not check.shown
    assert "panic" in check.what


def test_a_wiped_boot_sector_is_not_shown_to_boot(world: World, small_linux: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    shutil.copy(small_linux / "disk", disk)
    with disk.open("r+b") as file:
        file.write(bytes(512))
    check = check_boots(world.repository, stored(world, disk), options(tmp_path))
    assert not check.shown
    assert "No bootable device" in check.what


def test_a_wiped_boot_loader_is_not_shown_to_boot(world: World, small_linux: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    shutil.copy(small_linux / "disk", disk)
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(bytes(ROOT_START - MIB))
    check = check_boots(world.repository, stored(world, disk), options(tmp_path, wait_seconds=15.0))
    assert not check.shown
