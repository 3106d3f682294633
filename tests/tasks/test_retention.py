"""What retention reads from a repository: bases, damage, fences, tags, and the history of prunes."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import PruneOutOfLine
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.retention import RetentionPoint, Rules, State
from hvpsbridge.repository import Point
from hvpsbridge.repository.check.verify import Level
from hvpsbridge.repository.layout import ids_name
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.planning.restored import record_restored
from hvpsbridge.tasks.retention.points import retention_points
from hvpsbridge.tasks.retention.prune import plan_prune, prune
from tests.tasks.world import SLOT, World

LAST = Rules(keep_last=1)


def known(world: World) -> list[RetentionPoint]:
    return [point for _, point in retention_points(world.repository)]


def backups(world: World, vm_id: UUID, count: int) -> tuple[Point, ...]:
    for _ in range(count):
        world.churn(vm_id, SLOT)
        world.good_backup(vm_id)
    return world.repository.catalog.points(vm_id)


def test_the_base_is_the_newest_point_with_ids_and_stays(world: World) -> None:
    vm_id = world.vm()
    points = backups(world, vm_id, 3)
    assert [point.base for point in known(world)] == [False, False, True]
    # As if the checkpoint of the newest point had never been converted.
    world.repository.store.delete(ids_name(points[2].point_id))
    world.reopen()
    assert [point.base for point in known(world)] == [False, True, False]
    plan = plan_prune(world.repository, LAST)
    (vm,) = plan.decisions
    assert [point.point_id for point in vm.removed] == [points[0].point_id]


def test_after_a_prune_the_next_backup_is_an_increment(world: World) -> None:
    vm_id = world.vm()
    backups(world, vm_id, 3)
    prune(world.repository, plan_prune(world.repository, LAST))
    *_, newest = backups(world, vm_id, 1)
    assert [disk.mode for disk in newest.disks] == [Mode.INCREMENTAL.value]


def test_the_point_that_a_vm_was_restored_from_stays_until_its_next_backup(world: World) -> None:
    vm_id, copy = world.vm(), world.vm("copy")
    first, _ = backups(world, vm_id, 2)
    backups(world, copy, 1)
    assert first.point_id not in {point.point_id for point in known(world) if point.base}
    record_restored(
        world.repository,
        run_id=uuid4(),
        vm_id=copy,
        host="HV01",
        point_id=first.point_id,
        source_vm_id=vm_id,
        slots=[disk.slot for disk in first.disks],
    )
    assert first.point_id in {point.point_id for point in known(world) if point.base}
    backups(world, copy, 1)
    assert first.point_id not in {point.point_id for point in known(world) if point.base}


def test_known_damage_takes_no_place_of_a_good_point(world: World) -> None:
    vm_id = world.vm()
    points = backups(world, vm_id, 3)
    image = world.repository.image(points[2], points[2].disks[0])
    old = {identity for _, identity in world.repository.image(points[1], points[1].disks[0]).chunk_ids()}
    damaged = next(identity for _, identity in image.chunk_ids() if identity not in old)
    world.damage(Kind.DATA_PACK, damaged)
    world.reopen()
    report = world.repository.verify(Level.HASHED)
    world.repository.publish_bad(report.bad)
    states = [point.state for point in known(world)]
    assert states[2] is State.DAMAGED
    assert State.DAMAGED not in states[:2]
    (vm,) = plan_prune(world.repository, LAST).decisions
    assert [point.point_id for point in vm.kept] == [points[1].point_id, points[2].point_id]


def test_all_points_that_need_a_lost_chunk_are_damaged(world: World) -> None:
    vm_id = world.vm()
    points = backups(world, vm_id, 3)
    first, second, third = (
        {identity for _, identity in world.repository.image(point, point.disks[0]).chunk_ids()}
        for point in points
    )
    world.damage(Kind.DATA_PACK, min((second & third) - first))
    world.reopen()
    assert world.repository.damaged_points(points) == frozenset()
    world.repository.publish_bad(world.repository.verify(Level.HASHED).bad)
    assert world.repository.damaged_points(points) == {point.point_id for point in points[1:]}


def test_tags_protection_and_disks_are_known(world: World) -> None:
    vm_id = world.vm()
    first, _ = backups(world, vm_id, 2)
    world.repository.pruner.tag(first, add=["gold"])
    world.repository.pruner.protect(first)
    old, new = known(world)
    assert (old.tags, old.protected, new.tags, new.protected) == ({"gold"}, True, frozenset(), False)
    assert old.disks == new.disks == {first.disks[0].slot}


def test_the_guard_compares_with_what_was_pruned_before(world: World) -> None:
    vm_id = world.vm()
    backups(world, vm_id, 4)
    plan = plan_prune(world.repository, LAST)
    with pytest.raises(PruneOutOfLine):
        prune(world.repository, plan)
    assert len(world.repository.catalog.points(vm_id)) == 4
    prune(world.repository, plan, confirmed=3)
    backups(world, vm_id, 3)
    # As many as were pruned before.
    prune(world.repository, plan_prune(world.repository, LAST))
    assert len(world.repository.catalog.points(vm_id)) == 1
