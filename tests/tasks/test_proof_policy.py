"""Hosts whose build was not proved have every point proved whole; a proof that does not fit is left out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import ExitCode, TrackingLied
from hvpsbridge.sim.model.knobs import HOSTILE
from hvpsbridge.tasks.host_records import HostRecords, IdWay
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.transfer.limits import SharedLimits
from hvpsbridge.tasks.transfer.proof_time import MEASURED_SECONDS, ProofLeftOutError, ProofTime
from hvpsbridge.units import KIB, MIB
from tests.tasks.test_backup_tracking import troubled_rounds
from tests.tasks.world import SLOT, Steps, World

SIZE = 4 * MIB
BUILD = "10.0.20348.2700"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def proved_bytes(world: World, rounds: int, **options: object) -> list[int]:
    """How much of the disk each of some backups proved."""
    vm_id = world.vm(disks=(SIZE,))
    proved = []
    for _ in range(rounds):
        (disk,) = world.good_backup(vm_id, **options).disks
        proved.append(disk.proved_bytes)
        world.churn(vm_id)
    return proved


def test_until_a_build_is_proved_every_point_is_proved_whole(world: World) -> None:
    assert proved_bytes(world, 5, proof=ProofPolicy.AUTO) == [SIZE] * 5


def test_on_a_proved_build_two_increments_are_proved_whole_and_then_a_sample(world: World) -> None:
    world.records.save(world.host().host_info(), proved=NOON, way=IdWay.FROZEN)
    assert proved_bytes(world, 4, proof=ProofPolicy.AUTO) == [0, SIZE, SIZE, SIZE // 16]


def test_a_playbook_can_declare_a_build_proved(world: World) -> None:
    declared = {"proof": ProofPolicy.AUTO, "proved_builds": (BUILD,)}
    assert proved_bytes(world, 4, **declared) == [0, SIZE, SIZE, SIZE // 16]


def test_an_update_of_windows_starts_again(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.records.save(world.host().host_info(), proved=NOON, way=IdWay.FROZEN)
    for _ in range(4):
        world.good_backup(vm_id, proof=ProofPolicy.AUTO)
        world.churn(vm_id)
    world.model.nodes.get().os_revision = 2762
    for proof in (ProofPolicy.AUTO, ProofPolicy.SAMPLE):
        (disk,) = world.good_backup(vm_id, proof=proof).disks
        assert (disk.mode, disk.proved_bytes) == (Mode.INCREMENTAL, SIZE)
        world.churn(vm_id)
    assert world.good_backup(vm_id).disks[0].proved_bytes == SIZE // 16
    assert world.repository.catalog.points(vm_id)[-1].manifest.os_revision == 2762


def test_a_note_says_why_points_are_proved(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    seen = Steps()
    world.good_backup(vm_id, proof=ProofPolicy.AUTO, observer=seen)
    assert [note for note in seen.notes if f"Windows {BUILD} does not count as proved on HV01" in note]


def unproved_notes(world: World, *vms: UUID) -> list[str]:
    seen = Steps()
    for vm_id in vms:
        world.good_backup(vm_id, proof=ProofPolicy.AUTO, observer=seen)
    return [note for note in seen.notes if "does not count as proved" in note]


def test_the_note_comes_once_for_a_host_in_a_run(world: World) -> None:
    vms = [world.vm(name) for name in ("one", "two", "three")]
    (note,) = unproved_notes(world, *vms)
    assert "docs/real-host.md" in note
    # In the next run again.
    world.shared = SharedLimits(records=world.records)
    assert len(unproved_notes(world, *vms)) == 1
    # An update of Windows while hvps runs is another build.
    world.model.nodes.get().os_revision = 2762
    (note,) = unproved_notes(world, *vms)
    assert "10.0.20348.2762" in note


def test_a_night_on_an_unproved_build_ends_well(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    for _ in range(3):
        result = world.good_backup(vm_id, proof=ProofPolicy.AUTO)
        assert (result.exit_code, result.warnings) == (ExitCode.DONE, ())
        world.churn(vm_id)


@pytest.mark.parametrize("knob", ["new_id_of_freeze", "info_without_id"])
def test_a_night_of_ids_that_were_not_proved_has_one_warning_with_its_remedy(world: World, knob: str) -> None:
    world.model.set_knob(knob, True)
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id, proof=ProofPolicy.AUTO)
    for _ in range(3):
        world.churn(vm_id)
        result = world.good_backup(vm_id, proof=ProofPolicy.AUTO)
        assert result.exit_code is ExitCode.DEGRADED
        (warning,) = result.warnings
        assert "hvps host prove --guest" in warning


def test_an_update_in_a_chain_is_proved_whole_until_the_new_build_is_proved(world: World) -> None:
    """Nothing of the old build counts for the new one; and if the update is removed, it counts again."""
    vm_id = world.vm(disks=(SIZE,))

    def rounds(count: int) -> list[int]:
        proved = []
        for _ in range(count):
            (disk,) = world.good_backup(vm_id, proof=ProofPolicy.AUTO).disks
            proved.append(disk.proved_bytes)
            world.churn(vm_id)
        return proved

    world.records.save(world.host().host_info(), proved=NOON, way=IdWay.FROZEN)
    assert rounds(4) == [0, SIZE, SIZE, SIZE // 16]
    world.model.nodes.get().os_revision = 2762
    assert rounds(4) == [SIZE] * 4
    world.records.save(world.host().host_info(), proved=NOON, way=IdWay.FROZEN)
    assert rounds(1) == [SIZE // 16]
    world.model.nodes.get().os_revision = 2700
    assert rounds(1) == [SIZE // 16]
    world.assert_points_equal(vm_id)


def test_a_host_that_hides_its_update_never_counts_as_proved(world: World) -> None:
    world.model.nodes.get().os_revision = None
    world.records.save(world.host().host_info(), proved=NOON, way=IdWay.REFERENCE)
    vm_id = world.vm(disks=(SIZE,))
    (note,) = unproved_notes(world, vm_id)
    assert "does not say which update" in note
    for _ in range(3):
        world.churn(vm_id)
        (disk,) = world.good_backup(vm_id, proof=ProofPolicy.AUTO).disks
        assert disk.proved_bytes == SIZE
    world.churn(vm_id)
    declared = world.good_backup(vm_id, proof=ProofPolicy.AUTO, proved_builds=("10.0.20348",))
    assert declared.disks[0].proved_bytes == SIZE // 16


def test_another_process_knows_what_was_proved(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    HostRecords(folder).save(world.host().host_info(), proved=NOON, way=IdWay.FROZEN)
    vm_id = world.vm(disks=(SIZE,))
    proved = []
    for _ in range(4):
        world.reopen()
        world.shared = SharedLimits(records=HostRecords(folder))
        (disk,) = world.good_backup(vm_id, proof=ProofPolicy.AUTO).disks
        proved.append(disk.proved_bytes)
        world.churn(vm_id)
    assert proved == [0, SIZE, SIZE, SIZE // 16]


def lie(world: World, vm_id: UUID, knob: str) -> None:
    """Begin to lie, and do what the lie is about."""
    world.model.set_knob(knob, HOSTILE[knob])
    for place in range(0, SIZE, SIZE // 8):
        world.model.guests.write(vm_id, SLOT, place, world.chance.randbytes(64 * KIB))
    if knob == "unmap_unreported":
        world.model.guests.unmap(vm_id, SLOT, SIZE // 2, SIZE // 8)
    if knob == "power_loss_forgets":
        world.model.vms.set_state(vm_id, "power_off")
        world.model.vms.set_state(vm_id, "start")


def write_apart(world: World, vm_id: UUID) -> None:
    """Enough ranges that some are reported: an empty answer is compared."""
    for place in range(0, 768 * KIB, 128 * KIB):
        world.model.guests.write(vm_id, SLOT, place, world.chance.randbytes(4 * KIB))


@pytest.mark.parametrize("knob", ["missing_changes", "power_loss_forgets", "unmap_unreported"])
@pytest.mark.parametrize("honest_rounds", [0, 3])
def test_a_lie_on_a_proved_build_is_found_by_a_proof_or_the_rotating_audit(
    world: World, knob: str, honest_rounds: int
) -> None:
    """On a build that was proved, and then is not what it was: within the two proofs, or 16 audits after."""
    world.records.save(world.host().host_info(), proved=NOON, way=IdWay.FROZEN)
    world.model.set_knob("over_report", 0.0)
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id, proof=ProofPolicy.AUTO)
    for _ in range(honest_rounds):
        world.churn(vm_id)
        world.good_backup(vm_id, proof=ProofPolicy.AUTO)
    lie(world, vm_id, knob)
    count = 0
    while count < 16:
        write_apart(world, vm_id)
        result = world.backup(vm_id, proof=ProofPolicy.AUTO)
        count += 1
        assert result.error is None, result.error
        if result.exit_code is ExitCode.DAMAGE:
            break
        assert result.disks[0].reason is Reason.TRACKED
    assert result.exit_code is ExitCode.DAMAGE
    assert honest_rounds or count == 1
    assert isinstance(result.conditions[0], TrackingLied)
    assert result.disks[0].reason is Reason.TRACKING_LIED
    world.assert_point_equal(world.repository.catalog.points(vm_id)[-1])
    # It is compared from then on, until it was right twice.
    world.churn(vm_id)
    assert world.backup(vm_id, proof=ProofPolicy.AUTO).disks[0].mode is Mode.COMPARE
    world.assert_point_equal(world.repository.catalog.points(vm_id)[-1])


def test_an_empty_answer_that_was_wrong_is_a_warning(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.model.set_knob("empty_answers", True)
    result = world.good_backup(vm_id)
    assert (result.disks[0].reason, result.warnings) == (Reason.EMPTY_ANSWER, ())
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(64 * KIB))
    result = world.good_backup(vm_id)
    assert result.exit_code is ExitCode.DEGRADED
    assert "change tracking reported no changes, but 64 KiB differ" in result.warnings[0]
    world.assert_points_equal(vm_id)


def test_an_id_that_survives_an_apply_is_not_even_asked(world: World) -> None:
    world.records.save(world.host().host_info(), proved=NOON, way=IdWay.FROZEN)
    world.model.set_knob("ids_survive_apply", True)
    assert Reason.TRACKING_LIED not in {
        disk.reason for result in troubled_rounds(world, ProofPolicy.AUTO) for disk in result.disks
    }


def test_a_proof_that_does_not_fit_is_left_out_and_the_point_is_written_and_degraded(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.records.save(world.host().host_info(), hash_bytes=1.0)
    result = world.good_backup(vm_id)
    assert result.exit_code is ExitCode.DEGRADED
    (warning,) = result.warnings
    assert "written, but not proved: hashing" in warning
    assert "does not fit into the age of the checkpoint" in warning
    (disk,) = world.repository.catalog.points(vm_id)[-1].disks
    assert disk.proof is None
    world.assert_points_equal(vm_id)
    # It earned no trust, so the next ones are due as before.
    world.records.save(world.host().host_info(), hash_bytes=0.0)
    for proved in (SIZE, SIZE, SIZE // 16):
        world.churn(vm_id)
        assert world.good_backup(vm_id).disks[0].proved_bytes == proved


@pytest.mark.parametrize(("rate", "fits"), [(100.0, True), (10.0, False)])
def test_a_proof_is_left_out_once_its_rate_shows_that_it_does_not_fit(rate: float, fits: bool) -> None:
    now = 0.0
    proof = ProofTime(10_000, lambda: 200.0 - now, clock=lambda: now)
    proof.check()
    now = MEASURED_SECONDS - 1
    proof.hashed(1)
    proof.check()  # too early to tell
    now = MEASURED_SECONDS
    proof.hashed(int(rate * now))
    if fits:
        proof.check()
    else:
        with pytest.raises(ProofLeftOutError):
            proof.check()


def test_a_measured_rate_counts_more_than_a_remembered_one() -> None:
    now = 0.0
    proof = ProofTime(10_000, lambda: 3600.0 - now, 1e6, clock=lambda: now)
    proof.check()
    now, count = 60.0, 60
    proof.hashed(count)
    with pytest.raises(ProofLeftOutError, match="1 B/s"):
        proof.check()
