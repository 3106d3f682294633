"""Restoring into block devices: in place, and never into one that is used.

What is decided from facts is tested with invented ones; what the kernel decides, on loop devices, where root
may make them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hvpsbridge.errors import ConfigurationError, Damaged, Interrupted, TargetExists
from hvpsbridge.formats.extents import Extent
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.restore.devices import (
    BlockDevice,
    Device,
    Uses,
    is_among_devices,
    is_device,
    refusal,
    uses_of,
)
from hvpsbridge.tasks.restore.images import ImageFiles, holes
from hvpsbridge.tasks.restore.results import RestoredDisk, RestoreSection
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.task import TASK
from hvpsbridge.units import MIB
from tests.tasks.world import SLOT, World

SDA, SDA1, SDA2, SDB = (os.makedev(8, minor) for minor in (0, 1, 2, 16))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with the disks sda, which has two partitions, and sdb; nothing is used."""
    for name, number in (("sda", "8:0"), ("sda/sda1", "8:1"), ("sda/sda2", "8:2"), ("sdb", "8:16")):
        folder = tmp_path / "sys" / "devices" / "pci" / name
        (folder / "holders").mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
        if "/" in name:
            (folder / "partition").write_text("1\n")
        link = tmp_path / "sys" / "dev" / "block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(
        "22 27 0:21 / /proc rw,relatime - proc proc rw\n31 1 259:1 / / rw shared:1 - ext4 /dev/nvme0n1p1 rw\n"
    )
    (tmp_path / "proc" / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    return tmp_path


def uses(machine: Path, number: int) -> Uses:
    return uses_of(number, sys=machine / "sys", proc=machine / "proc")


def test_a_device_that_nothing_uses_may_be_written(machine: Path) -> None:
    for number in (SDA, SDA1, SDA2, SDB):
        assert uses(machine, number) == Uses()
    assert refusal(Uses(), MIB, MIB) is None


def test_a_mount_of_a_device_or_its_parts_is_seen(machine: Path) -> None:
    with (machine / "proc" / "self" / "mountinfo").open("a") as mounts:
        mounts.write("40 31 8:2 / /srv/my\\040data rw - xfs /dev/sda2 rw\n")
    for number in (SDA, SDA2):
        assert uses(machine, number).mounts == ("/srv/my data",)
    for number in (SDA1, SDB):
        assert uses(machine, number) == Uses()


def test_a_mounted_disk_is_seen_from_its_partitions(machine: Path) -> None:
    with (machine / "proc" / "self" / "mountinfo").open("a") as mounts:
        mounts.write("40 31 8:0 / /srv/whole rw - xfs /dev/sda rw\n")
    assert uses(machine, SDA1).mounts == ("/srv/whole",)


def test_holders_of_a_device_or_its_parts_are_seen(machine: Path) -> None:
    pci = machine / "sys" / "devices" / "pci"
    (pci / "sda" / "sda1" / "holders" / "md0").touch()
    assert uses(machine, SDA).holders == ("md0",)
    assert uses(machine, SDA1).holders == ("md0",)
    assert uses(machine, SDA2) == Uses()
    (pci / "sda" / "holders" / "dm-3").touch()
    assert uses(machine, SDA2).holders == ("dm-3",)


def test_what_the_kernel_does_not_say_is_no_consent(machine: Path) -> None:
    with pytest.raises(FileNotFoundError):
        uses(machine, os.makedev(9, 9))
    (machine / "proc" / "self" / "mountinfo").unlink()
    with pytest.raises(FileNotFoundError):
        uses(machine, SDB)


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (Uses(mounts=("/srv",)), "is mounted on /srv"),
        (Uses(swaps=("/dev/sda2",)), "is used for swap"),
        (Uses(holders=("dm-0", "md1")), "is used by dm-0, md1"),
        (Uses(), "less than the 2 MiB of the disk"),
    ],
)
def test_a_device_that_must_not_be_written_is_refused(facts: Uses, text: str) -> None:
    assert text in (refusal(facts, MIB, 2 * MIB) or "")


def test_theholes_of_a_disk_are_what_its_extents_leave() -> None:
    extents = [Extent(MIB, MIB), Extent(3 * MIB, MIB)]
    assert list(holes(extents, 5 * MIB)) == [(0, MIB), (2 * MIB, MIB), (4 * MIB, MIB)]
    assert list(holes([Extent(0, 5 * MIB)], 5 * MIB)) == []
    assert sum(length for _, length in holes([], 200 * MIB + 1)) == 200 * MIB + 1
    assert len(list(holes([], 200 * MIB))) == 4


def test_a_report_says_what_a_device_means_for_the_disk() -> None:
    disk = RestoredDisk(
        slot="scsi 0:0",
        path="/dev/sdb",
        size_bytes=MIB,
        data_bytes=0,
        seconds=1.0,
        sector_bytes=4096,
        device=Device(3 * MIB, 512),
    )
    text = "\n".join(TASK.lines(RestoreSection(None, (disk,)), False))
    assert "sectors of 4096 bytes, but /dev/sdb of 512" in text
    assert "the last 2 MiB are as they were" in text


@pytest.mark.parametrize("path", ["/dev/hvps-no-such-disk", "/dev/hvps-no-such-group/disk", "/dev/null"])
def test_a_mistyped_device_does_not_become_a_file_in_memory(world: World, path: str) -> None:
    raw = ImageFiles(Path(path), world.repository, overwrite=True, is_file=True)
    point = point_of(world)
    with pytest.raises(ConfigurationError, match="would lie among the devices"):
        raw.write(DiskSource(world.repository, point, point.disks[0]))
    assert not list(Path("/dev").glob("hvps-no-such-*"))
    assert not is_among_devices(Path("/dev/shm/disk.raw"))
    assert not is_among_devices(Path("/srv/dev/disk.raw"))


# -- loop devices ------------------------------------------------------------------------------------


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A loop device of 4 MiB, full of noise."""
    if os.geteuid() or not shutil.which("losetup"):
        pytest.skip("only root makes loop devices, with losetup")
    backing = tmp_path / "backing"
    backing.write_bytes(os.urandom(4 * MIB))
    made = subprocess.run(
        ("losetup", "--find", "--show", str(backing)), capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(("losetup", "--detach", str(device)), check=True)


def point_of(world: World, size_bytes: int = 2 * MIB) -> Point:
    vm_id = world.vm(disks=(size_bytes,))
    world.good_backup(vm_id)
    return world.repository.catalog.points(vm_id)[0]


def written(world: World, point: Point, path: Path, **options: object) -> RestoredDisk:
    raw = ImageFiles(path, world.repository, is_file=True, **options)  # type: ignore[arg-type]
    return raw.write(DiskSource(world.repository, point, point.disks[0], cancel=Cancellation()))


def test_a_disk_is_written_into_a_device_zeros_too(world: World, loop: Path, tmp_path: Path) -> None:
    point = point_of(world)
    before = loop.read_bytes()
    link = tmp_path / "link"
    link.symlink_to(loop)
    assert is_device(link)
    restored = written(world, point, link, overwrite=True)
    assert point.manifest.checkpoint_id is not None
    golden = world.model.golden.at_checkpoint(point.manifest.checkpoint_id, SLOT).read_bytes()
    assert golden.count(0) > MIB
    assert loop.read_bytes() == golden + before[2 * MIB :]
    assert restored.device == Device(4 * MIB, 512)
    assert link.is_symlink()
    assert is_device(loop)


def test_a_device_is_written_with_overwrite_only_and_as_one_disk(world: World, loop: Path) -> None:
    point, before = point_of(world), loop.read_bytes()
    with pytest.raises(TargetExists):
        written(world, point, loop)
    folder = ImageFiles(loop, world.repository, overwrite=True)
    with pytest.raises(ConfigurationError, match="restore one disk into it with --disk"):
        folder.write(DiskSource(world.repository, point, point.disks[0]))
    assert loop.read_bytes() == before


def test_a_device_that_is_too_small_keeps_its_content(world: World, loop: Path) -> None:
    point, before = point_of(world, 8 * MIB), loop.read_bytes()
    with pytest.raises(ConfigurationError, match="less than the 8 MiB of the disk"):
        written(world, point, loop, overwrite=True)
    assert loop.read_bytes() == before


def test_a_mounted_device_keeps_its_content(world: World, loop: Path, tmp_path: Path) -> None:
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4")
    subprocess.run(("mkfs.ext4", "-q", str(loop)), check=True)
    where = tmp_path / "mounted"
    where.mkdir()
    if subprocess.run(("mount", str(loop), str(where)), check=False).returncode:
        pytest.skip("may not mount")
    try:
        with pytest.raises(ConfigurationError, match=f"is in use \\({where}\\)"):
            written(world, point_of(world), loop, overwrite=True)
    finally:
        subprocess.run(("umount", str(where)), check=True)


def test_a_device_that_another_holds_keeps_its_content(world: World, loop: Path) -> None:
    point, before = point_of(world), loop.read_bytes()
    held = os.open(loop, os.O_RDONLY | os.O_EXCL)
    try:
        with pytest.raises(ConfigurationError, match="is in use"):
            written(world, point, loop, overwrite=True)
    finally:
        os.close(held)
    assert loop.read_bytes() == before


def test_a_restore_that_ends_midway_says_what_the_device_holds(
    world: World, loop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, told, stopped = point_of(world), list[str](), Cancellation()
    zero = BlockDevice.zero

    def stopping(self: BlockDevice, offset: int, length: int) -> None:
        zero(self, offset, length)
        stopped.request("SIGTERM")

    raw = ImageFiles(loop, world.repository, overwrite=True, is_file=True)
    lost = replace(point.disks[0], tree=replace(point.disks[0].tree, root=bytes([7]) * 32))
    with pytest.raises(Damaged):
        raw.write(DiskSource(world.repository, point, lost, cancel=stopped, on_spoiled=told.append))
    assert not told  # it was not touched
    monkeypatch.setattr(BlockDevice, "zero", stopping)
    with pytest.raises(Interrupted):
        raw.write(DiskSource(world.repository, point, point.disks[0], cancel=stopped, on_spoiled=told.append))
    assert told == [f"{loop} was written in part: it holds neither its old content nor the disk"]
