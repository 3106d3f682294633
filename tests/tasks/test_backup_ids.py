"""Reference points whose ids are not those of the frozen disks: compared until proved, never a wrong point.

The guest writes at full speed: at every message to the host, from the freeze over the read to the conversion
and after it, each time to another place.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, TrackingLied
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.host_records import IdWay
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.tasks.transfer.limits import SharedLimits
from hvpsbridge.units import KIB, MIB
from tests.tasks.test_backup_tracking import troubled_rounds
from tests.tasks.world import SLOT, Died, Steps, World, die

SIZE = 4 * MIB
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BUILD = "10.0.20348.2700"
# Other ids, but of the moment of the checkpoint.
RIGHT = ["new_id_of_freeze", "frozen_id_of_last_point", "info_without_id"]
COMPARE = (Mode.COMPARE, Reason.IDS_UNPROVED)
INCREMENT = (Mode.INCREMENTAL, Reason.TRACKED)


class FullSpeed:
    """A guest that writes at every message of hvps to the host."""

    def __init__(self, world: World, vm_id: UUID) -> None:
        self._world, self._vm_id = world, vm_id
        self._places = list(range(0, SIZE, 16 * KIB))
        world.chance.shuffle(self._places)
        self._next = 0

    def write(self, name: str = "") -> None:
        place = self._places[self._next % len(self._places)]
        self._next += 1
        self._world.model.guests.write(self._vm_id, SLOT, place, self._world.chance.randbytes(4 * KIB))


@pytest.fixture
def vm_id(world: World) -> Iterator[UUID]:
    """A VM whose guest writes at full speed."""
    made = world.vm(disks=(SIZE,))
    world.before = FullSpeed(world, made).write
    yield made
    world.before = None


def prove(world: World, way: IdWay = IdWay.REFERENCE) -> None:
    """What ``hvps host prove`` leaves."""
    world.records.save(world.host().host_info(), proved=NOON, way=way)


def decided(result: BackupResult) -> tuple[Mode, Reason]:
    assert result.error is None, result.error
    (disk,) = result.disks
    return disk.mode, disk.reason


def rounds(world: World, vm_id: UUID, count: int, **options: object) -> list[tuple[Mode, Reason]]:
    seen = []
    for _ in range(count):
        result = world.good_backup(vm_id, **options)
        seen.append(decided(result))
        world.assert_points_equal(vm_id)
    return seen


@pytest.mark.parametrize("knob", RIGHT)
def test_other_ids_are_compared_until_they_are_proved(world: World, vm_id: UUID, knob: str) -> None:
    world.model.set_knob(knob, True)
    first = world.good_backup(vm_id)
    assert "ids are not those of the frozen disks" in first.warnings[0]
    assert rounds(world, vm_id, 3) == [COMPARE] * 3
    (plan,) = world.good_backup(vm_id).disks
    assert f"has not shown for Windows {BUILD} that such an id misses nothing" in plan.reason_text
    prove(world, IdWay.FROZEN)
    assert rounds(world, vm_id, 1) == [COMPARE]
    prove(world)
    assert rounds(world, vm_id, 2) == [INCREMENT] * 2
    assert world.good_backup(vm_id).exit_code is ExitCode.DONE


@pytest.mark.parametrize("knob", RIGHT)
def test_the_first_two_increments_from_such_ids_are_proved_whole_and_then_audited(
    world: World, vm_id: UUID, knob: str
) -> None:
    world.model.set_knob(knob, True)
    prove(world)
    world.good_backup(vm_id)
    world.good_backup(vm_id)
    proved = []
    for _ in range(3):
        result = world.good_backup(vm_id)
        assert decided(result) == INCREMENT
        proved.append(result.disks[0].proved_bytes)
    assert proved == [SIZE, SIZE, SIZE // 16] or proved[:2] == [SIZE, SIZE // 16]
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize("knob", RIGHT)
def test_the_matrix_of_troubles_runs_on_such_ids(world: World, knob: str) -> None:
    world.model.set_knob(knob, True)
    prove(world)
    reasons = [decided(result)[1] for result in troubled_rounds(world, ProofPolicy.SAMPLE)]
    assert reasons.count(Reason.TRACKED) >= 5
    assert Reason.IDS_UNPROVED not in reasons


def test_an_update_of_windows_is_compared_again(world: World, vm_id: UUID) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    prove(world)
    assert INCREMENT in rounds(world, vm_id, 4)
    world.model.nodes.get().os_revision = 2762
    assert rounds(world, vm_id, 2) == [COMPARE] * 2
    prove(world)
    assert rounds(world, vm_id, 1) == [INCREMENT]


def test_points_tell_a_machine_without_state_what_was_proved(world: World, vm_id: UUID) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    prove(world)
    rounds(world, vm_id, 5)
    world.shared = SharedLimits()
    assert rounds(world, vm_id, 2) == [INCREMENT] * 2
    world.model.nodes.get().os_revision = 2762
    assert rounds(world, vm_id, 1) == [COMPARE]


def test_a_playbook_can_declare_that_such_ids_were_proved(world: World, vm_id: UUID) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    rounds(world, vm_id, 2)
    assert rounds(world, vm_id, 1, proved_builds=(BUILD,)) == [COMPARE]
    assert rounds(world, vm_id, 1, proved_builds=(f"{BUILD}:reference",)) == [INCREMENT]


@pytest.mark.parametrize("frozen", ["", "info_without_id"])
def test_a_late_id_is_found_by_the_compare_and_never_used(world: World, vm_id: UUID, frozen: str) -> None:
    world.model.set_knob("new_id_at_conversion", True)
    if frozen:
        world.model.set_knob(frozen, True)
    seen = rounds(world, vm_id, 4)
    assert Reason.IDS_LATE in {reason for _, reason in seen}
    assert {mode for mode, _ in seen[1:]} == {Mode.COMPARE}
    prove(world)
    assert Mode.INCREMENTAL not in {mode for mode, _ in rounds(world, vm_id, 2)}
    # A machine without state knows it from the points.
    world.shared = SharedLimits()
    world.records = world.shared.records
    prove(world)
    declared = rounds(world, vm_id, 2, proved_builds=(f"{BUILD}:reference",))
    assert Mode.INCREMENTAL not in {mode for mode, _ in declared}


def test_a_late_id_that_somebody_declared_proved_costs_an_alarm_and_no_point(
    world: World, vm_id: UUID
) -> None:
    world.model.set_knob("new_id_at_conversion", True)
    prove(world)
    lied = None
    for _ in range(6):
        result = world.backup(vm_id)
        world.assert_points_equal(vm_id)
        if result.exit_code is ExitCode.DAMAGE:
            lied = result
            break
    assert lied is not None
    assert decided(lied) == (Mode.COMPARE, Reason.TRACKING_LIED)
    assert isinstance(lied.conditions[0], TrackingLied)
    assert world.records.load(world.host().host_info()).refuted is not None
    after = rounds(world, vm_id, 3, proved_builds=(f"{BUILD}:reference",))
    assert Mode.INCREMENTAL not in {mode for mode, _ in after}
    # Nor for another VM of this host and build.
    other = world.vm("other", disks=(SIZE,))
    world.before = FullSpeed(world, other).write
    assert Mode.INCREMENTAL not in {mode for mode, _ in rounds(world, other, 4)}


def test_tracking_that_starts_with_the_first_reference_point_costs_one_compare(
    world: World, vm_id: UUID
) -> None:
    world.model.set_knob("tracking_starts_at_conversion", True)
    assert rounds(world, vm_id, 4) == [
        (Mode.FULL, Reason.FIRST_BACKUP),
        (Mode.COMPARE, Reason.IDS_MISSING),
        INCREMENT,
        INCREMENT,
    ]


def test_a_reference_point_without_any_id_is_destroyed(world: World, vm_id: UUID) -> None:
    world.model.set_knob("tracking_starts_at_conversion", True)
    world.model.set_knob("conversion_drops_disk", True)
    for _ in range(2):
        assert any("has no ids of some disks" in text for text in world.good_backup(vm_id).warnings)
        assert not world.model.reference_points.all(vm_id)


def test_ids_that_are_equal_again_are_used_again(world: World, vm_id: UUID) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    rounds(world, vm_id, 3)
    world.model.set_knob("new_id_of_freeze", False)
    rounds(world, vm_id, 1)
    assert rounds(world, vm_id, 2) == [INCREMENT] * 2


@pytest.fixture
def dead_leave_nothing_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead process closes no reader."""
    monkeypatch.setattr(DiskReader, "abandon", lambda self: None)


@pytest.mark.usefixtures("dead_leave_nothing_behind_them")
@pytest.mark.parametrize("step", list(Step), ids=lambda step: step.name.lower())
def test_a_death_at_any_step_costs_no_point_and_no_increment_misses_a_change(
    world: World, vm_id: UUID, step: Step
) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    prove(world)
    rounds(world, vm_id, 2)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps((step.name, "before"), die))
    world.reopen()
    world.assert_points_equal(vm_id)
    result = world.backup(vm_id)
    assert result.error is None
    if step is Step.RECORD_REFERENCE_POINT:
        # Nothing shows whose the new reference point is: a person decides.
        assert result.exit_code is ExitCode.HOST_NOT_CLEAN
        assert "cannot tell whether reference point" in result.leftovers[0]
    else:
        assert not result.leftovers
        world.assert_clean(vm_id)
    for _ in range(2):
        assert decided(world.backup(vm_id, proof=ProofPolicy.SAMPLE)) == INCREMENT
    world.assert_points_equal(vm_id)
