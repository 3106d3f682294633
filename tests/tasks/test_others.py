"""Nothing of others is touched, whatever a repository or a host says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.results import CheckpointKind
from hvpsbridge.errors import ExitCode, ProtocolViolation
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.formats.ledger import ALL_SETTLED, LedgerEntry, LedgerKind
from hvpsbridge.host.psrp.shells import HostShell, shell_name
from hvpsbridge.sim.engines.operations import ANSWERS, Context
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.planning.mark import Mark
from hvpsbridge.tasks.planning.modes import Reason
from hvpsbridge.units import MIB
from tests.tasks import builders as make
from tests.tasks.model_host import shells_of
from tests.tasks.test_sweep import sweep, things
from tests.tasks.world import Died, Steps, World, die

SMALL = 2 * MIB
CREATE, CONVERT = "New-HvpsCheckpoint", "ConvertTo-HvpsReferencePoint"


@pytest.fixture
def vm_id(world: World) -> UUID:
    made = world.vm(disks=(SMALL,))
    world.good_backup(made)
    world.churn(made)
    return made


def checkpoint(world: World, vm_id: UUID, name: str, kind: SnapshotType = SnapshotType.Standard) -> UUID:
    job = world.model.jobs.wait(world.model.checkpoints.create(vm_id, name=name, kind=kind))
    return UUID(job.results["checkpoint"])


def others(world: World, vm_id: UUID) -> tuple[set[str], set[str]]:
    """Checkpoints that hvps did not make, and all reference points, on the host."""
    return (
        {one.name for one in world.model.checkpoints.all(vm_id, hidden=True)},
        {one.instance_id for one in world.model.reference_points.all(vm_id)},
    )


def forge(world: World, vm_id: UUID, kind: LedgerKind, **facts: Any) -> None:
    """Write an entry to the ledger, as whoever can write to a plain repository can."""
    given: dict[str, Any] = {"run_id": uuid4(), "host": "HV01", "at": datetime.now(UTC)}
    world.repository.ledger(vm_id).append(LedgerEntry(kind=kind, vm_id=vm_id, **{**given, **facts}))


# -- what a repository says ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["HV01", "elsewhere"])
def test_a_forged_ledger_removes_no_checkpoint(world: World, vm_id: UUID, host: str) -> None:
    theirs = str(Mark(uuid4(), uuid4(), make.NOON))
    for name, kind in (("a user's", SnapshotType.Standard), (theirs, SnapshotType.Recovery)):
        made = checkpoint(world, vm_id, name, kind)
        forge(world, vm_id, LedgerKind.CHECKPOINT_MADE, checkpoint_id=made, host=host)
        forge(world, vm_id, LedgerKind.CONVERSION_INTENDED, checkpoint_id=made, point_id=uuid4(), host=host)
    before = others(world, vm_id)
    world.backup(vm_id)
    sweep(world, vm_id)
    assert others(world, vm_id)[0] == before[0] == {"a user's", theirs}


def test_a_forged_ledger_names_another_products_checkpoint_and_it_stays(world: World, vm_id: UUID) -> None:
    made = checkpoint(world, vm_id, "Other Product", SnapshotType.Recovery)
    forge(world, vm_id, LedgerKind.CHECKPOINT_MADE, checkpoint_id=made, note="claimed by hand")
    result = world.backup(vm_id)
    assert result.exit_code is ExitCode.HOST_NOT_CLEAN
    assert ["Other Product" in line for line in result.leftovers] == [True]
    assert sweep(world, vm_id).exit_code is ExitCode.HOST_NOT_CLEAN
    assert others(world, vm_id)[0] == {"Other Product"}


def test_a_forged_point_converts_nothing(world: World, vm_id: UUID) -> None:
    """The newest point's checkpoint is converted after a death, so that a forged one may name any other."""
    newest = world.repository.catalog.points(vm_id)[-1].manifest
    users = checkpoint(world, vm_id, "a user's")
    others_id = checkpoint(world, vm_id, "Other Product", SnapshotType.Recovery)
    for made in (users, others_id):
        with world.repository.begin(uuid4()) as writer:
            newest = replace(
                newest,
                point_id=uuid4(),
                checkpoint_id=made,
                sequence=newest.sequence + 1,
                previous=newest.digest(),
            )
            writer.commit(newest)
        forge(world, vm_id, LedgerKind.CHECKPOINT_MADE, checkpoint_id=made, run_id=newest.run_id)
        forge(
            world,
            vm_id,
            LedgerKind.CONVERSION_INTENDED,
            checkpoint_id=made,
            point_id=newest.point_id,
            run_id=newest.run_id,
        )
        world.backup(vm_id)
        assert others(world, vm_id)[0] == {"a user's", "Other Product"}


def test_a_forged_ledger_and_forged_ids_destroy_no_reference_point(world: World, vm_id: UUID) -> None:
    foreign = world.model.incidents.add_reference_point(vm_id)
    newest = world.repository.catalog.points(vm_id)[-1]
    ids = world.repository.catalog.ids(newest)
    assert ids is not None
    (world.store / "ids" / newest.point_id.hex).unlink()
    world.repository.catalog.publish_ids(newest, replace(ids, reference_point=foreign))
    forge(world, vm_id, LedgerKind.REFERENCE_POINT_MADE, reference_point=foreign, point_id=newest.point_id)
    forge(world, vm_id, LedgerKind.REFERENCE_POINT_MADE, reference_point=foreign)
    forge(world, vm_id, LedgerKind.SETTLED, reference_points_before=(foreign,), note=ALL_SETTLED)
    for _ in range(2):
        world.reopen()
        result = world.backup(vm_id)
        assert result.disks[0].reason is not Reason.FIRST_BACKUP
        assert foreign in others(world, vm_id)[1]
        world.churn(vm_id)
    sweep(world, vm_id, forget=True)
    assert foreign in others(world, vm_id)[1]
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize("of", ["a user", "another account", "another run"])
def test_a_forged_ledger_ends_no_shell(world: World, vm_id: UUID, of: str) -> None:
    run_id = uuid4()
    shell = {
        "a user": HostShell("AB-12", "Session5", "backup", 0),
        "another account": HostShell("AB-12", shell_name(run_id), "somebody", 0),
        "another run": HostShell("AB-12", shell_name(uuid4()), "backup", 0),
    }[of]
    shells_of(world.model).append(shell)
    forge(world, vm_id, LedgerKind.RUN_STARTED, shell_id=shell.shell_id, run_id=run_id)
    assert shell.shell_id not in [one.thing_id for one in things(world, vm_id).objects]
    world.good_backup(vm_id)
    forge(world, vm_id, LedgerKind.RUN_STARTED, shell_id=shell.shell_id, run_id=run_id)
    sweep(world, vm_id)
    assert shell in shells_of(world.model)


def test_the_shell_of_a_dead_run_is_ended(world: World, vm_id: UUID) -> None:
    run_id = uuid4()
    shell = HostShell("AB-12", shell_name(run_id), "Backup", 0)
    shells_of(world.model).append(shell)
    forge(world, vm_id, LedgerKind.RUN_STARTED, shell_id="ab-12", run_id=run_id)
    world.good_backup(vm_id)
    assert shell not in shells_of(world.model)


# -- what a host says ------------------------------------------------------------------------------------


def lie(monkeypatch: pytest.MonkeyPatch, operation: str, **changes: object) -> None:
    """Let the host do what it is asked and answer with other facts."""
    honest = ANSWERS[operation]

    def answer(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
        for result in honest(context, given):
            yield replace(result, **changes)  # type: ignore[type-var]

    monkeypatch.setitem(ANSWERS, operation, answer)


def test_a_conversion_that_names_a_foreign_reference_point_is_an_error(
    world: World, vm_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = world.model.incidents.add_reference_point(vm_id)
    with monkeypatch.context() as patch:
        lie(patch, CONVERT, instance_id=foreign)
        result = world.backup(vm_id)
        assert result.point_id is not None
        assert "existed before" in result.warnings[-1]
    for _ in range(2):
        world.churn(vm_id)
        assert world.backup(vm_id).error is None
        assert foreign in others(world, vm_id)[1]
        assert len(others(world, vm_id)[1]) == 2
    assert foreign not in str(world.repository.ledger(vm_id).entries()[-1].reference_points_before)


def test_a_conversion_that_names_another_moment_leaves_the_other_one(
    world: World, vm_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The foreign one appears during the conversion, so that it was not there before."""
    honest = ANSWERS[CONVERT]
    foreign: list[str] = []

    def answer(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
        list(honest(context, given))
        foreign.append(world.model.incidents.add_reference_point(vm_id))
        yield next(
            one
            for one in ANSWERS["Get-HvpsReferencePoint"](context, {"VmId": vm_id})
            if one.instance_id == foreign[0]  # type: ignore[attr-defined]
        )

    with monkeypatch.context() as patch:
        patch.setitem(ANSWERS, CONVERT, answer)
        result = world.backup(vm_id)
    assert result.exit_code is ExitCode.HOST_NOT_CLEAN
    assert foreign[0] in result.leftovers[0]
    world.churn(vm_id)
    nightly = world.backup(vm_id)
    assert [foreign[0] in line for line in nightly.leftovers] == [True]
    assert foreign[0] in others(world, vm_id)[1]
    assert sweep(world, vm_id, not_ours=foreign[0]).left == ()
    assert foreign[0] in others(world, vm_id)[1]


def test_where_ids_differ_a_conversion_with_two_newcomers_claims_neither(
    world: World, vm_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The foreign one appears during the conversion, and the host names it instead of ours."""
    world.model.set_knob("new_id_of_freeze", True)
    world.records.save(world.host().host_info(), proved=datetime.now(UTC), way=IdWay.REFERENCE)
    honest = ANSWERS[CONVERT]
    foreign: list[str] = []

    def answer(context: Context, given: Mapping[str, Any]) -> Iterator[object]:
        list(honest(context, given))
        foreign.append(world.model.incidents.add_reference_point(vm_id))
        listed = ANSWERS["Get-HvpsReferencePoint"](context, {"VmId": vm_id})
        yield next(one for one in listed if one.instance_id == foreign[0])  # type: ignore[attr-defined]

    with monkeypatch.context() as patch:
        patch.setitem(ANSWERS, CONVERT, answer)
        result = world.backup(vm_id)
    assert result.exit_code is ExitCode.HOST_NOT_CLEAN
    assert foreign[0] in result.leftovers[0]
    for _ in range(2):
        world.churn(vm_id)
        nightly = world.backup(vm_id)
        assert nightly.exit_code is ExitCode.HOST_NOT_CLEAN
        assert foreign[0] in {one.instance_id for one in world.model.reference_points.all(vm_id)}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a user's"},
        {"kind": CheckpointKind.STANDARD},
        {"vm_id": uuid4()},
        {"checkpoint_id": None},
    ],
    ids=["name", "kind", "vm", "id of one that was there"],
)
def test_a_checkpoint_that_was_not_asked_for_never_enters_the_ledger(
    world: World, vm_id: UUID, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    users = checkpoint(world, vm_id, "a user's")
    with monkeypatch.context() as patch:
        lie(patch, CREATE, **{"checkpoint_id": users, **{k: v for k, v in changes.items() if v}})
        result = world.backup(vm_id)
    assert isinstance(result.error, ProtocolViolation)
    assert "asked for" in str(result.error)
    assert users not in [entry.checkpoint_id for entry in world.repository.ledger(vm_id).entries()]
    assert others(world, vm_id)[0] == {"a user's"}, "what was made instead is removed by its mark"
    world.good_backup(vm_id)
    assert others(world, vm_id)[0] == {"a user's"}


@pytest.mark.parametrize("kind", [SnapshotType.Standard, SnapshotType.Recovery])
def test_an_id_that_a_host_gave_falsely_acts_on_no_other_host(
    world: World, vm_id: UUID, monkeypatch: pytest.MonkeyPatch, kind: SnapshotType
) -> None:
    """A host hides what is there, and names it as new; the run dies, and the VM is on another host then."""
    victim = checkpoint(world, vm_id, "before the upgrade", kind)
    with monkeypatch.context() as patch:
        lie(patch, "Get-HvpsCheckpoint", checkpoint_id=uuid4(), kind=CheckpointKind.STANDARD)
        lie(patch, CREATE, checkpoint_id=victim)
        with pytest.raises(Died):
            world.backup(vm_id, observer=Steps(("RECORD_CHECKPOINT", "after"), die))
    assert victim in [entry.checkpoint_id for entry in world.repository.ledger(vm_id).entries()]
    world.backup(vm_id)
    sweep(world, vm_id)
    assert others(world, vm_id)[0] == {"before the upgrade"}


ASKED_TWICE: dict[str, Callable[[World, UUID], object]] = {
    "Get-HvpsDisk": lambda world, vm_id: world.host().disks(vm_id),
    "Get-HvpsCheckpoint": lambda world, vm_id: world.host().checkpoints(vm_id),
    "Get-HvpsReferencePoint": lambda world, vm_id: world.host().reference_points(vm_id),
}


@pytest.mark.parametrize("operation", ASKED_TWICE)
def test_what_is_listed_twice_or_of_another_vm_is_an_error(
    world: World, vm_id: UUID, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    checkpoint(world, vm_id, "a user's")
    ask, honest = ASKED_TWICE[operation], ANSWERS[operation]
    assert ask(world, vm_id)
    monkeypatch.setitem(
        ANSWERS, operation, lambda context, given: (one for one in [*honest(context, given)] * 2)
    )
    with pytest.raises(ProtocolViolation, match="is listed twice"):
        ask(world, vm_id)
    monkeypatch.setitem(ANSWERS, operation, honest)
    lie(monkeypatch, operation, vm_id=uuid4())
    with pytest.raises(ProtocolViolation, match=f"asked for VmId {vm_id}, got"):
        ask(world, vm_id)
