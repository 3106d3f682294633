"""A host that does not let hvps name its checkpoint: the id in the ledger shows whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, OperationFailed
from hvpsbridge.formats.keyslot import KdfCost
from hvpsbridge.formats.ledger import LedgerKind
from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.secret import Secret
from hvpsbridge.sim.engines.operations import checkpoints
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.cleanup.ownership import is_ours
from hvpsbridge.tasks.planning.mark import Mark
from hvpsbridge.tasks.planning.modes import Reason
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import MIB
from tests.tasks import builders as make
from tests.tasks.test_others import forge
from tests.tasks.test_sweep import sweep
from tests.tasks.world import GRID, Died, Steps, World, die

KEY = Secret("correct horse")
CHEAP = KdfCost(memory_kib=1024, iterations=1, lanes=1)
RENAME = "Msvm_VirtualSystemManagementService.ModifySystemSettings"
# From here on the checkpoint exists, and the ledger has its id.
KNOWN = [step.name for step in list(Step)[list(Step).index(Step.CHECK_FROZEN) :]]


class SecretWorld(World):
    """A world whose repository has a key, so that nobody else can write to its ledger."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.repository.close()
        self.store = folder / "secret"
        self.store.mkdir()
        self.repository = create_on_store(LocalStore(self.store), GRID, key=KEY, cost=CHEAP)

    def reopen(self) -> None:
        self.repository.close()
        self.repository = open_on_store(LocalStore(self.store), key=KEY)


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[SecretWorld]:
    made = SecretWorld(tmp_path / "world")
    yield made
    made.close()


def listed(world: World, vm_id: UUID) -> set[str]:
    return {one.name for one in world.model.checkpoints.all(vm_id, hidden=True)}


def refuse_names(world: World) -> None:
    world.model.set_knob("names_refused", True)


@pytest.mark.parametrize("error", ["busy", "failed", "not_supported", "access_denied"])
def test_a_host_that_refuses_the_name_once_costs_nothing(world: World, error: str) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    world.model.faults.arm_call(RENAME, error=error)
    assert not world.good_backup(vm_id).warnings


def test_a_checkpoint_without_its_mark_is_a_warning_each_night(world: World) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    refuse_names(world)
    for _ in range(3):
        result = world.good_backup(vm_id)
        assert ["has no mark" in text for text in result.warnings] == [True]
        assert result.exit_code is ExitCode.DEGRADED
        assert not listed(world, vm_id)
        world.churn(vm_id)
    assert [disk.reason for disk in result.disks] == [Reason.TRACKED]
    assert world.assert_points_equal(vm_id) == 3


def test_a_name_that_is_busy_for_long_does_not_end_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "BUSY_SECONDS", 0.2)
    vm_id = world.vm(disks=(2 * MIB,))
    world.model.faults.arm_call(RENAME, 1000, error="busy")
    world.model.faults.arm_call("Rename-VMSnapshot", 1000, error="busy")
    (warning,) = world.good_backup(vm_id).warnings
    assert "has no mark" in warning
    assert "32775" in warning


@pytest.mark.parametrize("step", KNOWN)
def test_a_run_that_fails_removes_its_checkpoint_without_a_mark(world: World, step: str) -> None:
    """Also in a plain repository, since the run itself knows the id."""
    vm_id = world.vm(disks=(2 * MIB,))
    refuse_names(world)

    def fail() -> None:
        raise OperationFailed("HV01", "x", "Hvps.Unexpected", "NotSpecified", None, "no")

    result = world.backup(vm_id, observer=Steps((step, "before"), fail))
    assert not result.leftovers
    assert not listed(world, vm_id)


@pytest.mark.parametrize("step", KNOWN)
def test_after_a_death_the_ledger_shows_whose_checkpoint_it_is(secret: SecretWorld, step: str) -> None:
    vm_id = secret.vm(disks=(2 * MIB,))
    secret.good_backup(vm_id)
    secret.churn(vm_id)
    refuse_names(secret)
    with pytest.raises(Died):
        secret.backup(vm_id, observer=Steps((step, "before"), die))
    secret.reopen()
    secret.churn(vm_id)
    result = secret.good_backup(vm_id)
    assert {disk.reason for disk in result.disks} == {Reason.TRACKED}
    assert not listed(secret, vm_id)
    secret.assert_points_equal(vm_id)


def test_a_sweep_removes_it_too(secret: SecretWorld) -> None:
    vm_id = secret.vm(disks=(2 * MIB,))
    refuse_names(secret)
    with pytest.raises(Died):
        secret.backup(vm_id, observer=Steps(("READ", "before"), die))
    assert sweep(secret, vm_id).exit_code is ExitCode.DONE
    assert not listed(secret, vm_id)


def test_in_a_plain_repository_a_death_leaves_it_to_a_person(world: World) -> None:
    """Whoever can write to the store could have written the ledger's entry."""
    vm_id = world.vm(disks=(2 * MIB,))
    refuse_names(world)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("READ", "before"), die))
    (unnamed,) = world.model.checkpoints.all(vm_id, hidden=True)
    result = world.backup(vm_id)
    assert any(str(unnamed.checkpoint_id) in line for line in result.leftovers)
    assert listed(world, vm_id) == {unnamed.name}
    done = sweep(world, vm_id, ours=str(unnamed.checkpoint_id))
    assert done.exit_code is ExitCode.DONE
    assert not listed(world, vm_id)


@pytest.mark.parametrize("name", ["Other Product", ""])
def test_an_id_with_another_name_is_not_enough(secret: SecretWorld, name: str) -> None:
    vm_id = secret.vm(disks=(2 * MIB,))
    job = secret.model.jobs.wait(
        secret.model.checkpoints.create(vm_id, name="Other Product", kind=SnapshotType.Recovery)
    )
    made = UUID(job.results["checkpoint"])
    forge(secret, vm_id, LedgerKind.CHECKPOINT_MADE, checkpoint_id=made, mark=name and "x")
    secret.backup(vm_id)
    sweep(secret, vm_id)
    assert listed(secret, vm_id) == {"Other Product"}


def test_only_an_authentic_entry_with_id_and_name_makes_a_checkpoint_ours() -> None:
    unnamed = make.checkpoint()
    entry = make.entry(LedgerKind.CHECKPOINT_MADE, checkpoint_id=unnamed.checkpoint_id, mark=unnamed.name)
    assert is_ours(make.REPOSITORY_ID, unnamed, [entry])
    assert not is_ours(make.REPOSITORY_ID, unnamed)
    assert not is_ours(make.REPOSITORY_ID, make.checkpoint(name="renamed"), [entry])
    assert not is_ours(make.REPOSITORY_ID, make.checkpoint(checkpoint_id=UUID(int=7)), [entry])
    intended = make.entry(
        LedgerKind.CHECKPOINT_INTENDED, mark=str(Mark(make.REPOSITORY_ID, make.RUN_ID, make.NOON))
    )
    assert not is_ours(make.REPOSITORY_ID, unnamed, [intended])
