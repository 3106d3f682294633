"""The machine that runs hvps loses power at any step, and with it all that was not durable."""

from __future__ import annotations

import random

import pytest

from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.units import MIB
from tests.repository.hostile import VolatileStore
from tests.tasks.world import GRID, Steps, World


class PowerLost(BaseException):
    """The machine is off at this point."""


def lose() -> None:
    raise PowerLost


@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.name.lower())
@pytest.mark.parametrize("seed", [1, 2])
def test_power_loss_at_any_step_loses_no_committed_point(
    world: World, monkeypatch: pytest.MonkeyPatch, step: Step, seed: int
) -> None:
    store = VolatileStore(random.Random(seed))
    world.repository.close()
    world.repository = create_on_store(store, GRID)
    vm_id = world.vm(disks=(2 * MIB,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    monkeypatch.setattr(DiskReader, "abandon", lambda self: None)
    with pytest.raises(PowerLost):
        world.backup(vm_id, observer=Steps((step.name, "before"), lose))
    monkeypatch.undo()
    world.repository = open_on_store(store.lose_power())
    assert world.assert_points_equal(vm_id) == (2 if step.row > 8 else 1)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)
