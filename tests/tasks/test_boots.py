"""Points boot in QEMU, or that is not shown."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.qemu.guest import Accelerator
from hvpsbridge.repository.points import Point
from hvpsbridge.sim.model import ControllerType, Slot
from hvpsbridge.tasks.boots import BootOptions, check_boots
from hvpsbridge.units import MIB
from tests.tasks.test_restore_libvirt import BOOT
from tests.tasks.world import World

IDE = Slot(ControllerType.IDE, 0, 0)


def stored(world: World, start: bytes, size_bytes: int = 16 * MIB) -> Point:
    """A point of a VM of generation 1 with one disk that begins with these bytes."""
    vm_id = world.vm("web", disks=(), generation=1)
    world.model.setup.add_disk(vm_id, IDE, size_bytes=size_bytes, block_bytes=MIB)
    if start:
        world.model.guests.write(vm_id, IDE, 0, start)
    world.good_backup(vm_id)
    return world.repository.catalog.points(vm_id)[0]


def options(tmp_path: Path, **changes: object) -> BootOptions:
    wanted = {"wait_seconds": 120.0, "stay_seconds": 0.5, "screenshots": tmp_path / "shots", **changes}
    return BootOptions(**wanted)  # type: ignore[arg-type]


def sector(text: str) -> bytes:
    """A boot sector that writes a text to the serial line."""
    return BOOT.ljust(510, b"\0") + b"\x55\xaa" + text.encode().ljust(512, b"\0")


@pytest.mark.parametrize("accelerator", [None, Accelerator.TCG])
def test_a_mark_on_the_serial_line_shows_that_a_point_boots(
    accelerator: Accelerator | None, world: World, tmp_path: Path
) -> None:
    mark = f"the mark {uuid4()}"
    point = stored(world, sector(mark))
    check = check_boots(world.repository, point, options(tmp_path, mark=mark, accelerator=accelerator))
    assert (check.shown, check.by) == (True, "serial")


def test_an_empty_disk_is_not_shown_to_boot(world: World, tmp_path: Path) -> None:
    check = check_boots(world.repository, stored(world, b""), options(tmp_path))
    assert (check.shown, check.by) == (False, "")
    assert "No bootable device" in check.what
