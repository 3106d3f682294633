"""Rivals for a VM: a second repository, a lost lease; and a VM whose chain is at risk."""

from __future__ import annotations

import pytest

from hvpsbridge.errors import CommitForkFailed, ExitCode, LeaseLost, NotEligible, RepositoryLocked
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.opening import open_on_store
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import MIB
from tests.tasks.world import Steps, World

SMALL = 2 * MIB


def test_a_second_hvps_on_the_same_repository_is_locked_out(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    seen: list[BackupResult] = []

    def second() -> None:
        with open_on_store(LocalStore(world.store)) as again:
            seen.append(world.backup(vm_id, repository=again))

    world.good_backup(vm_id, observer=Steps(("READ", "before"), second))
    assert isinstance(seen[0].error, RepositoryLocked)
    assert seen[0].exit_code is ExitCode.LOCKED
    assert seen[0].leftovers == ()
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize("at", ["INTEND_CHECKPOINT", "COMMIT", "INTEND_CONVERSION", "RETIRE"])
def test_a_lease_that_is_lost_stops_the_run_before_it_acts_and_the_taker_settles(
    world: World, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.churn(vm_id)

    def lost(self: Lease) -> None:
        raise LeaseLost(str(world.store), "the lease", "another machine")

    result = world.backup(
        vm_id, observer=Steps((at, "before"), lambda: monkeypatch.setattr(Lease, "check", lost))
    )
    monkeypatch.undo()
    assert isinstance(result.error, LeaseLost)
    assert result.exit_code is ExitCode.LOCKED
    assert (result.point_id is not None) == (Step[at].row > 8)
    assert bool(result.leftovers) == (at != "INTEND_CHECKPOINT")
    world.churn(vm_id)
    assert world.good_backup(vm_id).disks[0].mode is Mode.INCREMENTAL
    world.assert_points_equal(vm_id)


def test_where_a_fork_failed_nothing_is_cleaned_up_and_nothing_further_is_made(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.model.faults.arm("commit_forks", 1)
    before = world.model.checkpoints.all(vm_id, hidden=True)
    asked: list[str] = []
    world.before = asked.append
    result = world.backup(vm_id)
    assert isinstance(result.error, CommitForkFailed)
    assert result.leftovers
    assert not [name for name in asked if name.startswith("Remove-")]
    assert world.model.checkpoints.all(vm_id, hidden=True) == before
    asked.clear()
    refused = world.backup(vm_id)
    assert isinstance(refused.error, NotEligible)
    assert "3216" in refused.error.reason
    assert not [name for name in asked if name.startswith(("Remove-", "New-", "ConvertTo-"))]
