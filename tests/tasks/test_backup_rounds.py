"""Round trips: full, increments, restore of every point, compared with the simulator's golden images."""

from __future__ import annotations

from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import KIB, MIB
from tests.tasks.world import SECOND, SIZE, SLOT, Steps, World


def test_a_full_and_increments_restore_byte_for_byte(world: World) -> None:
    vm_id = world.vm(disks=(SIZE, 3 * MIB + 512))
    first = world.good_backup(vm_id)
    assert [(disk.mode, disk.reason) for disk in first.disks] == [(Mode.FULL, Reason.FIRST_BACKUP)] * 2
    for _ in range(4):
        world.churn(vm_id)
        world.churn(vm_id, SECOND)
        result = world.good_backup(vm_id)
        assert [disk.mode for disk in result.disks] == [Mode.INCREMENTAL] * 2
        assert all(disk.read_bytes < disk.size_bytes / 2 for disk in result.disks)
    assert world.assert_points_equal(vm_id) == 5


def test_the_first_two_increments_are_proved_whole_and_later_ones_by_turns(world: World) -> None:
    vm_id = world.vm()
    proved = []
    for _ in range(5):
        world.churn(vm_id)
        proved.append(world.good_backup(vm_id).disks[0].proved_bytes)
    assert proved[0] == 0
    assert proved[1:3] == [SIZE, SIZE]
    assert all(0 < part < SIZE / 8 for part in proved[3:])


def test_every_step_is_told_once_and_in_order(world: World) -> None:
    steps = Steps()
    world.good_backup(world.vm(), observer=steps)
    assert steps.seen == [(step.name, moment) for step in Step for moment in ("before", "after")]


def test_figures_say_what_was_moved(world: World) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.model.guests.write(vm_id, SLOT, 1 * MIB, b"x" * 64 * KIB)
    disk = world.good_backup(vm_id).disks[0]
    assert 64 * KIB <= disk.changed_bytes <= disk.read_bytes + 64 * KIB
    assert disk.wire_bytes > 0
    assert disk.seconds > 0
