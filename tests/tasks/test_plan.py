"""The plan: every doubt about change tracking turns an increment into a compare or a full."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hvpsbridge.contract.results import DiskFormat
from hvpsbridge.tasks.planning.build_trust import BuildTrust
from hvpsbridge.tasks.planning.lineage import KnownPoint, Lineage
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.planning.plan import DiskFacts, DiskPlan, confirm, confirm_tracking, plan_disks
from hvpsbridge.tasks.planning.restored import Restored
from hvpsbridge.tasks.planning.tracking import tracking_of
from hvpsbridge.units import GIB
from tests.tasks import builders as make

FACTS = DiskFacts.of_drive(make.drive())


def planned(
    *drives: DiskFacts,
    lineage: Lineage | None = None,
    reference_points: tuple[str, ...] = ("rp-1",),
    **vm: object,
) -> DiskPlan:
    return plan_disks(
        make.vm(**vm),
        drives or (FACTS,),
        make.lineage() if lineage is None else lineage,
        build=BuildTrust(build=make.BUILD, host="hv01"),
        reference_points=reference_points,
    )[0]


def test_with_nothing_against_it_a_disk_is_incremental() -> None:
    plan = planned()
    assert (plan.mode, plan.reason) == (Mode.INCREMENTAL, Reason.TRACKED)
    assert plan.base is not None
    assert plan.base.rct_id == "rctX:1"


@pytest.mark.parametrize("version", ["\u00b2.0", "9" * 5000, "10.", "", "-8.0", "8.0\n", "\u0668.0"])
def test_what_is_not_a_version_counts_as_an_old_one(version: str) -> None:
    assert planned(version=version).reason is Reason.OLD_VM


@pytest.mark.parametrize(
    ("plan", "mode", "reason"),
    [
        (planned(lineage=Lineage(())), Mode.FULL, Reason.FIRST_BACKUP),
        (planned(replace(FACTS, slot="scsi 0:7", disk_id=make.OTHER_ID)), Mode.FULL, Reason.NEW_DISK),
        (planned(replace(FACTS, disk_id=make.OTHER_ID)), Mode.FULL, Reason.DISK_REPLACED),
        (planned(replace(FACTS, size_bytes=2 * GIB)), Mode.FULL, Reason.SIZE_CHANGED),
        (planned(replace(FACTS, slot="scsi 0:7")), Mode.COMPARE, Reason.DISK_MOVED),
        (planned(replace(FACTS, disk_id=None)), Mode.COMPARE, Reason.NO_DISK_ID),
        (planned(FACTS, replace(FACTS, slot="scsi 0:1")), Mode.COMPARE, Reason.DUPLICATE_ID),
        (planned(replace(FACTS, sector_bytes=4096)), Mode.COMPARE, Reason.SECTOR_CHANGED),
        (planned(replace(FACTS, format=DiskFormat.VHD)), Mode.COMPARE, Reason.NOT_TRACKED),
        (planned(replace(FACTS, chain=("C:\\x.vhdx", *make.CHAIN))), Mode.COMPARE, Reason.CHAIN_CHANGED),
        (planned(replace(FACTS, chain=("C:\\x.avhdx",))), Mode.COMPARE, Reason.CHAIN_CHANGED),
        (planned(replace(FACTS, chain=())), Mode.COMPARE, Reason.CHAIN_CHANGED),
        (
            planned(replace(FACTS, chain=("C:\\x.avhdx", *make.CHAIN))),
            Mode.COMPARE,
            Reason.CHECKPOINTS_CHANGED,
        ),
        (planned(reference_points=()), Mode.COMPARE, Reason.REFERENCE_POINT_GONE),
        (planned(version="5.0"), Mode.COMPARE, Reason.OLD_VM),
        (planned(version="preview"), Mode.COMPARE, Reason.OLD_VM),
        (planned(lineage=make.lineage(KnownPoint(make.manifest(), None))), Mode.COMPARE, Reason.IDS_MISSING),
    ],
    ids=lambda value: value.word if isinstance(value, Reason) else "",
)
def test_each_doubt_has_its_mode_and_reason(plan: DiskPlan, mode: Mode, reason: Reason) -> None:
    assert (plan.mode, plan.reason) == (mode, reason)
    assert (plan.base is None) == (mode is Mode.FULL)


def test_a_path_in_other_letters_is_the_same_chain() -> None:
    assert planned(replace(FACTS, chain=(make.CHAIN[0].upper(),))).mode is Mode.INCREMENTAL


def test_ids_of_another_manifest_are_no_ids() -> None:
    point = make.manifest()
    stranger = make.ids(make.manifest(age=5))
    plan = planned(lineage=make.lineage(KnownPoint(point, stranger)))
    assert (plan.mode, plan.reason) == (Mode.COMPARE, Reason.IDS_MISSING)
    assert "does not match" in plan.detail


def test_the_base_is_the_newest_point_with_usable_ids_and_a_compare_takes_the_newest() -> None:
    old, new = make.manifest(age=2), make.manifest(age=1)
    plan = planned(lineage=make.lineage(make.known(old, "rp-1"), KnownPoint(new, None)))
    assert plan.mode is Mode.INCREMENTAL
    assert plan.base is not None
    assert plan.base.point_id == old.point_id
    compare = planned(lineage=make.lineage(KnownPoint(old, None), KnownPoint(new, None)))
    assert compare.base is not None
    assert compare.base.point_id == new.point_id


def test_a_disk_that_was_restored_is_compared_with_the_restored_point() -> None:
    old, new = make.manifest(age=2, sequence=1), make.manifest(age=1, sequence=2)
    points = (make.known(old, "rp-1"), make.known(new, "rp-1"))
    restored = Restored(2, frozenset({FACTS.slot}), old)
    plan = planned(lineage=Lineage(points, restored))
    assert (plan.mode, plan.reason) == (Mode.COMPARE, Reason.RESTORED)
    assert plan.base is not None
    assert plan.base.point_id == old.point_id
    # After an undo, or when the point is gone, the newest one is compared with.
    plan = planned(lineage=Lineage(points, replace(restored, manifest=None)))
    assert (plan.mode, plan.reason) == (Mode.COMPARE, Reason.RESTORED)
    assert plan.base is not None
    assert plan.base.point_id == new.point_id
    # A disk that was not restored has no usable id either: all reference points were destroyed.
    plan = planned(lineage=Lineage(points, replace(restored, slots=frozenset())))
    assert (plan.mode, plan.reason) == (Mode.COMPARE, Reason.IDS_MISSING)
    later = make.known(make.manifest(age=0, sequence=3), "rp-1")
    plan = planned(lineage=Lineage((*points, later), restored))
    assert (plan.mode, plan.reason) == (Mode.INCREMENTAL, Reason.TRACKED)


def test_a_new_vm_is_compared_with_the_point_that_it_was_made_from() -> None:
    plan = planned(lineage=Lineage((), Restored(0, frozenset({FACTS.slot}), make.manifest())))
    assert (plan.mode, plan.reason) == (Mode.COMPARE, Reason.RESTORED)
    other = replace(FACTS, size_bytes=2 * GIB)
    plan = planned(other, lineage=Lineage((), Restored(0, frozenset({FACTS.slot}), make.manifest())))
    assert plan.mode is Mode.FULL


def lies(*reasons: str, mode: str = "compare") -> Lineage:
    """Points whose disk has these reasons, oldest first, each compared and proved whole."""
    return make.lineage(
        *(
            make.known(
                make.manifest(make.disk(mode=mode, reason=reason, proof=make.proved()), age=len(reasons) - at)
            )
            for at, reason in enumerate(reasons)
        )
    )


@pytest.mark.parametrize(
    ("reasons", "reason"),
    [
        (("tracking_lied",), Reason.DISTRUSTED),
        (("tracking_lied", "distrusted"), Reason.DISTRUSTED),
        (("tracking_lied", "distrusted", "distrusted"), Reason.TRACKED),
        (("tracking_lied", "distrusted", "distrusted", "tracking_lied"), Reason.DISTRUSTED),
        (("tracking_lied", "distrusted", "chain_changed", "distrusted"), Reason.TRACKED),
        (("distrusted",), Reason.TRACKED),
    ],
)
def test_a_lie_is_made_up_for_by_two_compares_in_which_tracking_was_right(
    reasons: tuple[str, ...], reason: Reason
) -> None:
    assert planned(lineage=lies(*reasons)).reason is reason


def test_trust_is_earned_per_disk_and_build_and_lost_by_a_lie() -> None:
    line = lies("tracked", "tracked", mode="incremental")
    assert planned(lineage=line).proved == 2
    assert line.trust(make.SLOT, make.DISK_ID, replace(make.BUILD, revision=2701)).proved_increments == 0
    assert line.trust("scsi 0:1", make.DISK_ID, make.BUILD).proved_increments == 0
    assert (
        not lies("tracked", "tracking_lied", mode="incremental")
        .trust(make.SLOT, make.DISK_ID, make.BUILD)
        .proved_increments
    )
    part = make.manifest(make.disk(mode="incremental", reason="tracked", proof=make.proved(GIB // 2)))
    assert make.lineage(make.known(part)).trust(make.SLOT, make.DISK_ID, make.BUILD).proved_increments == 0


@pytest.mark.parametrize(
    ("change", "mode", "reason"),
    [
        ({}, Mode.INCREMENTAL, Reason.TRACKED),
        ({"disk_id": make.OTHER_ID}, Mode.COMPARE, Reason.DISK_REPLACED),
        ({"size_bytes": 2 * GIB}, Mode.FULL, Reason.SIZE_CHANGED),
        ({"logical_sector_bytes": 4096}, Mode.COMPARE, Reason.SECTOR_CHANGED),
        ({"chain": ("C:\\x.vhdx", *make.CHAIN)}, Mode.COMPARE, Reason.CHAIN_CHANGED),
        ({"chain": ("C:\\x.AVHDX", *make.CHAIN)}, Mode.COMPARE, Reason.CHECKPOINTS_CHANGED),
    ],
)
def test_the_frozen_handle_has_the_last_word(change: dict[str, object], mode: Mode, reason: Reason) -> None:
    plan = confirm(planned(), make.frozen(**change))
    assert (plan.mode, plan.reason) == (mode, reason)


def test_the_frozen_handle_never_makes_a_plan_bolder() -> None:
    doubted = planned(reference_points=())
    assert confirm(doubted, make.frozen()).mode is Mode.COMPARE
    full = planned(lineage=Lineage(()))
    assert confirm(full, make.frozen()).mode is Mode.FULL


REFUSED = {"tracking_enabled": False, "rct_id": None, "tracking_code": 5}


@pytest.mark.parametrize(
    ("reading", "listed", "mode", "reason"),
    [
        ({}, {}, Mode.INCREMENTAL, Reason.TRACKED),
        ({}, REFUSED, Mode.INCREMENTAL, Reason.TRACKED),
        (REFUSED, {}, Mode.INCREMENTAL, Reason.TRACKED),
        ({"tracking_enabled": False, "rct_id": None}, {}, Mode.COMPARE, Reason.TRACKING_OFF),
        ({"rct_id": None}, {}, Mode.COMPARE, Reason.TRACKING_OFF),
        (REFUSED, {"rct_id": None}, Mode.COMPARE, Reason.TRACKING_OFF),
        (REFUSED, REFUSED, Mode.COMPARE, Reason.TRACKING_UNUSABLE),
    ],
)
def test_the_handle_that_reads_is_believed_and_one_for_information_if_it_does_not_answer(
    reading: dict[str, object], listed: dict[str, object], mode: Mode, reason: Reason
) -> None:
    found = tracking_of(make.tracking(**reading), make.frozen(**listed))
    plan = confirm_tracking(planned(), found)
    assert (plan.mode, plan.reason) == (mode, reason)
    assert (found.rct_id is None) == (mode is Mode.COMPARE)


def test_codes_of_a_refusal_are_in_the_plan_whatever_its_mode() -> None:
    both = tracking_of(make.tracking(**REFUSED), make.frozen(**{**REFUSED, "tracking_code": 0xC03A001B}))
    for plan in (planned(), planned(reference_points=()), planned(lineage=Lineage(()))):
        assert "0x00000005 and 0xC03A001B" in confirm_tracking(plan, both).why


def test_reason_words_are_unique_and_fit_a_manifest() -> None:
    words = [reason.word for reason in Reason]
    assert len(set(words)) == len(words)
    assert all(word.isidentifier() and reason.text for word, reason in zip(words, Reason, strict=True))
