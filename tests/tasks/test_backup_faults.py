"""The fault table, row by row: what goes wrong, when, and with what result."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from hvpsbridge.errors import ExitCode, HostNotClean, InternalError
from hvpsbridge.sim.faults import fault_table
from hvpsbridge.sim.model.faults import MODEL_FAULTS
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.results import Outcome
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import KIB, MIB
from tests.tasks.wire import WireWorld
from tests.tasks.world import SIZE, SLOT, Died, Steps, World, die

# Faults that no row strikes, and why.
ELSEWHERE = {
    "checkpoint_file_locked": "one more failed job: its code is mapped by the script, see tests/scripts",
    "checkpoint_no_space": "as above",
    "commit_forks": "nothing is cleaned up after it: test_backup_rivals.py",
    "merge_ends": "strikes one operation: tests/contract, tests/host/test_operations.py",
    "query_lies": "found by proof, not by a row: test_tracking.py",
    "volume_full": "the guest's own write fails, before any backup",
    "unauthorized": "refused for good: tests/cli",
    "access_denied": "refused for good: tests/cli",
    "quota_shells": "tests/host",
    "quota_operations": "tests/host",
    "reply_slow": "only takes time: tests/host",
    "reply_stalled": "only takes time: tests/host",
}


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    over: str
    fault: str
    step: str
    expect: str
    count: int = 1
    error: str = ""
    reason: str = "tracked"

    def __str__(self) -> str:
        return f"{self.fault} x{self.count} at {self.step.lower()}"


ROWS = [Row(**row) for row in yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text())]


def test_every_fault_there_is_has_a_row_or_a_reason() -> None:
    named = {row.fault.partition(":")[0] for row in ROWS} | ELSEWHERE.keys()
    assert named == MODEL_FAULTS.keys() | fault_table().keys()
    assert {row.step for row in ROWS} <= {step.name for step in Step}
    assert len(fields(Row)) == 7


def changed(world: World, vm_id: UUID) -> None:
    """A change in more than one chunk, so that a read has several blocks and a proof something to prove."""
    for offset in (0, 1 * MIB):
        world.model.guests.write(vm_id, SLOT, offset, world.chance.randbytes(96 * KIB))


def held_against(world: World, vm_id: UUID, row: Row, result: BackupResult) -> None:
    said = (result.error, result.warnings, result.leftovers)
    match row.expect:
        case "done":
            assert result.outcome is Outcome.DONE, said
        case "degraded":
            assert result.error is None, said
            assert result.warnings, said
        case "compared":
            assert result.error is None, said
            assert result.outcome is Outcome.DEGRADED, said
        case "undone":
            assert result.point_id is None, said
            assert result.error is not None
            assert result.error.kind == row.error, said
        case "left":
            assert result.leftovers
    if row.expect != "left":
        assert not result.leftovers, said
        assert not world.model.checkpoints.all(vm_id, hidden=True)
        assert not world.model.driver.attached()
        assert len(world.model.reference_points.all(vm_id)) == 1
    if row.expect in ("done", "degraded", "compared"):
        assert result.disks[0].reason.word == row.reason


@pytest.mark.parametrize("row", [row for row in ROWS if row.over == "model"], ids=str)
def test_hyper_v_goes_wrong(world: World, row: Row) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    world.good_backup(vm_id)
    changed(world, vm_id)
    arm = Steps((row.step, "before"), lambda: world.model.faults.arm(row.fault, row.count))
    result = world.backup(vm_id, observer=arm)
    world.model.faults.arm(row.fault, 0)
    held_against(world, vm_id, row, result)
    changed(world, vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WireWorld, UUID]]:
    """A world over the wire whose VM has been backed up once."""
    world = WireWorld(tmp_path_factory.mktemp("faults"))
    vm_id = world.vm(disks=(2 * MIB,))
    world.good_backup(vm_id)
    yield world, vm_id
    world.close()


@pytest.mark.parametrize("row", [row for row in ROWS if row.over == "wire"], ids=str)
def test_the_wire_goes_wrong(wired: tuple[WireWorld, UUID], row: Row) -> None:
    world, vm_id = wired
    name = row.fault.partition(":")[0]
    changed(world, vm_id)
    before = world.server.faults.fired.get(name, 0)
    arm = Steps((row.step, "before"), lambda: world.server.faults.arm_text(row.fault, row.count))
    result = world.backup(vm_id, observer=arm)
    world.server.faults.arm(name, 0)
    assert world.server.faults.fired.get(name, 0) > before, "the fault never fired"
    held_against(world, vm_id, row, result)
    changed(world, vm_id)
    world.good_backup(vm_id)
    for point in world.repository.catalog.points(vm_id)[-2:]:
        world.assert_point_equal(point)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(10))
def test_a_thousand_faults_at_any_step(tmp_path: Path, part: int) -> None:
    seed = int(os.environ.get("HVPS_SEED", "20261122")) + part
    chance = random.Random(seed)
    world = World(tmp_path, seed)
    vm_id = world.vm(disks=(2 * MIB,))
    world.good_backup(vm_id)
    names = sorted(MODEL_FAULTS.keys() - {"commit_forks", "query_lies", "volume_full"})
    for number in range(100):
        changed(world, vm_id)
        fault, step, count = chance.choice(names), chance.choice(list(Step)).name, chance.randrange(1, 4)
        where = f"seed {seed}, {number}: {fault} x{count} at {step}"
        arm = Steps((step, "before"), lambda: world.model.faults.arm(fault, count))  # noqa: B023 - used at once
        result = world.backup(vm_id, observer=arm)
        # A chunk that was read wrong looks as if tracking had left it out.
        allowed = {ExitCode.DAMAGE} if fault == "read_corrupt" else set()
        assert not isinstance(result.error, InternalError), (where, result.error)
        assert result.exit_code not in {ExitCode.DAMAGE} - allowed, (where, result.error)
        world.model.faults.arm(fault, 0)
        changed(world, vm_id)
        world.good_backup(vm_id)
        for point in world.repository.catalog.points(vm_id)[-2:]:
            world.assert_point_equal(point)
    world.close()


def test_no_merge_is_waited_for_if_a_checkpoint_cannot_be_removed(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("RECORD_CHECKPOINT", "after"), die))
    world.model.faults.arm("remove_fails", 1)
    result = world.backup(vm_id, merge_seconds=1.0)
    assert isinstance(result.error, HostNotClean)
    (left,) = result.error.leftovers
    assert left.startswith("recovery checkpoint")
    assert "Hvps.JobFailed" in left
    world.good_backup(vm_id)
