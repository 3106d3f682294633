"""The process dies at any step: the next run cleans up, no point is lost, no change is missed.

Here an exception that nothing in hvps handles ends the process, in memory and fast; ``test_backup_kills.py``
does the same over the wire, with real processes and SIGKILL. Both are generated from the enumeration of
steps, so that a new step is tested, too.
"""

from __future__ import annotations

from uuid import UUID

import pytest

from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.units import MIB
from tests.tasks.world import Died, Steps, World, die

MOMENTS = [(step.name, moment) for step in Step for moment in ("before", "after")]
# After a step is before the next one; where both have been struck once, one of them will do.
STARTS = [(step.name, "before") for step in Step]
SMALL = 2 * MIB


@pytest.fixture
def dead_leave_nothing_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead process closes no reader: its shell, with the attach in it, lives on at the host."""
    monkeypatch.setattr(DiskReader, "abandon", lambda self: None)


@pytest.mark.usefixtures("dead_leave_nothing_behind_them")
@pytest.mark.parametrize("at", MOMENTS, ids=lambda at: f"{at[1]}-{at[0].lower()}")
def test_death_of_an_increment_at_any_step_loses_nothing(world: World, at: tuple[str, str]) -> None:
    vm_id = world.vm(disks=(SMALL, SMALL))
    world.good_backup(vm_id)
    world.churn(vm_id)
    strike_and_go_on(world, vm_id, at, points_before=1)


@pytest.mark.usefixtures("dead_leave_nothing_behind_them")
@pytest.mark.parametrize("at", STARTS, ids=lambda at: f"{at[1]}-{at[0].lower()}")
def test_death_of_the_first_backup_at_any_step_loses_nothing(world: World, at: tuple[str, str]) -> None:
    strike_and_go_on(world, world.vm(disks=(SMALL,)), at, points_before=0)


def churn_all(world: World, vm_id: UUID) -> None:
    """Every disk changes: one that did not would be compared, for an empty answer is never believed."""
    for drive in world.model.disks.drives(vm_id):
        world.churn(vm_id, drive.slot)


def strike_and_go_on(world: World, vm_id: UUID, at: tuple[str, str], points_before: int) -> None:
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(at, die))
    world.reopen()
    assert world.assert_points_equal(vm_id) >= points_before
    churn_all(world, vm_id)
    world.good_backup(vm_id)
    churn_all(world, vm_id)
    last = world.good_backup(vm_id)
    assert {disk.mode for disk in last.disks} == {Mode.INCREMENTAL}
    assert world.assert_points_equal(vm_id) >= points_before + 2


@pytest.mark.parametrize("at", STARTS, ids=lambda at: f"{at[1]}-{at[0].lower()}")
def test_one_death_after_the_other_loses_nothing(world: World, at: tuple[str, str]) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    for strike in (at, at, ("SETTLE", "after")):
        world.churn(vm_id)
        with pytest.raises(Died):
            world.backup(vm_id, observer=Steps(strike, die))
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)
