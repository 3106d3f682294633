"""What hvps created: known by kind and mark, or by RCT ids; what is unclear is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from hvpsbridge.contract.results import (
    CheckpointInfo,
    CheckpointKind,
    ReferencePointInfo,
    ReferencePointKind,
)
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.formats.ledger import ALL_SETTLED, LedgerEntry, LedgerKind
from hvpsbridge.tasks.cleanup.ownership import (
    Candidate,
    Ownership,
    decide_ownership,
    ids_of,
    reference_points_to_keep,
    why_no_ids,
)
from hvpsbridge.tasks.planning.lineage import KnownPoint, Lineage
from hvpsbridge.tasks.planning.mark import Mark
from tests.tasks import builders as make

OURS = str(Mark(make.REPOSITORY_ID, make.RUN_ID, make.NOON))
THEIRS = str(Mark(uuid4(), make.RUN_ID, make.NOON))
INTENT = make.entry(LedgerKind.CHECKPOINT_INTENDED, mark=OURS)


def judged(
    entries: list[LedgerEntry],
    checkpoints: list[CheckpointInfo],
    *reference_points: ReferencePointInfo,
    lineage: Lineage | None = None,
    claimed: Sequence[str] = (),
) -> Ownership:
    return decide_ownership(
        entries, entries, checkpoints, reference_points, lineage or Lineage(()), make.REPOSITORY_ID, claimed
    )


def test_a_checkpoint_with_our_mark_is_ours_without_any_ledger() -> None:
    marked = make.checkpoint(name=OURS)
    assert judged([], [marked]).ours == (marked,)


@pytest.mark.parametrize("kind", [kind for kind in CheckpointKind if kind is not CheckpointKind.RECOVERY])
def test_only_a_recovery_checkpoint_is_ours(kind: CheckpointKind) -> None:
    marked = make.checkpoint(name=OURS, kind=kind)
    made = make.entry(LedgerKind.CHECKPOINT_MADE, checkpoint_id=marked.checkpoint_id)
    verdict = judged([INTENT, made], [marked])
    assert verdict.ours == verdict.unclear == ()


def test_an_id_in_the_ledger_makes_no_checkpoint_ours() -> None:
    renamed = make.checkpoint(name="renamed by an admin")
    made = make.entry(LedgerKind.CHECKPOINT_MADE, checkpoint_id=renamed.checkpoint_id)
    verdict = judged([INTENT, made], [renamed])
    assert (verdict.ours, verdict.unclear) == ((), (renamed,))
    users = make.checkpoint(kind=CheckpointKind.STANDARD)
    verdict = judged([make.entry(LedgerKind.CHECKPOINT_MADE, checkpoint_id=users.checkpoint_id)], [users])
    assert verdict.ours == verdict.unclear == ()


def test_the_only_candidate_for_an_open_intent_is_not_ours_until_somebody_claims_it() -> None:
    candidate = make.checkpoint()
    verdict = judged([INTENT], [candidate])
    assert (verdict.ours, verdict.unclear) == ((), (candidate,))
    claimed = judged([INTENT], [candidate], claimed=[str(candidate.checkpoint_id)])
    assert (claimed.ours, claimed.unclear) == ((candidate,), ())


def test_what_is_not_unclear_cannot_be_claimed() -> None:
    users = make.checkpoint(kind=CheckpointKind.STANDARD)
    theirs = make.checkpoint(name=THEIRS)
    reference_point = make.reference_point()
    verdict = judged(
        [INTENT],
        [users, theirs],
        reference_point,
        claimed=[str(users.checkpoint_id), str(theirs.checkpoint_id), reference_point.instance_id],
    )
    assert verdict.ours == verdict.unclear == verdict.reference_points == ()


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
    assert judged([intent], [there]).unclear == ()


def test_a_recorded_checkpoint_leaves_no_open_intent() -> None:
    made = make.entry(LedgerKind.CHECKPOINT_MADE, checkpoint_id=uuid4())
    assert judged([INTENT, made], [make.checkpoint()]).unclear == ()
    marked = make.checkpoint(name=OURS, checkpoint_id=uuid4())
    verdict = judged([INTENT], [marked, make.checkpoint()])
    assert (verdict.ours, verdict.unclear) == ((marked,), ())


def test_without_an_intent_a_recovery_checkpoint_is_somebody_elses() -> None:
    verdict = judged([], [make.checkpoint()])
    assert verdict.ours == verdict.unclear == ()


def test_reference_points_are_candidates_only_after_an_intended_conversion() -> None:
    before = make.entry(LedgerKind.CHECKPOINT_INTENDED, mark=OURS, reference_points_before=("rp-1",))
    point_id = uuid4()
    converting = make.entry(
        LedgerKind.CONVERSION_INTENDED,
        checkpoint_id=uuid4(),
        point_id=point_id,
        reference_points_before=("rp-1", "rp-4"),
    )
    old, new, between = (make.reference_point(instance_id=name) for name in ("rp-1", "rp-2", "rp-4"))
    replica = make.reference_point(instance_id="rp-3", kind=ReferencePointKind.LOG)
    assert judged([before], [], old, new).candidates == ()
    found = judged([before, converting], [], old, new, replica, between).candidates
    assert found == (Candidate(new, frozenset({point_id})),)


def test_a_clean_up_that_converted_and_died_leaves_a_candidate() -> None:
    """Its run has no checkpoint of its own."""
    before = make.entry(LedgerKind.CHECKPOINT_INTENDED, mark=OURS, reference_points_before=("rp-1",))
    converting = make.entry(LedgerKind.CONVERSION_INTENDED, run_id=uuid4(), point_id=uuid4())
    found = judged([before, converting], [], make.reference_point(), make.reference_point(instance_id="rp-2"))
    assert [one.reference_point.instance_id for one in found.candidates] == ["rp-2"]


def test_a_reference_point_is_ours_by_name_and_rct_ids() -> None:
    point = make.manifest()
    lineage = make.lineage(make.known(point, "rp-1"))
    made = make.entry(LedgerKind.REFERENCE_POINT_MADE, reference_point="rp-9", point_id=point.point_id)
    closed = make.entry(LedgerKind.SETTLED, note=ALL_SETTLED, reference_points_before=("rp-8",))
    for entry, name in ((made, "rp-9"), (closed, "rp-8"), (INTENT, "rp-1")):
        same = make.reference_point(instance_id=name)
        other = make.reference_point(instance_id=name, rct_ids=("rctX:other",))
        assert judged([entry], [], same, lineage=lineage).reference_points == (same,)
        assert judged([entry], [], other, lineage=lineage).reference_points == ()
    unnamed = make.reference_point(instance_id="rp-7")
    assert judged([made, closed], [], unnamed, lineage=lineage).reference_points == ()


def test_a_reference_point_of_another_recovery_point_than_the_ledger_says_is_unclear() -> None:
    older, newer = make.manifest(make.disk(rct_id="rctX:0"), age=1), make.manifest()
    lineage = make.lineage(KnownPoint(older, None), KnownPoint(newer, None))
    made = make.entry(LedgerKind.REFERENCE_POINT_MADE, reference_point="rp-9", point_id=older.point_id)
    there = make.reference_point(instance_id="rp-9")
    verdict = judged([made], [], there, lineage=lineage)
    assert (verdict.reference_points, verdict.unproven) == ((), (there,))
    claimed = judged([made], [], there, lineage=lineage, claimed=["rp-9"])
    assert (claimed.reference_points, claimed.unproven) == ((there,), ())


def test_a_recovery_point_without_ids_proves_nothing() -> None:
    """A forged manifest that tracks no disk, or a reference point without any id."""
    untracked = make.manifest(make.disk(rct_id=None))
    lineage = make.lineage(KnownPoint(untracked, make.ids(untracked, "rp-1")))
    assert judged([], [], make.reference_point(), lineage=lineage).reference_points == ()
    empty = make.reference_point(rct_ids=(), disk_instance_ids=())
    assert judged([], [], empty, lineage=make.lineage()).reference_points == ()


@pytest.mark.parametrize(
    ("disk", "rct_id", "way"),
    [
        ({}, "rctX:1", IdWay.FROZEN),
        ({}, "rctX:other", IdWay.REFERENCE),
        ({"rct_id": None, "tracked_without_id": True}, "rctX:1", IdWay.REFERENCE),
        ({"rct_id": None}, "rctX:1", IdWay.LATE),
    ],
)
def test_ids_say_how_they_relate_to_the_frozen_disk(disk: dict[str, object], rct_id: str, way: IdWay) -> None:
    point = make.manifest(make.disk(**disk))
    found = ids_of(point, make.reference_point(rct_ids=(rct_id,)), [make.drive()])
    assert found is not None
    assert [(one.rct_id, one.way) for one in found.disks] == [(rct_id, way)]
    assert found.fits(point)
    assert not found.fits(replace(point, disks=(replace(point.disks[0], disk_id=make.OTHER_ID),)))


def test_a_reference_point_of_other_ids_is_ours_by_those_its_conversion_gave() -> None:
    point, there = make.manifest(), make.reference_point(rct_ids=("rctX:other",))
    ids = ids_of(point, there, [make.drive()])
    line = make.lineage(KnownPoint(point, ids))
    assert judged([], [], there, lineage=line).reference_points == (there,)
    forged = make.reference_point(rct_ids=("rctX:third",))
    assert judged([], [], forged, lineage=line).reference_points == ()
    bare = make.lineage(KnownPoint(point, None))
    made = make.entry(
        LedgerKind.REFERENCE_POINT_MADE,
        reference_point="rp-1",
        point_id=point.point_id,
        rct_ids=("rctX:other",),
    )
    assert judged([made], [], there, lineage=bare).reference_points == (there,)
    assert judged([made], [], forged, lineage=bare).reference_points == ()


def test_ids_are_taken_only_when_every_tracked_disk_has_one() -> None:
    point = make.manifest()
    assert ids_of(point, make.reference_point(disk_instance_ids=(), rct_ids=()), [make.drive()]) is None
    fewer = make.reference_point(rct_ids=())
    assert ids_of(point, fewer, [make.drive()]) is None
    assert "1 disks, 0 ids" in why_no_ids(fewer)
    more = make.reference_point(rct_ids=("rctX:other", *make.reference_point().rct_ids))
    assert ids_of(point, more, [make.drive()]) is None
    assert "1 disks, 2 ids" in why_no_ids(more)


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
