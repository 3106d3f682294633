"""Restoring: sparse, whole or not at all, never over something else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hvpsbridge.errors import ConfigurationError, Damaged, Interrupted, NoSpace, PointNotFound, TargetExists
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore import RestoreOptions, restore_disk, restore_vm
from hvpsbridge.tasks.sinks import RawFile
from hvpsbridge.tasks.targets import RawImages
from hvpsbridge.units import KIB, MIB, TIB
from tests.tasks.world import SLOT, World


def test_a_restored_disk_is_the_frozen_one_and_sparse(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(64 * MIB,))
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    target = tmp_path / "deep" / "disk.raw"
    told = []
    restored = restore_disk(
        world.repository,
        point,
        point.disks[0],
        RawImages(target, world.repository, is_file=True),
        cancel=Cancellation(),
        on_progress=told.append,
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
    raw = RawImages(tmp_path / "disk.raw", world.repository, is_file=True)
    with pytest.raises(Interrupted):
        restore_disk(world.repository, point, point.disks[0], raw, cancel=stopped)
    packs = sorted((world.store).rglob("*"), key=lambda path: path.stat().st_size)
    with packs[-1].open("r+b") as pack:
        pack.seek(4096)
        pack.write(os.urandom(4096))
    with pytest.raises(Damaged):
        restore_disk(world.repository, point, point.disks[0], raw, cancel=Cancellation())
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
        raw = RawImages(target, world.repository, overwrite=True, is_file=True)
        with pytest.raises(ConfigurationError, match="is inside the repository"):
            restore_disk(world.repository, point, point.disks[0], raw, cancel=Cancellation())
    assert world.repository.verify("hashed").good


def test_what_cannot_fit_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoSpace):
        RawFile(tmp_path / "disk.raw", 4096 * TIB, 4096 * TIB)
    assert not list(tmp_path.iterdir())


def test_a_link_to_nowhere_counts_as_something(tmp_path: Path) -> None:
    (tmp_path / "disk.raw").symlink_to("nowhere")
    with pytest.raises(TargetExists):
        RawFile(tmp_path / "disk.raw", 4096, 0)
