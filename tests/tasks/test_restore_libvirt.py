"""A VM that was backed up starts again: from the folder for libvirt, and from an NBD export."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import ConfigurationError, TargetExists
from hvpsbridge.nbd.exports import Export
from hvpsbridge.nbd.server import Server, unix_socket
from hvpsbridge.repository.points import Point
from hvpsbridge.sim.model import ControllerType, Slot
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.libvirt import DOMAIN_NAME, SCRIPT_NAME
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.units import MIB
from tests.tasks.world import World

# A boot sector that copies the text in the next sector to the serial line, and stops.
BOOT = bytes.fromhex(
    "31c0 8ed8 8ec0"  # xor ax,ax; mov ds,ax; mov es,ax
    "b80102 b90200 30f6 bb007e cd13"  # read one sector, cylinder 0, sector 2, to 7e00
    "be007e"  # mov si,7e00
    "ac 84c0 7406 baf803 ee ebf5"  # lodsb; until it is 0: out 3f8,al
    "f4 ebfd"  # hlt, for ever
)
IDE = Slot(ControllerType.IDE, 0, 0)


@pytest.fixture
def text() -> str:
    return f"written before the backup: {uuid4()}"


@pytest.fixture
def point(world: World, text: str) -> Point:
    vm_id = world.vm("web", disks=(), generation=1)
    world.model.setup.add_disk(vm_id, IDE, size_bytes=16 * MIB, block_bytes=MIB)
    sector = BOOT.ljust(510, b"\0") + b"\x55\xaa"
    world.model.guests.write(vm_id, IDE, 0, sector + text.encode().ljust(512, b"\0"))
    world.good_backup(vm_id)
    return world.repository.catalog.points(vm_id)[0]


def boots(command: list[str | Path], text: str, tmp_path: Path) -> None:
    """Waits until the text comes on the serial line."""
    serial = tmp_path / f"serial-{uuid4()}"
    options = ["-snapshot", "-display", "none", "-monitor", "none", "-serial", f"file:{serial}"]
    process = subprocess.Popen([*map(str, command), *options], stderr=subprocess.PIPE)
    try:
        until = time.monotonic() + 600
        while not (serial.exists() and text in serial.read_text(errors="replace")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until, "nothing on the serial line"
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()


def restored(world: World, point: Point, folder: Path, **options: object) -> object:
    wanted = RestoreOptions(to=f"libvirt:{folder}", **options)  # type: ignore[arg-type]
    return restore_vm(world.context(VmRef("HV01", point.vm_id, point.vm_name)), wanted)


def test_the_folder_for_libvirt_starts_the_vm(world: World, point: Point, text: str, tmp_path: Path) -> None:
    folder = tmp_path / "it's here, $HOME"
    result = restored(world, point, folder)
    assert result.error is None  # type: ignore[attr-defined]
    assert sorted(os.listdir(folder)) == [DOMAIN_NAME, "ide-0-0.qcow2", SCRIPT_NAME]
    assert any("virsh define" in note for note in result.section.notes)  # type: ignore[attr-defined]
    defined = ["virsh", "-c", "test:///default", "define", folder / DOMAIN_NAME]
    subprocess.run(defined, check=True, capture_output=True, timeout=60)
    boots([folder / SCRIPT_NAME], text, tmp_path)
    again = restored(world, point, folder)
    assert isinstance(again.error, TargetExists)  # type: ignore[attr-defined]
    assert restored(world, point, folder, overwrite=True).error is None  # type: ignore[attr-defined]


def test_a_domain_needs_all_disks(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(MIB, MIB))
    world.good_backup(vm_id)
    result = restored(world, world.repository.catalog.points(vm_id)[0], tmp_path / "out", disk=1)
    assert isinstance(result.error, ConfigurationError)  # type: ignore[attr-defined]
    assert not (tmp_path / "out").exists()


def test_the_vm_starts_from_an_export(world: World, point: Point, text: str, tmp_path: Path) -> None:
    socket = tmp_path / "nbd.sock"
    with world.repository.readers() as readers:
        disk = world.repository.reader(readers, point.disks[0])
        with Server(unix_socket(socket), {"boot": Export(name="boot", description="", disk=disk)}):
            drive = f"file=nbd+unix:///boot?socket={socket},format=raw,if=ide"
            boots(["qemu-system-x86_64", "-machine", "pc,accel=kvm:tcg", "-drive", drive], text, tmp_path)
