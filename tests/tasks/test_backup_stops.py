"""A stop at any step, and any message of a run lost: nothing is lost, and the host is clean."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import (
    ConnectionLimit,
    ExitCode,
    Gated,
    HostUnreachable,
    Interrupted,
    NoSpace,
    SessionLost,
)
from hvpsbridge.repository.opening import open_on_store
from hvpsbridge.repository.stores.local import LocalSink, LocalStore
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.planning.mark import parse_mark
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import MIB
from tests.tasks.test_sweep import sweep
from tests.tasks.world import IMPATIENT, Died, Steps, World, die

SMALL = 2 * MIB
OTHERS = "Other Product"
STARTS = [(step.name, "before") for step in Step]


@pytest.mark.parametrize("at", STARTS, ids=lambda at: at[0].lower())
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_at_any_step_undoes_or_ends_well(
    world: World, at: tuple[str, str], signal_name: str
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    cancel = Cancellation()
    result = world.backup(vm_id, observer=Steps(at, lambda: cancel.request(signal_name)), cancel=cancel)
    assert isinstance(result.error, Interrupted)
    assert result.exit_code is (ExitCode.INTERRUPTED if signal_name == "SIGINT" else ExitCode.TERMINATED)
    assert result.leftovers == ()
    world.assert_clean(vm_id)
    # Once the point exists, the rest is done: its ids are worth having.
    assert (result.point_id is not None) == (Step[at[0]].row >= 9 or at[0] == "COMMIT")
    world.churn(vm_id)
    assert world.good_backup(vm_id).disks[0].mode is Mode.INCREMENTAL
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize("at", STARTS, ids=lambda at: at[0].lower())
def test_a_second_signal_gives_up_and_reports_what_is_left(world: World, at: tuple[str, str]) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    cancel = Cancellation()

    def twice() -> None:
        cancel.request("SIGTERM")
        cancel.request("SIGTERM")

    world.before = lambda name: None
    result = world.backup(vm_id, observer=Steps(at, twice), cancel=cancel)
    assert isinstance(result.error, Interrupted)
    assert result.leftovers or not world.model.checkpoints.all(vm_id, hidden=True)
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


class Wire:
    """Counts messages to the host, and loses the one at ``cut_at``, or all from there on."""

    def __init__(self, world: World) -> None:
        self.count = 0
        self.names: list[str] = []
        self.cut_at = -1
        self.for_good = False
        world.before = self

    def __call__(self, name: str) -> None:
        self.count += 1
        self.names.append(name)
        if self.count == self.cut_at or (self.for_good and self.count > self.cut_at > 0):
            if self.for_good:
                raise HostUnreachable("HV01", "the network is down")
            raise SessionLost("HV01", name, "connection reset")


def messages_of_an_increment(folder: Path) -> list[str]:
    world = World(folder)
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    wire = Wire(world)
    world.good_backup(vm_id)
    world.close()
    return wire.names


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for-good"])
def test_the_network_cut_at_every_message(tmp_path: Path, for_good: bool) -> None:
    names = messages_of_an_increment(tmp_path / "counting")
    world = World(tmp_path / "cut", seed=3)
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    # The first message opens the session, which is the runner's to report.
    for position in range(2, len(names) + 2):
        world.churn(vm_id)
        wire = Wire(world)
        wire.cut_at, wire.for_good = position, for_good
        patience = {"policy": IMPATIENT, "undo_seconds": 0.2} if for_good else {}
        result = world.backup(vm_id, **patience)  # type: ignore[arg-type]
        where = f"message {position}, {names[position - 1] if position <= len(names) else 'beyond'}"
        assert result.error is None or isinstance(result.error, (SessionLost, HostUnreachable)), where
        world.before = None
        unmarked = [
            one for one in world.model.checkpoints.all(vm_id, hidden=True) if not parse_mark(one.name)
        ]
        if unmarked:
            # It was made, but could not be named: it may be anybody's until somebody decides.
            assert where.endswith("New-HvpsCheckpoint: rename")
            assert result.exit_code is not ExitCode.DONE
            assert for_good or str(unmarked[0].checkpoint_id) in result.leftovers[0]
            assert not sweep(world, vm_id, ours=str(unmarked[0].checkpoint_id)).left
        elif not for_good:
            assert not result.leftovers, (where, result.leftovers)
        if not for_good:
            world.assert_clean(vm_id)
        world.churn(vm_id)
        world.good_backup(vm_id)
    assert world.assert_points_equal(vm_id) >= len(names)
    world.close()


def lose(world: World, message: str, *, dies: bool, first: Callable[[], None] = lambda: None) -> None:
    """Lose that message once: the connection breaks, or hvps dies."""

    def before(name: str) -> None:
        if name == message:
            first()
            world.before = None
            raise Died if dies else SessionLost("HV01", name, "connection reset")

    world.before = before


def test_a_checkpoint_whose_reply_a_limit_of_this_machine_kept_away_is_found(world: World) -> None:
    vm_id = world.vm(disks=(SMALL,))

    def before(name: str) -> None:
        if name == "New-HvpsCheckpoint: reply":
            world.before = None
            raise ConnectionLimit("HV01", "Too many open files")

    world.before = before
    world.model.set_knob("visibility_seconds", 0.5)
    result = world.backup(vm_id, appear_seconds=5.0)
    assert isinstance(result.error, ConnectionLimit)
    assert not result.leftovers
    world.assert_clean(vm_id, reference_points=0)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside another product's"])
@pytest.mark.parametrize("dies", [False, True], ids=["lost", "killed"])
def test_a_checkpoint_that_shows_late_after_its_reply_was_lost_is_found(
    world: World, dies: bool, others: bool
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    world.model.set_knob("visibility_seconds", 0.5)

    def make_another() -> None:
        if others:
            world.model.set_knob("visibility_seconds", 0.0)
            world.model.jobs.wait(world.model.checkpoints.create(vm_id, name=OTHERS))

    lose(world, "New-HvpsCheckpoint: reply", dies=dies, first=make_another)
    if dies:
        with pytest.raises(Died):
            world.backup(vm_id)
    else:
        result = world.backup(vm_id, appear_seconds=5.0)
        assert isinstance(result.error, SessionLost)
        assert not result.leftovers
        assert names(world, vm_id) == [OTHERS] * others
    world.churn(vm_id)
    result = world.backup(vm_id, appear_seconds=5.0)
    assert not result.leftovers
    assert names(world, vm_id) == [OTHERS] * others
    assert isinstance(result.error, Gated) is others
    world.assert_clean(vm_id)
    world.assert_points_equal(vm_id)


def names(world: World, vm_id: UUID) -> list[str]:
    return [one.name for one in world.model.checkpoints.all(vm_id, hidden=True)]


@pytest.mark.parametrize("dies", [False, True], ids=["lost", "killed"])
def test_an_unmarked_newcomer_is_named_and_never_removed(world: World, dies: bool) -> None:
    """The run died between making its checkpoint and naming it, or before another product made one."""
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)

    lose(world, "New-HvpsCheckpoint: rename", dies=dies)
    if dies:
        with pytest.raises(Died):
            world.backup(vm_id)
    else:
        assert world.backup(vm_id).leftovers
    (newcomer,) = world.model.checkpoints.all(vm_id, hidden=True)
    for _ in range(2):
        nightly = world.backup(vm_id)
        assert nightly.exit_code is ExitCode.HOST_NOT_CLEAN
        assert [str(newcomer.checkpoint_id) in line for line in nightly.leftovers] == [True]
        assert "hvps host sweep" in nightly.leftovers[0]
        assert [one.checkpoint_id for one in world.model.checkpoints.all(vm_id)] == [newcomer.checkpoint_id]
    assert sweep(world, vm_id).exit_code is ExitCode.HOST_NOT_CLEAN
    assert sweep(world, vm_id, ours=str(newcomer.checkpoint_id)).exit_code is ExitCode.DONE
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


def test_another_products_checkpoint_after_a_death_stays(world: World) -> None:
    """The run died before its checkpoint was made, so that the only new one is another product's."""
    vm_id = world.vm(disks=(SMALL,))
    world.good_backup(vm_id)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("MAKE_CHECKPOINT", "before"), die))
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name=OTHERS))
    result = world.backup(vm_id)
    assert result.exit_code is ExitCode.HOST_NOT_CLEAN
    assert [OTHERS in line for line in result.leftovers] == [True]
    assert names(world, vm_id) == [OTHERS]
    assert sweep(world, vm_id, not_ours=str(world.model.checkpoints.all(vm_id)[0].checkpoint_id)).left == ()
    assert names(world, vm_id) == [OTHERS]


class FullStore(LocalStore):
    """A store that is full once it has taken ``left`` objects of any kind."""

    left = 0

    def _take(self, name: str) -> None:
        if not name.startswith("leases") and not name.startswith("runs"):
            FullStore.left -= 1
            if FullStore.left < 0:
                raise NoSpace(self.url, "write", name, "no space left on device")

    def put(self, name: str, data: bytes) -> None:
        self._take(name)
        super().put(name, data)

    def sink(self, name: str) -> LocalSink:
        self._take(name)
        return super().sink(name)


def test_a_disk_full_at_every_write_costs_that_run_only(world: World) -> None:
    vm_id = world.vm(disks=(SMALL, SMALL))
    world.good_backup(vm_id)
    full = 0
    for room in itertools.count():
        world.churn(vm_id)
        FullStore.left = room
        with open_on_store(FullStore(world.store)) as tight:
            result = world.backup(vm_id, repository=tight)
        assert not world.model.checkpoints.all(vm_id, hidden=True)
        assert not world.model.driver.attached()
        if result.error is None and not result.warnings:
            break
        full += 1
        if result.point_id is None:
            assert isinstance(result.error, NoSpace)
            assert result.exit_code is ExitCode.NO_SPACE
    # Shells, intent, checkpoint, packs, index, manifest, intent, reference point, ids, settled.
    assert full >= 10
    world.reopen()
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)
