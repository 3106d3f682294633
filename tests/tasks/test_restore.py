"""Restoring: sparse, whole or not at all, never over something else."""

from __future__ import annotations

import errno
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from hvpsbridge.errors import ConfigurationError, Damaged, Interrupted, NoSpace, PointNotFound, TargetExists
from hvpsbridge.repository import create_repository
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.file_names import MappedName
from hvpsbridge.tasks.restore.images import ImageFiles
from hvpsbridge.tasks.restore.sinks import RawFile
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.task import TASK, RestoreOptions, restore_vm
from hvpsbridge.units import KIB, MIB, TIB
from tests.tasks.world import SLOT, World


def test_a_restored_disk_is_the_frozen_one_and_sparse(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(64 * MIB,))
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    target = tmp_path / "deep" / "disk.raw"
    told = []
    restored = ImageFiles(target, world.repository, is_file=True).write(
        DiskSource(
            world.repository,
            point,
            point.disks[0],
            cancel=Cancellation(),
            on_progress=told.append,
        )
    )
    assert point.manifest.checkpoint_id is not None
    assert (
        target.read_bytes()
        == world.model.golden.at_checkpoint(point.manifest.checkpoint_id, SLOT).read_bytes()
    )
    assert restored.size_bytes == 64 * MIB
    assert target.stat().st_blocks * 512 <= restored.data_bytes + 64 * KIB < 64 * MIB
    assert told[-1].done_bytes == told[-1].owed_bytes == restored.data_bytes
    assert list(target.parent.iterdir()) == [target]


def test_the_task_restores_all_disks_or_one(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(2 * MIB, 1 * MIB))
    world.good_backup(vm_id)
    ref = VmRef("HV01", vm_id, "web")

    def restored(**options: object) -> object:
        wanted = RestoreOptions(to=f"raw:{tmp_path}/{{{{ vm }}}}", **options)  # type: ignore[arg-type]
        return restore_vm(world.context(ref), wanted)

    result = restored()
    assert [Path(disk.path).name for disk in result.disks] == ["scsi-0-0.raw", "scsi-0-1.raw"]  # type: ignore[attr-defined]
    assert isinstance(restored(disk=1).error, TargetExists)  # type: ignore[attr-defined]
    assert restored(disk=1, overwrite=True).error is None  # type: ignore[attr-defined]
    assert isinstance(restored(disk=2).error, ConfigurationError)  # type: ignore[attr-defined]
    assert isinstance(restored(point="latest~7").error, PointNotFound)  # type: ignore[attr-defined]


def test_damage_or_a_signal_leaves_no_file(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    stopped = Cancellation()
    stopped.request("SIGINT")
    raw = ImageFiles(tmp_path / "disk.raw", world.repository, is_file=True)
    with pytest.raises(Interrupted):
        raw.write(DiskSource(world.repository, point, point.disks[0], cancel=stopped))
    packs = sorted((world.store).rglob("*"), key=lambda path: path.stat().st_size)
    with packs[-1].open("r+b") as pack:
        pack.seek(4096)
        pack.write(os.urandom(4096))
    with pytest.raises(Damaged):
        raw.write(DiskSource(world.repository, point, point.disks[0], cancel=Cancellation()))
    assert not [path for path in tmp_path.iterdir() if "disk.raw" in path.name]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    with RawFile(target, 4096, 4096) as sink:
        sink.write(0, b"x" * 4096)
        target.write_text("somebody else's")
        with pytest.raises(TargetExists):
            sink.finish()
    assert target.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [target]


def test_a_disk_goes_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # what exFAT and FAT say

    monkeypatch.setattr(os, "link", refuse)
    with RawFile(tmp_path / "disk.raw", KIB, KIB) as sink:
        sink.write(0, b"x" * KIB)
        sink.finish()
    assert (tmp_path / "disk.raw").read_bytes() == b"x" * KIB
    with RawFile(tmp_path / "two.raw", KIB, KIB) as sink:
        (tmp_path / "two.raw").write_bytes(b"mine")
        with pytest.raises(TargetExists):
            sink.finish()
    assert (tmp_path / "two.raw").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.raw", "two.raw"]


def test_a_restore_never_writes_into_its_own_repository(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(MIB,))
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    (tmp_path / "link").symlink_to(world.repository.url)
    for target in (Path(world.repository.url) / "config", tmp_path / "link" / "disk.raw"):
        raw = ImageFiles(target, world.repository, overwrite=True, is_file=True)
        with pytest.raises(ConfigurationError, match="is inside the repository"):
            raw.write(DiskSource(world.repository, point, point.disks[0], cancel=Cancellation()))
    assert world.repository.verify("hashed").good


def test_a_restore_never_writes_into_another_repository(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(MIB,))
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    other = tmp_path / "other"
    create_repository(str(other)).close()
    before = sorted(other.rglob("*")), (other / "config").read_bytes()
    (tmp_path / "link").symlink_to(other / "data")
    for target in (other / "config", other / "new" / "disk.raw", tmp_path / "link" / "disk.raw"):
        raw = ImageFiles(target, world.repository, overwrite=True, is_file=True)
        with pytest.raises(ConfigurationError, match=f"is inside the repository {other}"):
            raw.write(DiskSource(world.repository, point, point.disks[0], cancel=Cancellation()))
    assert (sorted(other.rglob("*")), (other / "config").read_bytes()) == before
    (tmp_path / "config").write_text("of something else")
    raw = ImageFiles(tmp_path / "disk.raw", world.repository, is_file=True)
    raw.write(DiskSource(world.repository, point, point.disks[0], cancel=Cancellation()))


def test_what_cannot_fit_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoSpace):
        RawFile(tmp_path / "disk.raw", 4096 * TIB, 4096 * TIB)
    assert not list(tmp_path.iterdir())


def test_a_link_to_nowhere_counts_as_something(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").symlink_to("nowhere")
    with pytest.raises(TargetExists):
        RawFile(tmp_path / "disk.raw", 4096, 0)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "socket", "device"])
def test_only_regular_files_are_replaced(tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "disk.raw", tmp_path / "other"
    other.write_bytes(b"other")
    if kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "link":
        target.symlink_to(other)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(target))
    else:
        try:
            os.mknod(target, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    before = target.lstat()
    with pytest.raises(ConfigurationError, match="use the path of a file"):
        RawFile(target, KIB, KIB, overwrite=True)
    assert os.path.samestat(target.lstat(), before)
    assert other.read_bytes() == b"other"
    assert not list(tmp_path.glob(".*"))


def test_what_appears_meanwhile_is_not_replaced_unless_it_is_a_file(tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    with RawFile(target, KIB, KIB, overwrite=True) as sink:
        os.mkfifo(target)
        with pytest.raises(ConfigurationError, match="named pipe"):
            sink.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["disk.raw"]


def killed_restore(target: Path, size: int) -> Path:
    sink = RawFile(target, size, size)
    sink.write(0, b"x" * size)
    os.close(sink._file)
    return next(target.parent.glob(".*.part"))


def test_what_a_killed_restore_left_is_found_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    part = killed_restore(target, MIB)
    with RawFile(target, 64 * KIB, 0) as sink:
        assert sink.found_bytes >= MIB
        assert (part.stat().st_size, part.stat().st_blocks) == (64 * KIB, 0)
        sink.finish()
    assert target.read_bytes() == bytes(64 * KIB)
    assert list(tmp_path.iterdir()) == [target]


def test_a_restore_killed_between_the_two_names_leaves_its_disk_alone(tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    os.link(killed_restore(target, KIB), target)
    with RawFile(target, KIB, 0, overwrite=True):
        assert target.read_bytes() == b"x" * KIB
    assert target.read_bytes() == b"x" * KIB
    assert list(tmp_path.iterdir()) == [target]


def test_two_restores_do_not_write_one_file(tmp_path: Path) -> None:
    target = tmp_path / "disk.raw"
    with RawFile(target, KIB, KIB) as sink:
        with pytest.raises(ConfigurationError, match="another restore is writing it"):
            RawFile(target, KIB, KIB)
        sink.write(0, b"x" * KIB)
        sink.finish()
    assert target.read_bytes() == b"x" * KIB


def test_a_link_in_place_of_the_hidden_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    part = killed_restore(tmp_path / "disk.raw", KIB)
    part.unlink()
    part.symlink_to(other)
    with pytest.raises(ConfigurationError):
        RawFile(tmp_path / "disk.raw", KIB, KIB)
    assert other.read_bytes() == b"other"


@pytest.mark.parametrize(
    "path", ["x" * 300, "/".join(["x" * 200] * 30), "file/below", "loop/below", "half\ud800", "nul\0"]
)
def test_a_path_that_cannot_be_is_one_clear_error(tmp_path: Path, world: World, path: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigurationError):
        RawFile(tmp_path / path, KIB, KIB)
    if "\0" not in path and "\ud800" not in path:
        assert not world.repository.holds(tmp_path / path)


@pytest.mark.parametrize("size", [-1, 2**63, 10**3000])
def test_a_size_that_no_disk_has_is_one_clear_error(tmp_path: Path, size: int) -> None:
    with pytest.raises((ConfigurationError, NoSpace)):
        RawFile(tmp_path / "disk.raw", size, 0)
    assert not list(tmp_path.iterdir())


def forged(point: Point, *slots: str) -> Point:
    disk = point.disks[0]
    return Point(replace(point.manifest, disks=tuple(replace(disk, slot=slot) for slot in slots)))


@pytest.mark.parametrize(
    "slot",
    ["../../pwned", "/tmp/pwned", "..", "", "scsi-0-1", "a/../../b", "x" * 5000, "nul\0", "half\ud800"],
)
def test_a_forged_slot_does_not_leave_the_target(world: World, tmp_path: Path, slot: str) -> None:
    vm_id = world.vm(disks=(MIB,))
    world.good_backup(vm_id)
    folder = tmp_path / "a" / "target"
    raw = ImageFiles(folder, world.repository)
    point = forged(world.repository.catalog.points(vm_id)[0], slot, "scsi 0:1")
    raw.check(point, world.sources(point))
    for disk in point.disks:
        raw.write(DiskSource(world.repository, point, disk, cancel=Cancellation()))
    assert len(list(folder.iterdir())) == 2
    assert not [path for path in (tmp_path / "a").iterdir() if path != folder]


def test_disks_that_would_be_one_file_are_refused_before_anything_is_written(
    world: World, tmp_path: Path
) -> None:
    vm_id = world.vm(disks=(MIB,))
    world.good_backup(vm_id)
    point = forged(world.repository.catalog.points(vm_id)[0], "scsi 0:1", "scsi 0:1")
    with pytest.raises(ConfigurationError, match="disks 'scsi 0:1' and 'scsi 0:1' would be one file"):
        ImageFiles(tmp_path, world.repository).check(point, world.sources(point))


def test_a_report_says_how_names_were_changed(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(MIB,))
    world.good_backup(vm_id)
    (tmp_path / "team_web").mkdir()
    killed_restore(tmp_path / "team_web" / "scsi-0-0.raw", MIB)
    ref = VmRef("HV01", vm_id, "team/web")
    result = restore_vm(world.context(ref), RestoreOptions(to=f"raw:{tmp_path}/{{{{ vm }}}}"))
    assert result.error is None
    assert result.section.mapped == (MappedName("team/web", "team_web"),)
    assert result.disks[0].path == str(tmp_path / "team_web" / "scsi-0-0.raw")
    assert "'team/web' is 'team_web'" in "\n".join(TASK.lines(result.section, False))
    assert "a killed restore had left 1 MiB" in "\n".join(TASK.lines(result.section, False))


def test_what_a_killed_restore_left_under_another_name_is_named(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(MIB,))
    world.good_backup(vm_id)
    left = killed_restore(tmp_path / "other.raw", KIB)
    with RawFile(tmp_path / "busy.raw", KIB, KIB):
        result = restore_vm(world.context(VmRef("HV01", vm_id, "web")), RestoreOptions(to=f"raw:{tmp_path}"))
    assert result.error is None
    assert result.section.unfinished == (str(left),)
    assert f"{left} looks like what a killed restore left; remove it if it is" in TASK.lines(
        result.section, False
    )
    assert left.exists()
