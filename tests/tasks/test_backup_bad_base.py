"""Bad chunks of a base are read again from the frozen disk, which repairs old points as well."""

from __future__ import annotations

from pathlib import Path

from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository import Level
from hvpsbridge.tasks.planning.modes import Mode
from tests.tasks.world import SIZE, SLOT, World


def test_a_listed_bad_chunk_that_did_not_change_is_read_again_and_heals_both_points(tmp_path: Path) -> None:
    world = World(tmp_path)
    vm_id = world.vm()
    world.good_backup(vm_id)
    (point,) = world.repository.catalog.points(vm_id)
    _, identity = next(world.repository.image(point, point.disks[0]).chunk_ids())
    world.damage(Kind.DATA_PACK, identity)
    report = world.repository.verify(Level.HASHED)
    (problem,) = report.problems
    assert [touched.vm_id for touched in problem.touches] == [vm_id]
    world.repository.publish_bad(report.bad)
    world.model.guests.write(vm_id, SLOT, SIZE - 4096, b"changed!" * 512)
    result = world.good_backup(vm_id)
    (disk,) = result.disks
    assert disk.mode is Mode.INCREMENTAL
    assert disk.reread_chunks == 1
    assert world.assert_points_equal(vm_id) == 2
    world.close()


def test_a_listed_bad_node_makes_the_disk_read_whole(tmp_path: Path) -> None:
    world = World(tmp_path)
    vm_id = world.vm()
    world.good_backup(vm_id)
    (point,) = world.repository.catalog.points(vm_id)
    world.damage(Kind.NODE_PACK, point.disks[0].tree.root)
    world.repository.publish_bad(world.repository.verify(Level.HASHED).bad)
    world.model.guests.write(vm_id, SLOT, SIZE - 4096, b"changed!" * 512)
    (disk,) = world.good_backup(vm_id).disks
    assert disk.mode is Mode.FULL
    newest = world.repository.catalog.points(vm_id)[-1]
    assert world.repository.verify(Level.HASHED, [newest]).good
    world.close()
