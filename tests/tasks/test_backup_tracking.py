"""Change tracking that is coarse, lost or wrong costs more reading, with a reason, never a wrong point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hvpsbridge.contract.readings import DigestPage
from hvpsbridge.errors import DiskUnreadable, ExitCode, OperationFailed, TrackingLied
from hvpsbridge.sim.model.knobs import HOSTILE
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.units import KIB, MIB
from tests.tasks.model_host import ModelHost
from tests.tasks.world import SLOT, Died, Steps, World, die

SIZE = 4 * MIB
# Under these tracking leaves changes out without any sign. What it leaves out elsewhere than in chunks
# that are touched anyway is found by proofs only, so their rounds are proved whole once trust is earned.
# These tests show as much with short waits.
SHORTER = {"merge_seconds": 0.4, "visibility_seconds": 0.3, "call_seconds": 0.005}
SILENT_LIES = {"missing_changes", "unmap_unreported", "power_loss_forgets", "ids_survive_apply"}


def one(result: BackupResult) -> tuple[Mode, Reason]:
    assert result.error is None, result.error
    (disk,) = result.disks
    return disk.mode, disk.reason


def troubled_rounds(world: World, policy_after: ProofPolicy) -> list[BackupResult]:
    """The life of a VM with everything that strains tracking, and a backup after each event."""
    vm_id = world.vm(disks=(SIZE,))
    results = []

    def backup() -> None:
        proof = ProofPolicy.SAMPLE if len(results) < 3 else policy_after
        result = world.backup(vm_id, proof=proof, wait=20.0)
        assert result.error is None, result.error
        results.append(result)
        world.assert_point_equal(world.repository.catalog.points(vm_id)[-1])
        world.assert_clean(vm_id)

    backup()
    world.churn(vm_id, writes=6)
    backup()
    world.churn(vm_id, writes=6)
    world.model.guests.unmap(vm_id, SLOT, 0, 512 * KIB)
    backup()
    world.churn(vm_id)
    world.model.vms.set_state(vm_id, "stop")
    world.model.vms.set_state(vm_id, "start")
    world.churn(vm_id)
    backup()
    world.churn(vm_id)
    world.model.vms.set_state(vm_id, "power_off")
    world.model.vms.set_state(vm_id, "start")
    backup()
    world.churn(vm_id)
    job = world.model.jobs.wait(
        world.model.checkpoints.create(vm_id, name="mine", kind=SnapshotType.Standard)
    )
    world.churn(vm_id)
    backup()
    world.churn(vm_id)
    backup()
    mine = next(point for point in world.model.checkpoints.all(vm_id, hidden=True) if point.name == "mine")
    assert str(mine.checkpoint_id) == job.results["checkpoint"]
    world.model.vms.set_state(vm_id, "power_off")
    world.model.jobs.wait(world.model.checkpoints.apply(mine.checkpoint_id))
    world.model.vms.set_state(vm_id, "start")
    world.churn(vm_id)
    backup()
    world.model.jobs.wait(world.model.checkpoints.remove(mine.checkpoint_id))
    world.churn(vm_id)
    backup()
    world.churn(vm_id)
    backup()
    assert world.assert_points_equal(vm_id) == len(results)
    return results


def test_the_benign_host_is_incremental_wherever_nothing_happened(world: World) -> None:
    reasons = [one(result)[1] for result in troubled_rounds(world, ProofPolicy.SAMPLE)]
    assert reasons == [
        Reason.FIRST_BACKUP,
        Reason.TRACKED,
        Reason.TRACKED,
        Reason.TRACKED,  # a stop and a start
        Reason.TRACKED,  # a power loss
        Reason.CHECKPOINTS_CHANGED,  # a user's checkpoint
        Reason.TRACKED,
        Reason.CHECKPOINTS_CHANGED,  # applied
        Reason.CHECKPOINTS_CHANGED,  # removed
        Reason.TRACKED,
    ]


# A short read is an error for the reader, and a job that is gone does not tell what it made; a run that meets
# one fails.
@pytest.mark.parametrize("knob", sorted(HOSTILE.keys() - {"short_reads", "job_vanishes"}))
def test_no_hostile_knob_makes_a_wrong_point(world: World, knob: str) -> None:
    world.model.set_knob(knob, SHORTER.get(knob, HOSTILE[knob]))
    results = troubled_rounds(world, ProofPolicy.ALWAYS if knob in SILENT_LIES else ProofPolicy.SAMPLE)
    reasons = [one(result)[1] for result in results]
    match knob:
        case "empty_answers":
            assert Reason.TRACKED not in reasons
            assert reasons[1] is Reason.EMPTY_ANSWER
        case "conversion_drops_disk":
            assert reasons[1:] == [Reason.IDS_MISSING] * (len(reasons) - 1)
            assert "has no ids of some disks" in results[0].warnings[0]
            # They are of no use, and nothing would show whose they are.
            assert not world.model.reference_points.all(world.model.vms.all()[0].vm_id)
        case "new_id_at_conversion" | "new_id_of_freeze" | "frozen_id_of_last_point" | "info_without_id":
            assert Reason.TRACKED not in reasons
            assert "ids are not those" in results[0].warnings[0]
        case "reference_point_arrays_differ":
            assert reasons[1:] == [Reason.IDS_MISSING] * (len(reasons) - 1)
            assert "which ids belong to which disks" in results[0].warnings[0]
            # The newest one is known by its ids, though they are of no use.
            assert len(world.model.reference_points.all(world.model.vms.all()[0].vm_id)) == 1
        case "missing_changes":
            assert Reason.TRACKING_LIED in reasons
            lied = results[reasons.index(Reason.TRACKING_LIED)]
            assert lied.exit_code is ExitCode.DAMAGE


def test_arrays_that_differ_do_not_stop_the_clean_up_after_a_run_that_died(world: World) -> None:
    vm_id = world.vm(disks=(SIZE, SIZE))
    world.model.set_knob("reference_point_arrays_differ", True)
    for moment in (("CONVERT", "before"), ("RECORD_REFERENCE_POINT", "before")):
        with pytest.raises(Died):
            world.backup(vm_id, observer=Steps(moment, die))
        world.churn(vm_id)
        steps = Steps()
        result = world.backup(vm_id, observer=steps)
        assert not result.leftovers
        assert any("which ids belong to which disks" in note for note in steps.notes)
        assert {disk.reason for disk in result.disks} == {Reason.IDS_MISSING}
    world.assert_points_equal(vm_id)
    world.assert_clean(vm_id, reference_points=1)


def test_a_job_that_is_gone_fails_the_run_and_its_checkpoint_is_named(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.set_knob("job_vanishes", True)
    result = world.backup(vm_id)
    (unnamed,) = world.model.checkpoints.all(vm_id, hidden=True)
    assert isinstance(result.error, OperationFailed)
    assert [str(unnamed.checkpoint_id) in line for line in result.leftovers] == [True]
    world.model.set_knob("job_vanishes", False)
    assert world.backup(vm_id).exit_code is ExitCode.HOST_NOT_CLEAN
    assert [one.checkpoint_id for one in world.model.checkpoints.all(vm_id)] == [unnamed.checkpoint_id]


def test_a_short_read_fails_the_run_and_the_next_one_makes_the_point(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.set_knob("short_reads", 1.0)
    result = world.backup(vm_id)
    assert isinstance(result.error, DiskUnreadable), result.error
    assert "Hvps.ReadFailed" in repr(result.error)
    assert not result.leftovers
    assert not world.model.checkpoints.all(vm_id, hidden=True)
    world.model.set_knob("short_reads", 0.0)
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


def lying_world(world: World, rounds_before: int) -> tuple[object, BackupResult]:
    """A VM whose tracking, after honest rounds, leaves out every change but those of one chunk."""
    vm_id = world.vm(disks=(SIZE,))
    for _ in range(rounds_before):
        world.good_backup(vm_id)
        world.churn(vm_id)
    world.model.set_knob("over_report", 0.0)
    world.model.guests.write(vm_id, SLOT, 3 * MIB, b"\x01" * 64 * KIB)
    world.model.guests.write(vm_id, SLOT, 0, b"\x02" * 64 * KIB)
    query = world.model.driver.query_changes

    def partial(*asked: object, **options: object) -> object:
        answer = query(*asked, **options)  # type: ignore[arg-type]
        return type(answer)(answer.processed_bytes, answer.extents[:1])

    world.model.driver.query_changes = partial  # type: ignore[method-assign,assignment]
    return vm_id, world.backup(vm_id)  # type: ignore[arg-type]


def test_a_lie_within_the_first_two_increments_is_found_repaired_and_exits_7(world: World) -> None:
    vm_id, result = lying_world(world, rounds_before=1)
    assert one(result) == (Mode.COMPARE, Reason.TRACKING_LIED)
    (lied,) = result.conditions
    assert isinstance(lied, TrackingLied)
    assert lied.chunks >= 1
    assert result.exit_code is ExitCode.DAMAGE
    world.assert_clean(vm_id)  # type: ignore[arg-type]
    world.assert_points_equal(vm_id)  # type: ignore[arg-type]


def test_a_liar_is_compared_until_it_was_right_twice_and_then_proved_again(world: World) -> None:
    vm_id, _ = lying_world(world, rounds_before=1)
    del world.model.driver.query_changes  # honest from now on
    seen = []
    for _ in range(5):
        world.churn(vm_id)  # type: ignore[arg-type]
        result = world.good_backup(vm_id)  # type: ignore[arg-type]
        seen.append((one(result)[1], result.disks[0].proved_bytes == SIZE))
    assert seen == [
        (Reason.DISTRUSTED, True),
        (Reason.DISTRUSTED, True),
        (Reason.TRACKED, True),
        (Reason.TRACKED, True),
        (Reason.TRACKED, False),
    ]
    world.assert_points_equal(vm_id)  # type: ignore[arg-type]


def test_a_liar_that_lies_again_while_distrusted_stays_so(world: World) -> None:
    vm_id, _ = lying_world(world, rounds_before=1)
    world.model.guests.write(vm_id, SLOT, 2 * MIB, b"\x03" * 64 * KIB)  # type: ignore[arg-type]
    world.model.guests.write(vm_id, SLOT, 0, b"\x04" * 64 * KIB)  # type: ignore[arg-type]
    result = world.backup(vm_id)  # type: ignore[arg-type]
    assert one(result) == (Mode.COMPARE, Reason.TRACKING_LIED)
    assert result.exit_code is ExitCode.DAMAGE
    world.assert_points_equal(vm_id)  # type: ignore[arg-type]


def test_the_rotating_audit_finds_a_lie_within_one_round_and_then_compares_all(world: World) -> None:
    vm_id, result = lying_world(world, rounds_before=4)
    for _ in range(16):
        if result.exit_code is ExitCode.DAMAGE:
            break
        assert one(result)[1] is Reason.TRACKED
        world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(64 * KIB))  # type: ignore[arg-type]
        result = world.backup(vm_id)  # type: ignore[arg-type]
    assert one(result) == (Mode.COMPARE, Reason.TRACKING_LIED)
    world.assert_point_equal(world.repository.catalog.points(vm_id)[-1])  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["lost", "off"])
def test_tracking_lost_or_off_leads_to_a_compare_and_comes_back(world: World, what: str) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    number = world._drive(vm_id, SLOT)
    layer = world.model.disks.layer(number)
    if what == "lost":
        for epoch in layer.epochs:
            epoch.rct_id = None
    else:
        layer.epochs.clear()
        layer.tracking_enabled = False
    mode, reason = one(world.good_backup(vm_id))
    assert mode is Mode.COMPARE
    assert reason is Reason.TRACKING_UNUSABLE
    world.churn(vm_id)
    assert one(world.good_backup(vm_id))[0] is Mode.INCREMENTAL
    world.assert_points_equal(vm_id)


def test_a_wrong_bit_in_a_read_never_gets_into_a_patched_chunk(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    # Part of a chunk: the wrong bit is in the rest of it, which the host reads for the chunk's digest.
    world.model.set_knob("over_report", 0.0)
    world.model.guests.write(vm_id, SLOT, 1 * MIB, world.chance.randbytes(4 * KIB))
    world.model.faults.arm("read_corrupt", 1)
    result = world.good_backup(vm_id)
    assert result.disks[0].reread_chunks >= 1
    world.assert_points_equal(vm_id)


def test_a_wrong_bit_in_one_proof_is_no_lie_of_tracking(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    corrupt = Steps(("PROVE", "before"), lambda: world.model.faults.arm("read_corrupt", 1))
    result = world.good_backup(vm_id, observer=corrupt)
    assert one(result) == (Mode.INCREMENTAL, Reason.TRACKED)
    assert result.exit_code is ExitCode.DONE
    world.assert_points_equal(vm_id)


class WrongTwice:
    """Digests of a host whose first two answers are wrong, from :meth:`begin` on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._digests = ModelHost.digests
        self.looks = 0

    def begin(self) -> None:
        looker = self

        def digests(
            host: ModelHost, path: str, chunk_bytes: int, offset_bytes: int, length_bytes: int
        ) -> Iterator[DigestPage]:
            looker.looks += 1
            wrong = looker.looks <= 2
            for page in looker._digests(host, path, chunk_bytes, offset_bytes, length_bytes):
                yield DigestPage(page.first_chunk, bytes(len(page.digests))) if wrong else page

        self._monkeypatch.setattr(ModelHost, "digests", digests)


def test_wrong_bits_in_both_looks_of_a_proof_are_no_lie_of_tracking(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    wrong = WrongTwice(monkeypatch)
    result = world.good_backup(vm_id, observer=Steps(("PROVE", "before"), wrong.begin))
    assert wrong.looks == 3  # both wrong ones, and one at what was read
    assert one(result) == (Mode.INCREMENTAL, Reason.TRACKED)
    assert result.exit_code is ExitCode.DONE
    world.assert_points_equal(vm_id)


def test_wrong_bits_in_both_looks_of_a_compare_are_no_further_lie(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id, _ = lying_world(world, rounds_before=1)
    del world.model.driver.query_changes  # honest from now on
    world.churn(vm_id)  # type: ignore[arg-type]
    wrong = WrongTwice(monkeypatch)
    result = world.good_backup(vm_id, observer=Steps(("READ", "before"), wrong.begin))  # type: ignore[arg-type]
    assert wrong.looks >= 2
    assert one(result) == (Mode.COMPARE, Reason.DISTRUSTED)
    assert result.exit_code is ExitCode.DONE
    world.assert_points_equal(vm_id)  # type: ignore[arg-type]


def test_a_wrong_bit_in_a_full_read_is_found_by_a_proof_and_read_again(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(256 * KIB))
    corrupt = Steps(("READ", "before"), lambda: world.model.faults.arm("read_corrupt", 1))
    result = world.good_backup(vm_id, observer=corrupt, proof=ProofPolicy.ALWAYS)
    assert result.disks[0].reread_chunks == 1
    world.assert_points_equal(vm_id)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("query_fails", Reason.TRACKING_UNUSABLE), ("query_empty", Reason.EMPTY_ANSWER)],
)
def test_a_query_that_fails_or_says_nothing_is_followed_by_a_compare(
    world: World, fault: str, reason: Reason
) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.model.faults.arm(fault, 1)
    assert one(world.good_backup(vm_id)) == (Mode.COMPARE, reason)
    world.assert_points_equal(vm_id)


def test_ids_that_conversion_changes_once_cost_one_compare(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    world.churn(vm_id)
    world.model.faults.arm("convert_other_ids", 1)
    changed = world.good_backup(vm_id)
    assert changed.exit_code is ExitCode.DEGRADED
    world.churn(vm_id)
    world.good_backup(vm_id)
    world.churn(vm_id)
    assert one(world.good_backup(vm_id))[0] is Mode.INCREMENTAL
    world.assert_points_equal(vm_id)


def test_an_increment_that_finds_its_base_damaged_reads_on_and_is_right(world: World) -> None:
    vm_id = world.vm(disks=(SIZE,))
    world.good_backup(vm_id)
    packs = sorted(path for path in world.store.rglob("*") if path.is_file() and path.stat().st_size > MIB)
    with packs[-1].open("r+b") as pack:
        pack.seek(packs[-1].stat().st_size // 2)
        pack.write(world.chance.randbytes(256 * KIB))
    world.reopen()
    for offset in range(0, SIZE, 64 * KIB):
        world.model.guests.write(vm_id, SLOT, offset, world.chance.randbytes(4 * KIB))
    result = world.good_backup(vm_id)
    assert result.disks[0].reread_chunks >= 1
    world.assert_point_equal(world.repository.catalog.points(vm_id)[-1])
