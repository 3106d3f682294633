"""A lock that stays is told apart from one that passes, and a VM that stays busy is not skipped for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.results import Consistency
from hvpsbridge.errors import ExitCode, FileLocked, Gated, HostError, JobBusy, StaysBusy, VmBusy
from hvpsbridge.formats.ledger import LedgerKind
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.backup.busy import PATIENT_DAYS, days_without_point
from hvpsbridge.tasks.policy import ConsistencyPolicy
from hvpsbridge.tasks.results import Outcome
from hvpsbridge.units import MIB
from tests.tasks.test_others import forge
from tests.tasks.world import World

CREATE = "Msvm_VirtualSystemSnapshotService.CreateSnapshot"
FALL_BACK = ConsistencyPolicy.APPLICATION_OR_CRASH


@pytest.fixture
def vm_id(world: World) -> UUID:
    return world.vm(disks=(2 * MIB,))


def ran(world: World, vm_id: UUID, days_ago: float) -> None:
    """A run that came to nothing, some days ago."""
    forge(
        world,
        vm_id,
        LedgerKind.RUN_STARTED,
        at=datetime.now(UTC) - timedelta(days=days_ago),
        shell_id=str(uuid4()),
    )


def locked(message: str, native: int | None = 0x80070020) -> FileLocked:
    return FileLocked("HV01", "New-HvpsCheckpoint", "Hvps.FileLocked", "ResourceBusy", native, message)


# -- a lock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_locked_file_is_an_error_of_its_own_that_names_the_file(
    world: World, vm_id: UUID, language: str
) -> None:
    world.model.set_knob("language", language)
    world.model.faults.arm("checkpoint_file_locked", 2)
    result = world.backup(vm_id, consistency=ConsistencyPolicy.APPLICATION)
    assert isinstance(result.error, FileLocked)
    path = world.model.disks.layer(world.model.disks.drives(vm_id)[0].layer or 0).path
    assert f"{path} is in use" in str(result.error)
    assert "open" in result.error.remedy
    assert result.exit_code is ExitCode.VM_FAILED
    assert not result.leftovers


@pytest.mark.parametrize(
    ("message", "file"),
    [
        ("could not create C:\\VMs\\web 1\\a.vhdx: in use. Error code: '32774'", "C:\\VMs\\web 1\\a.vhdx"),
        ("Datei '\\\\files\\vms\\db_7.avhdx' wird verwendet", "\\\\files\\vms\\db_7.avhdx"),
        ("C:\\a.VMCX", "C:\\a.VMCX"),
    ],
)
def test_the_file_is_found_in_texts_of_any_language(message: str, file: str) -> None:
    assert f": {file} is in use: {message}" in locked(message).describe()


@pytest.mark.parametrize("message", ["in use", "", "C:\\Windows\\x.dll", "C:\\" * 1000, "a.vhdx"])
def test_a_text_without_a_file_stays_as_it_is(message: str) -> None:
    assert "is in use:" not in locked(message).describe()


# -- crash consistency -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "locked (0x80070020)"])
def test_a_job_that_failed_as_busy_is_tried_once_with_crash_consistency(
    world: World, vm_id: UUID, text: str
) -> None:
    world.model.faults.arm_call(CREATE, job=True, code=32774, text=text)
    result = world.backup(vm_id, consistency=FALL_BACK)
    assert result.error is None
    assert result.consistency == Consistency.CRASH
    world.assert_points_equal(vm_id)
    world.assert_clean(vm_id)


def test_it_is_tried_only_once(world: World, vm_id: UUID) -> None:
    world.model.faults.arm_call(CREATE, 5, job=True, code=32774)
    result = world.backup(vm_id, consistency=FALL_BACK)
    assert type(result.error) is JobBusy
    assert world.model.faults.armed() == {CREATE: 3}
    assert not result.leftovers


@pytest.mark.parametrize("policy", [ConsistencyPolicy.CRASH, ConsistencyPolicy.APPLICATION])
def test_where_only_one_consistency_is_allowed_it_is_not_tried_again(
    world: World, vm_id: UUID, policy: ConsistencyPolicy
) -> None:
    world.model.faults.arm_call(CREATE, 2, job=True, code=32774)
    assert type(world.backup(vm_id, consistency=policy).error) is JobBusy
    assert world.model.faults.armed() == {CREATE: 1}


def test_a_call_that_is_refused_is_not_tried_again(world: World, vm_id: UUID) -> None:
    """The host did not begin anything, so that the guest cannot be the cause."""
    world.model.faults.arm_call(CREATE, 2, error="busy")
    assert type(world.backup(vm_id, consistency=FALL_BACK).error) is VmBusy
    assert world.model.faults.armed() == {CREATE: 1}


# -- for days ----------------------------------------------------------------------------------------------


def busy(world: World, vm_id: UUID, kind: type[Exception]) -> None:
    if kind is Gated:
        world.model.jobs.wait(
            world.model.checkpoints.create(vm_id, name="Other Product", kind=SnapshotType.Recovery)
        )
    else:
        world.model.faults.arm_call(CREATE, 100, error="busy")


@pytest.mark.parametrize("kind", [Gated, VmBusy])
def test_a_vm_that_is_busy_for_days_is_a_failure_that_says_so(
    world: World, vm_id: UUID, kind: type[Exception]
) -> None:
    busy(world, vm_id, kind)
    first = world.backup(vm_id)
    assert isinstance(first.error, kind)
    assert not [one for one in first.problems if isinstance(one, StaysBusy)]
    for day in range(1, PATIENT_DAYS):
        ran(world, vm_id, day)
    result = world.backup(vm_id)
    (lasting,) = [one for one in result.problems if isinstance(one, StaysBusy)]
    assert lasting.days == PATIENT_DAYS
    assert f"on {PATIENT_DAYS} days" in str(lasting)
    assert result.exit_code is ExitCode.VM_FAILED
    assert result.outcome is Outcome.FAILED


def test_a_point_ends_the_counting(world: World, vm_id: UUID) -> None:
    for day in range(PATIENT_DAYS + 2):
        ran(world, vm_id, day)
    assert days_without_point(world.repository, vm_id) == PATIENT_DAYS + 2
    world.good_backup(vm_id)
    assert days_without_point(world.repository, vm_id) == 0
    busy(world, vm_id, Gated)
    result = world.backup(vm_id)
    assert isinstance(result.error, Gated)
    assert result.exit_code is ExitCode.GATED


def test_many_runs_on_one_day_are_no_sign_of_a_lasting_state(world: World, vm_id: UUID) -> None:
    busy(world, vm_id, Gated)
    for _ in range(6):
        assert isinstance(world.backup(vm_id).error, Gated)


def test_another_error_is_left_as_it_is(world: World, vm_id: UUID) -> None:
    for day in range(PATIENT_DAYS + 2):
        ran(world, vm_id, day)
    world.model.faults.arm("checkpoint_no_space")
    result = world.backup(vm_id)
    assert isinstance(result.error, HostError)
    assert not [one for one in result.problems if isinstance(one, StaysBusy)]
