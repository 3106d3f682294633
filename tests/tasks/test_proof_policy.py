"""Hosts whose build was not proved have every point proved whole; a proof that does not fit is left out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hvpsbridge.errors import ExitCode
from hvpsbridge.tasks.host_records import IdWay
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.transfer.proof_time import MEASURED_SECONDS, ProofLeftOutError, ProofTime
from hvpsbridge.units import MIB
from tests.tasks.world import Steps, World

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
    assert [note for note in seen.notes if f"Windows {BUILD} was never proved" in note]


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
