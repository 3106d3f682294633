"""Verification by budget: oldest check first, ages that a collect keeps, objects that anyone may forge."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pytest

from hvpsbridge.errors import ConfigurationError, Damaged
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.manifest import DiskStats
from hvpsbridge.formats.verified import Verified, VerifiedPacks, VerifyPass
from hvpsbridge.repository import Point, Repository
from hvpsbridge.repository import verified as states
from hvpsbridge.repository.cache_rows import Location
from hvpsbridge.repository.check import coverage as coverages
from hvpsbridge.repository.check.coverage import Budget, Checked, Coverage
from hvpsbridge.repository.check.verify import Level, VerifyReport
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.repository.layout import DATA, NODES, VERIFIED
from hvpsbridge.repository.verified import names_of, read_ages, record_ages
from tests.repository.conftest import CHUNK, START, VM, disk_of, make, manifest_of, reopen, store_point
from tests.repository.memory_store import MemoryStore

SMALLEST = Budget(size_bytes=1)
EVERYTHING = Budget(size_bytes=1 << 40)


def noise(seed: int, chunks: int = 4) -> bytes:
    return random.Random(seed).randbytes(chunks * CHUNK)


def packs_of(store: MemoryStore) -> set[bytes]:
    return {bytes.fromhex(i.name.rsplit("/", 1)[1]) for folder in (DATA, NODES) for i in store.list(folder)}


def passes(
    repository: Repository,
    budget: Budget | None = SMALLEST,
    *,
    at: datetime | None = None,
    points: list[Point] | None = None,
) -> tuple[VerifyReport, Checked]:
    """One verification that is recorded."""
    checked = Checked() if at is None else Checked(at=at)
    report = repository.verify(Level.HASHED, points, budget=budget, checked=checked)
    repository.record_checked(checked)
    return report, checked


def covered(report: VerifyReport) -> Coverage:
    assert report.coverage is not None
    return report.coverage


def age_of(repository: Repository, pack: bytes) -> tuple[bool, datetime, bool]:
    ages = read_ages(repository._objects)
    known, at, hashed = ages.look_up(names_of(pack))
    return bool(known[0]), states.moment_of(int(at[0])), bool(hashed[0])


def test_a_budget_covers_everything_oldest_first_and_begins_anew(
    repository: Repository, store: MemoryStore
) -> None:
    for seed in range(3):
        store_point(repository, noise(seed))
    every = packs_of(store)
    assert len(every) == 6
    seen: list[bytes] = []
    begin = datetime.now(UTC) - timedelta(days=12)
    for night in range(12):
        report, checked = passes(repository, at=begin + timedelta(days=night))
        assert report.good
        assert covered(report).read_packs == len(checked.good) == 1
        seen += checked.good
    assert set(seen[:6]) == every
    assert seen[6:] == seen[:6]
    last = covered(report)
    assert last.never_packs == 0
    assert last.unverified_since == repository.unverified_since() == begin + timedelta(days=6)


def test_the_real_period_is_what_such_passes_take(repository: Repository) -> None:
    for seed in range(3):
        store_point(repository, noise(seed))
    begin = datetime.now(UTC) - timedelta(days=12)
    for night in range(9):
        report, _ = passes(repository, at=begin + timedelta(days=night))
        found = covered(report)
        assert (found.period_seconds is None) == (night == 0)
    assert found.period_seconds == pytest.approx(86400 * found.pack_bytes / found.read_bytes)
    assert found.passes >= found.pack_bytes // found.read_bytes
    assert found.enough


def test_everything_within_the_budget_is_covered_at_once(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, noise(1))
    report, checked = passes(repository, EVERYTHING)
    found = covered(report)
    assert set(checked.good) == packs_of(store)
    assert (found.passes, found.never_packs, found.enough) == (1, 0, True)
    assert found.unverified_since == checked.at


def test_a_budget_of_time_reads_whole_packs(repository: Repository) -> None:
    store_point(repository, noise(1))
    report, checked = passes(repository, Budget(seconds=0))
    assert covered(report).read_packs == 1
    assert len(checked.good) == 1
    report, _ = passes(repository, Budget(seconds=1000))
    assert covered(report).read_packs == 2


def test_packs_that_came_later_are_younger_and_wait(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, noise(1))
    old = packs_of(store)
    at = datetime.now(UTC) - timedelta(days=2)
    _, first = passes(repository, at=at)
    store_point(repository, noise(2))
    new = packs_of(store) - old
    _, second = passes(repository)
    assert set(first.good) | set(second.good) == old
    for pack in new:
        known, since, hashed = age_of(repository, pack)
        assert (known, hashed) == (True, False)
        assert since == at


def test_growth_beyond_the_budget_is_said(repository: Repository) -> None:
    begin = datetime.now(UTC) - timedelta(days=5)
    store_point(repository, noise(1))
    passes(repository, at=begin)
    with repository.begin(uuid4()) as writer:
        disk = writer.disk(8 * CHUNK)
        for number in range(8):
            disk.put(number, noise(50 + number, 1))
        stats = DiskStats(stored_bytes=8 * CHUNK)
        manifest = manifest_of([disk_of(disk.finish(), stats=stats)], created=begin + timedelta(hours=5))
        writer.commit(manifest)
    report, _ = passes(repository, at=begin + timedelta(days=1))
    found = covered(report)
    assert found.stored_bytes == 8 * CHUNK
    assert not found.enough
    assert found.period_seconds is not None
    assert found.period_seconds > 86400
    report, _ = passes(repository, EVERYTHING, at=begin + timedelta(days=2))
    assert covered(report).enough


def test_a_budget_for_points_reads_what_they_need(repository: Repository, store: MemoryStore) -> None:
    one = store_point(repository, noise(1))
    before = packs_of(store)
    store_point(repository, noise(2), vm_id=UUID(int=9))
    for _ in range(2):
        report, checked = passes(repository, points=[one])
        assert set(checked.good) <= before
    assert covered(report).packs == 2
    assert covered(report).period_seconds is not None
    report, _ = passes(repository)
    assert covered(report).period_seconds is None, "the repository is another scope"
    assert set(read_ages(repository._objects).passes) == {VM, None}


def test_a_damaged_pack_stays_the_oldest_and_is_found_each_time(
    repository: Repository, store: MemoryStore
) -> None:
    for seed in range(3):
        store_point(repository, noise(seed))
    name = min(info.name for info in store.list(DATA))
    data = bytearray(store.objects[name])
    data[len(data) // 3] ^= 1
    store.objects[name] = bytes(data)
    found = []
    begin = datetime.now(UTC) - timedelta(days=9)
    for night in range(9):
        report, checked = passes(repository, at=begin + timedelta(days=night))
        repository.publish_bad(report.bad)
        found.append(report.good)
        assert bytes.fromhex(name.rsplit("/", 1)[1]) not in checked.good
    first = found.index(False)
    assert first < 6
    assert not any(found[first:])


def test_a_full_verify_is_recorded_too(repository: Repository, store: MemoryStore) -> None:
    store_point(repository, noise(1))
    _, checked = passes(repository, None)
    assert set(checked.good) == packs_of(store)
    assert repository.unverified_since() == checked.at
    _, after = passes(repository, None, points=list(repository.catalog.points()))
    assert not after.good, "only some frames of the packs were read"


@pytest.mark.parametrize("budget", [EVERYTHING, None], ids=["budget", "all"])
def test_what_was_read_before_an_interruption_is_not_read_again(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, budget: Budget | None
) -> None:
    for seed in range(3):
        store_point(repository, noise(seed))
    every = packs_of(store)
    read: list[bytes] = []
    whole = repository._frames.read_ordered

    def ending(places: Iterable[Location]) -> Iterator[tuple[Location, bytes | Damaged]]:
        for place, found in whole(places):
            if place.pack not in read:
                read.append(place.pack)
            if len(read) == 4:
                raise KeyboardInterrupt
            yield place, found

    monkeypatch.setattr(repository._frames, "read_ordered", ending)
    with pytest.raises(KeyboardInterrupt):
        repository.verify(Level.HASHED, budget=budget, checked=Checked())
    monkeypatch.undo()
    for pack in every:
        known, _, hashed = age_of(repository, pack)
        assert (known, hashed) == (True, pack in read[:2])
    assert not read_ages(repository._objects).passes
    _, checked = passes(repository, Budget(size_bytes=1))
    assert checked.good[0] in every - set(read[:2])


def test_a_pack_that_a_collect_makes_has_the_oldest_age(repository: Repository, store: MemoryStore) -> None:
    begin = datetime.now(UTC) - timedelta(days=9)
    points = []
    for seed in range(3):
        points.append(store_point(repository, noise(seed)))
        passes(repository, EVERYTHING, at=begin + timedelta(days=seed))
    before = packs_of(store)
    ages = {pack: age_of(repository, pack)[1] for pack in before}
    # Only one of the packs is checked again.
    record_ages(repository._objects, [(begin + timedelta(days=5), True, names_of([min(before)]))])
    ages[min(before)] = begin + timedelta(days=5)
    repository.collect(uuid4(), CollectOptions(grace=timedelta(0), max_unused=0, merge_from=2))
    after = packs_of(store)
    assert not after & before
    with reopen(store) as fresh:
        for pack in after:
            known, at, hashed = age_of(fresh, pack)
            assert (known, hashed) == (True, True)
            assert at in ages.values()
        assert fresh.unverified_since() == min(ages.values())
        assert fresh.verify(Level.HASHED).good


def test_what_was_never_checked_is_not_checked_by_a_collect(
    repository: Repository, store: MemoryStore
) -> None:
    store_point(repository, noise(1))
    checked_at = datetime.now(UTC) - timedelta(days=1)
    passes(repository, EVERYTHING, at=checked_at)
    store_point(repository, noise(2))
    repository.collect(uuid4(), CollectOptions(grace=timedelta(0), max_unused=0, merge_from=2))
    for pack in packs_of(store):
        known, at, hashed = age_of(repository, pack)
        assert (known, at, hashed) == (True, checked_at, False)


def test_a_collect_merges_the_objects(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        store_point(repository, noise(seed))
    begin = datetime.now(UTC) - timedelta(days=40)
    for night in range(states.MERGE_FROM):
        passes(repository, at=begin + timedelta(days=night))
    before = read_ages(repository._objects)
    repository.collect(uuid4(), CollectOptions())
    after = read_ages(repository._objects)
    assert len(after.objects) == 1
    assert np.array_equal(before.names, after.names)
    assert np.array_equal(before.at, after.at)
    assert before.passes == after.passes
    assert len(after.passes[None]) == states.PASSES_KEPT
    assert not repository.verify(Level.WRITTEN).notes


def test_many_packs_fit_into_a_few_objects(sealed: Repository, store: MemoryStore) -> None:
    names = np.frombuffer(random.Random(1).randbytes(16 * 655_360), "S16")
    record_ages(sealed._objects, [(START, True, names)])
    objects = list(store.list(VERIFIED))
    assert len(objects) == 5
    assert sum(info.size_bytes for info in objects) < 655_360 * 18
    assert len(read_ages(sealed._objects).names) == len(np.unique(names))


def test_damaged_objects_make_packs_look_old_and_never_young(
    repository: Repository, store: MemoryStore
) -> None:
    point = store_point(repository, noise(1))
    passes(repository, EVERYTHING, at=datetime.now(UTC) - timedelta(days=3))
    (name,) = (info.name for info in store.list(VERIFIED))
    store_point(repository, noise(2))
    passes(repository, EVERYTHING, at=datetime.now(UTC) - timedelta(days=2))
    assert repository.unverified_since() > point.created  # type: ignore[operator]
    data = bytearray(store.objects[name])
    data[-1] ^= 1
    store.objects[name] = bytes(data)
    store_point(repository, noise(3))
    with reopen(store) as fresh:
        assert fresh.unverified_since() == point.created
        report, _ = passes(fresh)
        assert report.good
        assert [note.name for note in report.notes] == [name]


def test_a_repair_removes_damaged_objects_and_makes_no_pack_younger(
    repository: Repository, store: MemoryStore
) -> None:
    point = store_point(repository, noise(1))
    passes(repository, EVERYTHING, at=datetime.now(UTC) - timedelta(days=3))
    (name,) = (info.name for info in store.list(VERIFIED))
    store_point(repository, noise(2))
    passes(repository, points=[repository.catalog.points()[1]])
    data = bytearray(store.objects[name])
    data[-1] ^= 1
    store.objects[name] = bytes(data)
    with reopen(store) as fresh:
        assert fresh.unverified_since() == point.created
        assert name in fresh.repair(uuid4(), check=True).removed
        assert name in fresh.repair(uuid4()).removed
        assert name not in store.objects
        assert read_ages(fresh._objects).whole
        assert fresh.unverified_since() == point.created
        assert not fresh.verify(Level.WRITTEN).notes


def test_names_that_begin_alike_are_told_apart(store: MemoryStore) -> None:
    repository = make(store)
    names = [b"\xff" * 8 + bytes([last]) + bytes(7) for last in range(5)]
    record_ages(repository._objects, [(START, True, names_of(names[1:4]))])
    known, _, hashed = read_ages(repository._objects).look_up(names_of(names))
    assert known.tolist() == hashed.tolist() == [False, True, True, True, False]


def test_two_verifiers_at_once_both_count(repository: Repository, store: MemoryStore) -> None:
    for seed in range(2):
        store_point(repository, noise(seed))
    with reopen(store) as other:
        one, two = Checked(), Checked()
        assert repository.verify(Level.HASHED, budget=SMALLEST, checked=one).good
        assert other.verify(Level.HASHED, budget=EVERYTHING, checked=two).good
        other.record_checked(two)
        repository.record_checked(one)
        for pack in packs_of(store):
            assert age_of(other, pack) == (True, two.at, True)
        assert len(read_ages(other._objects).passes[None]) == 2


def test_a_forged_object_hides_nothing_from_a_full_verify(store: MemoryStore) -> None:
    repository = make(store)
    store_point(repository, noise(1))
    name = min(info.name for info in store.list(DATA))
    data = bytearray(store.objects[name])
    data[len(data) // 3] ^= 1
    store.objects[name] = bytes(data)
    every = b"".join(sorted(packs_of(store)))
    now = datetime.now(UTC)
    for number, at in enumerate((now, now + timedelta(hours=1), now + timedelta(days=10_000))):
        forged = Verified(
            packs=(VerifiedPacks(at=at, hashed=True, packs=every),),
            passes=(VerifyPass(at=at, vm_id=None, read_bytes=1 << 60),),
        )
        repository._objects.write_record(f"{VERIFIED}/{number:032x}", Kind.VERIFIED, forged)
    assert not repository.verify(Level.HASHED).good
    report, _ = passes(repository, EVERYTHING)
    assert not report.good
    ages = read_ages(repository._objects)
    assert ages.at.max() <= states.microseconds(datetime.now(UTC))


@pytest.mark.parametrize("packs", [b"short", b"x" * 17])
def test_what_is_no_name_is_ignored(store: MemoryStore, packs: bytes) -> None:
    repository = make(store)
    point = store_point(repository, noise(1))
    odd = Verified(packs=(VerifiedPacks(at=datetime.now(UTC), hashed=True, packs=packs),))
    repository._objects.write_record(f"{VERIFIED}/{1:032x}", Kind.VERIFIED, odd)
    assert repository.unverified_since() == point.created
    assert repository.verify(Level.HASHED, budget=SMALLEST).good


def test_a_point_has_the_age_of_its_own_packs(repository: Repository) -> None:
    one = store_point(repository, noise(1))
    two = store_point(repository, noise(2), vm_id=UUID(int=9))
    at = datetime.now(UTC)
    passes(repository, EVERYTHING, at=at, points=[one])
    assert repository.unverified_since(two) == one.created
    assert repository.unverified_since(one) == at
    assert repository.unverified_since() == one.created
    passes(repository, EVERYTHING, at=at)
    assert repository.unverified_since(two) == repository.unverified_since() == at


def test_format_1_keeps_no_ages(store: MemoryStore) -> None:
    repository = make(store)
    store_point(repository, noise(1))
    repository._objects.format = 1
    assert repository.unverified_since() is None
    passes(repository, None)
    with pytest.raises(ConfigurationError, match="format 1 does not keep"):
        repository.verify(Level.HASHED, budget=SMALLEST)
    assert not list(store.list(VERIFIED))


def test_a_budget_stops_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(coverages.time, "monotonic", lambda: float(next(clock)))
    packs = [coverages.KnownPack(number, b"", Kind.DATA_PACK, 10) for number in range(9)]
    assert len(list(Budget(seconds=3).of(packs))) == 2
    assert len(list(Budget(size_bytes=30).of(packs))) == 3
