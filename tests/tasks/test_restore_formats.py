"""Restores as image files of every format: the tools of others find the disk as it was frozen."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import pyvhdi

from hvpsbridge.errors import ConfigurationError, Damaged, DiskDamaged, ExitCode
from hvpsbridge.repository.points import Point
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.images import FORMATS, ImageFiles
from hvpsbridge.tasks.restore.source import DiskSource
from hvpsbridge.tasks.restore.stream import StreamTarget
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.units import MIB
from tests.qemu_images import assert_same_disk
from tests.tasks.world import SLOT, World


def backed_up(world: World, *sizes: int) -> tuple[Point, Path]:
    vm_id = world.vm(disks=sizes)
    world.good_backup(vm_id)
    point = world.repository.catalog.points(vm_id)[0]
    assert point.manifest.checkpoint_id is not None
    return point, world.model.golden.at_checkpoint(point.manifest.checkpoint_id, SLOT)


def of_generation(point: Point, number: int) -> Point:
    definition = point.manifest.definition.replace('"Generation":2', f'"Generation":{number}')
    assert definition != point.manifest.definition
    return Point(replace(point.manifest, definition=definition))


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_qemu_img_finds_the_frozen_disk(world: World, tmp_path: Path, kind: str) -> None:
    point, frozen = backed_up(world, 70 * MIB)
    older = of_generation(point, 1)
    target = ImageFiles(tmp_path / "out", world.repository, kind)
    target.check(older, world.sources(older))
    restored = target.write(DiskSource(world.repository, older, older.disks[0]))
    made = Path(restored.path)
    assert made.name == f"scsi-0-0.{FORMATS[kind].suffix}"
    assert restored.format == kind
    assert_same_disk(made, kind, frozen)
    assert list((tmp_path / "out").iterdir()) == [made]
    assert made.stat().st_blocks * 512 <= restored.data_bytes + 8 * MIB


def test_a_vhdx_has_the_shape_of_the_source_and_an_id_of_its_own(world: World, tmp_path: Path) -> None:
    point, _ = backed_up(world, 40 * MIB)
    ids = []
    for name, keep in (("new", False), ("kept", True)):
        target = ImageFiles(tmp_path / name, world.repository, "vhdx")
        source = DiskSource(world.repository, point, point.disks[0], keep_ids=keep)
        shape = source.shape()
        assert (shape.sector_bytes, shape.physical_sector_bytes) == (512, 4096)
        assert shape.block_bytes == MIB  # that of the base, not of the differencing disk over it
        made = pyvhdi.file()
        made.open(target.write(source).path)
        assert made.get_media_size() == 40 * MIB
        made.close()
        ids.append(shape.disk_id)
    assert ids[1] == point.disks[0].disk_id
    assert ids[0] not in (ids[1], UUID(int=0))


def test_a_vhd_is_refused_for_generation_2_before_anything_is_written(world: World, tmp_path: Path) -> None:
    point, _ = backed_up(world, 2 * MIB)
    options = RestoreOptions(to=f"vhd:{tmp_path}/out")
    result = restore_vm(world.context(VmRef("HV01", point.vm_id, "web")), options)
    assert isinstance(result.error, ConfigurationError)
    assert "generation 2 cannot start from a VHD; use vhdx" in str(result.error)
    assert not (tmp_path / "out").exists()


def damage(world: World) -> None:
    packs = sorted((world.store / "data").rglob("*"), key=lambda path: path.stat().st_size)
    with packs[-1].open("r+b") as pack:
        pack.seek(4096)
        pack.write(os.urandom(4096))


def test_damage_is_named_with_its_range_and_the_rest_is_restored_on_request(
    world: World, tmp_path: Path
) -> None:
    point, frozen = backed_up(world, 40 * MIB)
    damage(world)
    vm = VmRef("HV01", point.vm_id, "web")
    failed = restore_vm(world.context(vm), RestoreOptions(to=f"vhdx:{tmp_path}/out"))
    assert isinstance(failed.error, DiskDamaged)
    assert "of disk scsi 0:0 cannot be restored" in str(failed.error)
    assert failed.error.code is ExitCode.DAMAGE
    assert not list((tmp_path / "out").iterdir())

    rest = restore_vm(world.context(vm), RestoreOptions(to=f"vhdx:{tmp_path}/out", skip_damaged=True))
    assert rest.error is None
    assert rest.exit_code is ExitCode.DAMAGE
    assert isinstance(rest.conditions[0], Damaged)
    lost = rest.disks[0].damaged
    assert lost
    assert (failed.error.first, failed.error.last) in {
        (one.offset, one.offset + one.length - 1) for one in lost
    }
    made = pyvhdi.file()
    made.open(rest.disks[0].path)
    expected = bytearray(frozen.read_bytes())
    for one in lost:
        expected[one.offset : one.offset + one.length] = bytes(one.length)
    assert made.read_buffer_at_offset(40 * MIB, 0) == bytes(expected)


def test_a_lost_node_of_the_tree_is_a_range_of_the_disk(world: World, tmp_path: Path) -> None:
    point, _ = backed_up(world, 2 * MIB)
    disk = point.disks[0]
    broken = replace(disk, tree=replace(disk.tree, root=bytes([7]) * 32))
    source = DiskSource(world.repository, point, broken, skip_damaged=True)
    ImageFiles(tmp_path, world.repository).write(source)
    assert [(one.offset, one.length) for one in source.damaged.values()] == [(0, 2 * MIB)]


def test_one_disk_goes_to_a_stream_byte_for_byte(world: World) -> None:
    point, frozen = backed_up(world, 5 * MIB, 1 * MIB)
    stream = io.BytesIO()
    target = StreamTarget(stream)
    with pytest.raises(ConfigurationError, match="has 2 disks; choose one with --disk"):
        target.check(point, world.sources(point))
    target.check(point, world.sources(point)[:1])
    target.write(DiskSource(world.repository, point, point.disks[0]))
    assert stream.getvalue() == frozen.read_bytes()
