"""What hvps created: known by id, by mark, or as the only candidate; what is unclear is left alone."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from hvpsbridge.contract.results import CheckpointInfo, CheckpointKind, ReferencePointKind
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.tasks.cleanup.ownership import Ownership, decide_ownership, ids_of, reference_points_to_keep
from hvpsbridge.tasks.planning.lineage import Lineage
from hvpsbridge.tasks.planning.mark import Mark
from tests.tasks import builders as make

OURS = str(Mark(make.REPOSITORY_ID, make.RUN_ID, make.NOON))
THEIRS = str(Mark(uuid4(), make.RUN_ID, make.NOON))
INTENT = make.entry(LedgerKind.CHECKPOINT_INTENDED, mark=OURS)


def judged(
    entries: list[LedgerEntry], checkpoints: list[CheckpointInfo], *reference_points: object
) -> Ownership:
    return decide_ownership(entries, entries, checkpoints, reference_points, Lineage(()), make.REPOSITORY_ID)  # type: ignore[arg-type]


def test_a_checkpoint_with_our_mark_is_ours_without_any_ledger() -> None:
    marked = make.checkpoint(name=OURS)
    assert judged([], [marked]).ours == (marked,)


def test_a_checkpoint_whose_id_is_in_the_ledger_is_ours_whatever_its_name() -> None:
    renamed = make.checkpoint(name="renamed by an admin")
    made = make.entry(LedgerKind.CHECKPOINT_MADE, checkpoint_id=renamed.checkpoint_id)
    assert judged([INTENT, made], [renamed]).ours == (renamed,)


def test_the_only_candidate_for_an_open_intent_is_ours() -> None:
    candidate = make.checkpoint()
    assert judged([INTENT], [candidate]).ours == (candidate,)


def test_of_two_candidates_none_is_touched_and_both_are_named() -> None:
    both = [make.checkpoint(checkpoint_id=uuid4()), make.checkpoint(checkpoint_id=uuid4())]
    verdict = judged([INTENT], both)
    assert verdict.ours == ()
    assert set(verdict.unclear) == set(both)


@pytest.mark.parametrize(
    "other",
    [
        make.checkpoint(name=THEIRS),
        make.checkpoint(kind=CheckpointKind.STANDARD),
        make.checkpoint(created=make.NOON - timedelta(days=1)),
        make.checkpoint(created=make.NOON + timedelta(days=1)),
    ],
    ids=["another repository's", "a user's", "older", "newer"],
)
def test_what_cannot_be_intended_is_not_ours(other: CheckpointInfo) -> None:
    verdict = judged([INTENT], [other])
    assert verdict.ours == verdict.unclear == ()


def test_what_was_there_before_the_intent_is_not_ours() -> None:
    there = make.checkpoint()
    intent = make.entry(LedgerKind.CHECKPOINT_INTENDED, mark=OURS, checkpoints_before=(there.checkpoint_id,))
    assert judged([intent], [there]).ours == ()


def test_a_recorded_checkpoint_leaves_no_open_intent() -> None:
    made = make.entry(LedgerKind.CHECKPOINT_MADE, checkpoint_id=uuid4())
    assert judged([INTENT, made], [make.checkpoint()]).ours == ()
    marked = make.checkpoint(name=OURS, checkpoint_id=uuid4())
    assert judged([INTENT], [marked, make.checkpoint()]).ours == (marked,)


def test_without_an_intent_a_recovery_checkpoint_is_somebody_elses() -> None:
    verdict = judged([], [make.checkpoint()])
    assert verdict.ours == verdict.unclear == ()


def test_reference_points_are_candidates_only_after_an_intended_conversion() -> None:
    before = make.entry(LedgerKind.CHECKPOINT_INTENDED, mark=OURS, reference_points_before=("rp-1",))
    converting = make.entry(LedgerKind.CONVERSION_INTENDED, checkpoint_id=uuid4(), point_id=uuid4())
    old, new = make.reference_point(), make.reference_point(instance_id="rp-2")
    replica = make.reference_point(instance_id="rp-3", kind=ReferencePointKind.LOG)
    assert judged([before], [], old, new).candidates == ()
    assert judged([before, converting], [], old, new, replica).candidates == (new,)


def test_what_the_ledger_or_an_ids_object_names_is_ours_for_ever() -> None:
    made = make.entry(LedgerKind.REFERENCE_POINT_MADE, reference_point="rp-9")
    verdict = decide_ownership([made], [], [], [], make.lineage(), make.REPOSITORY_ID)
    assert verdict.known_references == {"rp-1", "rp-9"}


def test_ids_are_taken_only_when_every_one_is_the_manifests() -> None:
    point = make.manifest()
    found = ids_of(point, make.reference_point(), [make.drive()])
    assert found is not None
    assert found.fits(point)
    assert ids_of(point, make.reference_point(rct_ids=("rctX:other",)), [make.drive()]) is None
    assert ids_of(point, make.reference_point(disk_instance_ids=(), rct_ids=()), [make.drive()]) is None
    assert ids_of(point, make.reference_point(rct_ids=()), [make.drive()]) is None
    untracked = make.manifest(make.disk(rct_id=None))
    assert ids_of(untracked, make.reference_point(), [make.drive()]) is None


def test_the_reference_point_that_stays_is_the_newest_usable_one() -> None:
    old, new = make.manifest(age=2), make.manifest(age=1)
    line = make.lineage(make.known(old, "rp-1"), make.known(new, "rp-2"))

    def kept(*there: str, durable: bool = True) -> tuple[str, ...]:
        return reference_points_to_keep(line, there, durable=durable)

    assert kept("rp-1", "rp-2") == ("rp-2",)
    assert kept("rp-1", "rp-7") == ("rp-1",)
    assert kept("rp-7", "rp-8") == ("rp-8",)
    assert kept() == ()
    assert kept("rp-1", "rp-2", durable=False) == ("rp-2", "rp-1")
