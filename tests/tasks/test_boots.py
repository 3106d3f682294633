"""Points boot in QEMU, or that is not shown."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import Interrupted, MachineError
from hvpsbridge.qemu import guest
from hvpsbridge.qemu.guest import Accelerator
from hvpsbridge.repository import Level
from hvpsbridge.repository.points import Point
from hvpsbridge.sim.model import ControllerType, Slot
from hvpsbridge.tasks import boots
from hvpsbridge.tasks.boots import BootOptions, check_boots
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.verify import verify_vm
from hvpsbridge.tasks.verify_options import VerifyOptions
from hvpsbridge.units import MIB
from tests.conftest import unavailable
from tests.qemu.efi import efi_disk, missing_for_efi
from tests.tasks.test_restore_libvirt import BOOT
from tests.tasks.world import SLOT, World

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
    wanted = {"wait_seconds": 600.0, "stay_seconds": 0.5, "screenshots": tmp_path / "shots", **changes}
    return BootOptions(**wanted)  # type: ignore[arg-type]


def sector(text: str) -> bytes:
    """A boot sector that writes a text to the serial line."""
    return BOOT.ljust(510, b"\0") + b"\x55\xaa" + text.encode().ljust(512, b"\0")


def accelerators() -> list[Accelerator | None]:
    """The usual one, TCG, and KVM where it is: in software, too, which is enough for a boot sector."""
    kvm = [Accelerator.KVM] if os.access("/dev/kvm", os.R_OK | os.W_OK) else []
    return [None, Accelerator.TCG, *kvm]


@pytest.mark.parametrize("accelerator", accelerators())
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


def test_a_vm_of_generation_2_without_a_system_ends_in_the_shell_of_its_firmware(
    world: World, tmp_path: Path
) -> None:
    vm_id = world.vm("new", disks=(4 * MIB,))
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    check = check_boots(world.repository, point, options(tmp_path))
    assert not check.shown
    assert "Shell" in check.what


@pytest.mark.parametrize(
    ("changes", "shown", "seen"),
    [
        ({}, True, "small login:"),
        ({"system": False}, False, "Kernel panic"),
        ({"menu": True}, False, "last seen: "),
    ],
    ids=["system", "panic", "menu"],
)
def test_a_linux_of_generation_2_is_read_from_its_screen(
    changes: dict[str, bool], shown: bool, seen: str, world: World, tmp_path: Path
) -> None:
    if lacking := missing_for_efi():
        unavailable(f"needs {lacking}")
    disk = efi_disk(tmp_path / "disk", **changes)
    vm_id = world.vm("new", disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=disk.stat().st_size, block_bytes=MIB)
    world.model.guests.write(vm_id, SLOT, 0, disk.read_bytes())
    world.good_backup(vm_id)
    wanted = options(tmp_path, wait_seconds=12.0 if "menu" in changes else 600.0)
    check = check_boots(world.repository, world.repository.catalog.points(vm_id)[0], wanted)
    assert check.shown is shown, check
    assert seen in check.what
    assert check.by == ("screen" if shown else "")


def test_a_playbook_says_what_is_not_shown_and_the_point_stays_good(world: World, tmp_path: Path) -> None:
    point = stored(world, b"")
    wanted = VerifyOptions(level=Level.BOOTS, boot_stay=0.5, boot_wait=120.0, screenshots=tmp_path / "shots")
    result = verify_vm(world.context(VmRef("HV01", point.vm_id, point.vm_name)), wanted)
    assert result.error is None
    (warning,) = result.warnings
    assert warning.startswith(f"point {point.short_id} not shown to boot")
    assert [check.faults for check in result.points] == [()]
    assert len(list((tmp_path / "shots").iterdir())) == 1


def test_a_stop_ends_the_guest(world: World, tmp_path: Path) -> None:
    def stop(seconds: float) -> None:
        raise Interrupted("SIGTERM")

    with pytest.raises(Interrupted):
        check_boots(world.repository, stored(world, b""), options(tmp_path), stop)


def test_where_kvm_fails_the_point_boots_without(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = f"the mark {uuid4()}"
    point = stored(world, sector(mark))
    monkeypatch.setattr(boots, "best_accelerator", lambda: Accelerator.KVM)
    # A processor that QEMU does not know: it ends at once, as it does without a right to KVM.
    monkeypatch.setitem(guest._PROCESSORS, Accelerator.KVM, "unknown")
    check = check_boots(world.repository, point, options(tmp_path, mark=mark))
    assert (check.shown, check.accelerator) == (True, "tcg")
    with pytest.raises(MachineError, match="QEMU failed"):
        check_boots(world.repository, point, options(tmp_path, mark=mark, accelerator=Accelerator.KVM))
