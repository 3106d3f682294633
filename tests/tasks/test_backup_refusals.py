"""What prevents a backup is one line with one remedy in ``--check``, and nothing is created."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ExitCode, NotEligible
from hvpsbridge.report.documents.run import RunReport, run_report
from hvpsbridge.report.views import condition_lines
from hvpsbridge.sim.model.state import CheckpointType, ReplicationMode, SnapshotType, VhdFormat, VMState
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.planning.eligibility import Severity
from hvpsbridge.tasks.planning.mark import Mark
from hvpsbridge.tasks.results import RunResult
from hvpsbridge.units import MIB
from tests.tasks.world import SECOND, World

SIZE = 2 * MIB
Obstacle = Callable[[World, UUID], None]


def settings(**changes: object) -> Obstacle:
    return lambda world, vm_id: world.model.setup.change_vm(vm_id, **changes)


def foreign_checkpoint(name: str) -> Obstacle:
    def make(world: World, vm_id: UUID) -> None:
        world.model.jobs.wait(world.model.checkpoints.create(vm_id, name=name, kind=SnapshotType.Recovery))

    return make


def second_disk(**facts: object) -> Obstacle:
    def add(world: World, vm_id: UUID) -> None:
        world.model.setup.add_disk(vm_id, SECOND, size_bytes=SIZE, **facts)  # type: ignore[arg-type]

    return add


OBSTACLES: dict[str, tuple[Obstacle, Severity, str]] = {
    "paused": (settings(state=VMState.Paused), Severity.WAIT, "it is paused"),
    "starting": (settings(state=VMState.Starting), Severity.WAIT, "it is starting"),
    "stopping": (settings(state=VMState.Stopping), Severity.WAIT, "it is stopping"),
    "being saved": (settings(state=VMState.Saving), Severity.WAIT, "it is being saved"),
    "another product's checkpoint": (
        foreign_checkpoint("Other Product"),
        Severity.WAIT,
        "another product's recovery checkpoint 'Other Product' exists",
    ),
    "another repository's checkpoint": (
        foreign_checkpoint(str(Mark(uuid4(), uuid4(), datetime.now(UTC)))),
        Severity.WAIT,
        "a recovery checkpoint for hvps repository",
    ),
    "checkpoints disabled": (
        settings(checkpoint_type=CheckpointType.Disabled),
        Severity.NOTE,
        "checkpoints are disabled",
    ),
    "an unknown checkpoint type": (
        settings(checkpoint_type=CheckpointType.Unlisted),
        Severity.NOTE,
        "does not know its CheckpointType",
    ),
    "pausing": (settings(state=VMState.Pausing), Severity.WAIT, "it is being paused"),
    "resuming": (settings(state=VMState.Resuming), Severity.WAIT, "it is being resumed"),
    "being reset": (settings(state=VMState.Reset), Severity.WAIT, "it is being reset"),
    "an unknown state": (settings(state=VMState.Other), Severity.NOTE, "does not know its state"),
    "a checkpoint being applied": (settings(second_status=32769), Severity.WAIT, "is being applied"),
    "an unknown status": (settings(second_status=33000), Severity.NOTE, "operational status 33000"),
    "replica": (
        settings(replication_mode=ReplicationMode.Replica),
        Severity.REFUSE,
        "it is the target of a replication",
    ),
    "test replica": (
        settings(replication_mode=ReplicationMode.TestReplica),
        Severity.REFUSE,
        "it is the target of a replication",
    ),
    "shielded": (settings(shielded=True), Severity.REFUSE, "it is shielded"),
    "merging disabled": (settings(merge_enabled=False), Severity.REFUSE, "merging of its disks is disabled"),
    "event 3216": (settings(commit_fork_events=1), Severity.REFUSE, "event 3216"),
    "child without a checkpoint": (
        lambda world, vm_id: world.model.incidents.leave_children(vm_id),
        Severity.REFUSE,
        "but the VM has no checkpoint",
    ),
    "pass-through": (
        lambda world, vm_id: world.model.setup.add_pass_through(vm_id, SECOND, 3),
        Severity.REFUSE,
        "disk scsi 0:1 is a physical disk",
    ),
    "shared": (second_disk(shared=True), Severity.REFUSE, "disk scsi 0:1 is shared"),
    "VHD": (second_disk(format=VhdFormat.VHD), Severity.NOTE, "disk scsi 0:1 is a VHD"),
}


def report_of(result: BackupResult) -> RunReport:
    run = RunResult(uuid4(), result.started, result.seconds, (result,))
    return run_report(run, name="nightly", check=True)


@pytest.mark.parametrize("name", OBSTACLES)
def test_each_obstacle_is_one_line_with_one_remedy_in_the_plan(world: World, name: str) -> None:
    put, severity, text = OBSTACLES[name]
    vm_id = world.vm(disks=(SIZE,))
    put(world, vm_id)
    before = [point.name for point in world.model.checkpoints.all(vm_id, hidden=True)]
    asked: list[str] = []
    world.before = asked.append
    result = world.backup(vm_id, check=True)
    (finding,) = result.findings
    assert finding.severity is severity
    assert text in finding.text
    assert finding.remedy
    lines = condition_lines(report_of(result))
    assert sum(line.endswith(f"{finding.severity}: {finding}") for line in lines) == 1, lines
    code = {
        Severity.REFUSE: ExitCode.VM_FAILED,
        Severity.WAIT: ExitCode.GATED,
        Severity.NOTE: ExitCode.DONE,
    }[severity]
    assert result.exit_code is code
    assert not [name for name in asked if name.startswith(("New-", "Remove-", "ConvertTo-"))]
    assert [point.name for point in world.model.checkpoints.all(vm_id, hidden=True)] == before
    assert not list((world.store / "ledger").rglob("*.*"))


def test_the_remedy_for_a_child_without_a_checkpoint_works(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.model.incidents.leave_children(vm_id)
    world.churn(vm_id)
    assert isinstance(world.backup(vm_id, held_merge_seconds=0.0).error, NotEligible)
    made = world.model.jobs.wait(world.model.checkpoints.create(vm_id, kind=SnapshotType.Standard))
    world.model.jobs.wait(world.model.checkpoints.remove(UUID(made.results["checkpoint"])))
    world.good_backup(vm_id)
    assert world.assert_points_equal(vm_id) == 2
