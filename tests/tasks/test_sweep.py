"""Sweeping a host removes what ended runs left, and nothing that is needed or foreign."""

from __future__ import annotations

import signal
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ExitCode, HostNotClean, NotEligible, RepositoryLocked, SessionLost
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.cleanup.leftovers import Owner, VmObjects, find_objects, unknown_ids
from hvpsbridge.tasks.cleanup.sweep import SweepContext, SweepResult, forget_vm, sweep_vm
from hvpsbridge.tasks.planning.mark import Mark
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.units import MIB
from tests.tasks import builders as make
from tests.tasks.wire import WireWorld
from tests.tasks.world import QUICK, Died, Steps, World, die

SMALL = 2 * MIB


def things(world: World, vm_id: UUID) -> VmObjects:
    with world.host() as host:
        return find_objects(host, world.repository, host.vm(vm_id), host.shells())  # type: ignore[arg-type]


def sweep(
    world: World,
    vm_id: UUID,
    *,
    forget: bool = False,
    ours: str = "",
    not_ours: str = "",
    node: str | None = None,
) -> SweepResult:
    with world.host(node) as host:
        there = find_objects(host, world.repository, host.vm(vm_id), host.shells())  # type: ignore[arg-type]
        context = SweepContext(
            host=host,  # type: ignore[arg-type]
            repository=world.repository,
            run_id=uuid4(),
            limits=QUICK.limits,
            cancel=Cancellation(),
            ours=frozenset(filter(None, [ours])),
            foreign=frozenset(filter(None, [not_ours])),
        )
        return forget_vm(context, there) if forget else sweep_vm(context, there)


def foreign_things(world: World, vm_id: UUID) -> tuple[list[str], list[str]]:
    """Names of checkpoints and ids of reference points that hvps did not create."""
    checkpoints = [point.name for point in world.model.checkpoints.all(vm_id, hidden=True)]
    ours = set()
    for point in world.repository.catalog.points(vm_id):
        ids = world.repository.catalog.ids(point)
        ours.add("" if ids is None else ids.reference_point)
    references = [
        point.instance_id
        for point in world.model.reference_points.all(vm_id)
        if point.instance_id not in ours
    ]
    return [name for name in checkpoints if not name.startswith("hvps ")], references


@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.name.lower())
def test_what_a_death_at_any_step_left_is_swept_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch, step: Step
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="a user's", kind=SnapshotType.Standard))
    world.good_backup(vm_id)
    foreign = world.model.incidents.add_reference_point(vm_id)
    before = foreign_things(world, vm_id)
    assert before == (["a user's"], [foreign])
    world.churn(vm_id)
    monkeypatch.setattr(DiskReader, "abandon", lambda self: None)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps((step.name, "before"), die))
    monkeypatch.undo()
    world.reopen()
    points = len(world.repository.catalog.points(vm_id))
    swept = sweep(world, vm_id)
    assert (swept.error, swept.left) == (None, ())
    assert swept.exit_code is ExitCode.DONE
    assert foreign_things(world, vm_id) == before
    assert not world.model.driver.attached()
    assert len(world.model.reference_points.all(vm_id)) == 2
    assert not things(world, vm_id).needs_sweep
    assert {thing.whose for thing in things(world, vm_id).objects} == {Owner.NEEDED, Owner.FOREIGN}
    world.churn(vm_id)
    result = world.backup(vm_id)
    assert result.error is None, result.error
    assert result.disks[0].mode is Mode.INCREMENTAL
    assert world.assert_points_equal(vm_id) == points + 1


def test_looking_changes_nothing_and_says_what_would_be_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    monkeypatch.setattr(DiskReader, "abandon", lambda self: None)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("CONFIGURATION", "before"), die))
    objects = sorted(world.store.rglob("*"))
    asked: list[str] = []
    world.before = asked.append
    there = things(world, vm_id)
    world.before = None
    assert not [name for name in asked if name.startswith(("New-", "Remove-", "ConvertTo-", "end "))]
    assert sorted(world.store.rglob("*")) == objects
    assert len(there.open_runs) == 1
    kinds = {(thing.kind, thing.whose) for thing in there.objects}
    assert kinds == {
        ("checkpoint", Owner.LEFTOVER),
        ("reference point", Owner.NEEDED),
        ("shell", Owner.LEFTOVER),
    }
    assert all(thing.what for thing in there.objects)


def test_a_vm_without_objects_needs_no_sweep(world: World) -> None:
    there = things(world, world.vm(disks=(SMALL,)))
    assert (there.objects, there.needs_sweep) == ((), False)


def orphan(world: World, vm_id: UUID) -> str:
    """A reference point whose ids no point has: it marks another moment, and could not be destroyed."""
    before = {point.instance_id for point in world.model.reference_points.all(vm_id)}
    world.model.faults.arm("convert_other_ids")
    world.model.faults.arm("destroy_reference_point_fails")

    def lose(name: str) -> None:
        if name == "ConvertTo-HvpsReferencePoint: reply":
            world.before = None
            raise SessionLost("HV01", name, "connection reset")

    world.before = lose
    assert world.backup(vm_id).exit_code is ExitCode.HOST_NOT_CLEAN
    (made,) = {point.instance_id for point in world.model.reference_points.all(vm_id)} - before
    return made


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "not ours"])
def test_a_reference_point_that_belongs_to_no_point_is_named_until_somebody_decides(
    world: World, ours: bool
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    made = orphan(world, vm_id)
    for _ in range(2):
        world.churn(vm_id)
        nightly = world.backup(vm_id)
        assert nightly.exit_code is ExitCode.HOST_NOT_CLEAN
        assert any(made in left and "hvps host sweep" in left for left in nightly.leftovers)
    there = things(world, vm_id)
    assert [thing.thing_id for thing in there.of(Owner.UNCLEAR)] == [made]
    assert unknown_ids([there], [made, "x"]) == ("x",)
    undecided = sweep(world, vm_id)
    assert undecided.exit_code is ExitCode.HOST_NOT_CLEAN
    assert made in undecided.left[0]
    decided = sweep(world, vm_id, **{"ours" if ours else "not_ours": made})  # type: ignore[arg-type]
    assert (decided.error, decided.left) == (None, ())
    there_now = [point.instance_id for point in world.model.reference_points.all(vm_id)]
    assert (made in there_now) != ours
    world.churn(vm_id)
    last = world.backup(vm_id)
    assert last.exit_code is ExitCode.DONE
    assert last.disks[0].reason is Reason.TRACKED
    assert not things(world, vm_id).needs_sweep
    world.assert_points_equal(vm_id)


def test_of_two_checkpoints_that_may_be_ours_only_the_one_that_is_claimed_goes(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)

    def lose(name: str) -> None:
        if name == "New-HvpsCheckpoint: rename":
            world.before = None
            raise Died

    world.before = lose
    with pytest.raises(Died):
        world.backup(vm_id)
    (mine,) = world.model.checkpoints.all(vm_id, hidden=True)
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="Other Product"))
    undecided = sweep(world, vm_id)
    assert len(undecided.left) == 2
    assert len(world.model.checkpoints.all(vm_id, hidden=True)) == 2
    decided = sweep(world, vm_id, ours=str(mine.checkpoint_id))
    assert isinstance(decided.error, HostNotClean)
    assert [point.name for point in world.model.checkpoints.all(vm_id, hidden=True)] == ["Other Product"]
    assert any("Other Product" in left for left in decided.left), "it is still nobody's for certain"
    again = sweep(world, vm_id)
    assert (again.error, again.left) == (None, ())
    assert [point.name for point in world.model.checkpoints.all(vm_id, hidden=True)] == ["Other Product"]


def test_another_repositorys_checkpoint_is_named_as_theirs_and_stays(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    theirs = str(Mark(uuid4(), uuid4(), make.NOON))
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name=theirs))
    (thing,) = things(world, vm_id).objects
    assert thing.whose is Owner.FOREIGN
    assert sweep(world, vm_id).left == ()
    assert [point.name for point in world.model.checkpoints.all(vm_id, hidden=True)] == [theirs]


def test_a_vm_at_which_a_run_is_at_work_is_left_alone(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    seen: list[SweepResult] = []
    result = world.backup(vm_id, observer=Steps(("READ", "after"), lambda: seen.append(sweep(world, vm_id))))
    assert isinstance(seen[0].error, RepositoryLocked)
    assert seen[0].exit_code is ExitCode.LOCKED
    assert seen[0].done == ()
    assert result.error is None
    assert result.disks[0].resumed == 0
    world.assert_clean(vm_id)
    world.assert_points_equal(vm_id)


def test_where_a_fork_failed_nothing_is_swept(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("READ", "before"), die))
    world.model.setup.change_vm(vm_id, commit_fork_events=1)
    swept = sweep(world, vm_id)
    assert isinstance(swept.error, NotEligible)
    assert len(world.model.checkpoints.all(vm_id, hidden=True)) == 1


def test_forgetting_a_vm_removes_everything_of_ours_and_nothing_else(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    foreign = world.model.incidents.add_reference_point(vm_id)
    world.churn(vm_id)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("COMMIT", "after"), die))
    swept = sweep(world, vm_id, forget=True)
    assert (swept.error, swept.left) == (None, ())
    assert [point.instance_id for point in world.model.reference_points.all(vm_id)] == [foreign]
    assert not world.model.checkpoints.all(vm_id, hidden=True)
    assert world.assert_points_equal(vm_id) == 2
    world.churn(vm_id)
    after = world.backup(vm_id)
    assert after.error is None
    assert after.disks[0].reason is Reason.REFERENCE_POINT_GONE
    assert world.assert_points_equal(vm_id) == 3


@pytest.mark.parametrize("engine", ["builtin", "powershell"])
def test_shells_of_a_killed_process_are_listed_and_ended_over_the_wire(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    if engine == "powershell":
        request.getfixturevalue("pwsh")
    world = WireWorld(tmp_path, engine)
    vm_id = world.vm(disks=(SMALL,))
    killed = world.struck(vm_id, "CONFIGURATION", "before", "SIGKILL")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run_id = uuid4()
    with world.connect(run_id) as host:
        shells = host.shells()
        there = find_objects(host, world.repository, host.vm(vm_id), shells)
        ended = {thing.thing_id for thing in there.objects if thing.kind == "shell"}
        assert host.shell_id in {shell.shell_id for shell in shells}
        assert host.shell_id not in ended
        assert len(ended) >= 2, "the run's own shell and its reader's"
        assert all(shell.name.startswith("hvps ") for shell in shells if shell.shell_id in ended)
        assert world.model.driver.attached()
        context = SweepContext(
            host=host,
            repository=world.repository,
            run_id=run_id,
            limits=QUICK.limits,
            cancel=Cancellation(),
        )
        swept = sweep_vm(context, there)
        assert (swept.error, swept.left) == (None, ())
        assert not ended & {shell.shell_id for shell in host.shells()}
    world.assert_clean(vm_id, reference_points=0)
    world.close()
