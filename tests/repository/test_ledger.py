"""The ledger keeps entries in order, finds damage, and deletes only what is settled and old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.ledger import ALL_SETTLED, LedgerEntry, LedgerKind
from hvpsbridge.repository import Ledger, Repository
from tests.repository.conftest import VM, store_point
from tests.repository.memory_store import MemoryStore

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def entry(kind: LedgerKind, run_id: UUID, at: datetime = NOW) -> LedgerEntry:
    return LedgerEntry(kind=kind, run_id=run_id, vm_id=VM, host="hv01", at=at, checkpoints_before=(uuid4(),))


def test_entries_come_back_in_order(repository: Repository) -> None:
    run = uuid4()
    written = [entry(kind, run) for kind in LedgerKind]
    for each in written:
        repository.ledger(VM).append(each)
    assert repository.ledger(VM).entries() == tuple(written)
    assert repository.ledger(uuid4()).entries() == ()


def test_open_entries_are_those_of_runs_not_settled(repository: Repository) -> None:
    ledger = repository.ledger(VM)
    done, died = uuid4(), uuid4()
    for run in (done, died):
        ledger.append(entry(LedgerKind.RUN_STARTED, run))
    ledger.append(entry(LedgerKind.SETTLED, done))
    assert [each.run_id for each in ledger.open_entries()] == [died]


def all_settled(run_id: UUID, at: datetime, *reference_points: str) -> LedgerEntry:
    made = entry(LedgerKind.SETTLED, run_id, at)
    return replace(
        made, note=ALL_SETTLED, checkpoints_before=(), reference_points_before=tuple(reference_points)
    )


def run_at(days_ago: int, **last: object) -> list[LedgerEntry]:
    """Entries of a good run: a shell, a reference point, and the one that says that all runs are settled."""
    run_id, at = uuid4(), NOW - timedelta(days=days_ago)
    return [
        entry(LedgerKind.RUN_STARTED, run_id, at),
        replace(entry(LedgerKind.REFERENCE_POINT_MADE, run_id, at), **last),  # type: ignore[arg-type]
        all_settled(run_id, at),
    ]


def ledger_with(repository: Repository, *runs: Sequence[LedgerEntry]) -> Ledger:
    ledger = repository.ledger(VM)
    for run in runs:
        for each in run:
            ledger.append(each)
    return ledger


def test_a_run_reads_back_to_where_all_runs_are_settled(repository: Repository) -> None:
    old, last, died = run_at(2), run_at(1), run_at(0)[:2]
    ledger = ledger_with(repository, old, last, died)
    assert ledger.current_entries() == (last[-1], *died)
    assert ledger.open_entries() == tuple(died)
    assert ledger.entries() == (*old, *last, *died)


def test_damage_before_that_is_no_runs_business(repository: Repository, store: MemoryStore) -> None:
    last = ledger_with(repository, run_at(2), run_at(1)).entries()[-1]
    first = min(name for name in store.objects if name.startswith("ledger/"))
    store.objects[first] = store.objects[first][:-1] + b"?"
    ledger = repository.ledger(VM)
    assert ledger.current_entries() == (last,)
    assert ledger.expire(NOW + timedelta(days=90), None) == 4
    with pytest.raises(Damaged):
        ledger.entries()


def test_nothing_expires_that_an_open_run_may_need(repository: Repository) -> None:
    open_run = [entry(LedgerKind.RUN_STARTED, uuid4(), NOW - timedelta(days=90))]
    settled = uuid4()
    closed = [entry(kind, settled, NOW - timedelta(days=80)) for kind in LedgerKind]
    ledger = ledger_with(repository, open_run, closed)
    assert ledger.expire(NOW, None) == 0
    assert len(ledger.entries()) == 1 + len(closed)


def test_expiry_keeps_what_is_young_and_the_newest_entry(repository: Repository) -> None:
    young = run_at(29)
    ledger = ledger_with(repository, run_at(40), run_at(31), young)
    assert ledger.expire(NOW, None) == 6
    assert ledger.entries() == tuple(young)
    assert ledger.expire(NOW + timedelta(days=90), None) == 2
    assert ledger.entries() == (young[-1],)
    ledger.append(another := entry(LedgerKind.RUN_STARTED, uuid4()))
    assert repository.ledger(VM).entries() == (young[-1], another)


def test_expiry_keeps_evidence_of_the_newest_point_and_of_later_ones_that_are_lost(
    repository: Repository,
) -> None:
    newest, older, lost = (
        store_point(repository, b"x", created=NOW - timedelta(days=d)) for d in (50, 60, 40)
    )
    runs = [run_at(days, point_id=point.point_id) for days, point in ((60, older), (50, newest), (40, lost))]
    ledger = ledger_with(repository, *runs, run_at(0))
    assert ledger.expire(NOW, newest) == 7
    assert [each.point_id for each in ledger.entries()[:2]] == [newest.point_id, lost.point_id]


def test_expiry_keeps_what_names_a_reference_point_that_is_still_there(repository: Repository) -> None:
    here, gone = run_at(60, reference_point="here"), run_at(50, reference_point="gone")
    run_id = uuid4()
    ledger = ledger_with(
        repository, here, gone, [entry(LedgerKind.RUN_STARTED, run_id), all_settled(run_id, NOW, "here")]
    )
    assert ledger.expire(NOW, None) == 5
    assert [each.reference_point for each in ledger.entries()] == ["here", None, None]


def test_expiry_goes_on_at_the_next_run_when_there_is_much(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvpsbridge.repository.ledger.EXPIRE_ENTRIES", 4)
    ledger = ledger_with(repository, run_at(60), run_at(50), run_at(0))
    assert [ledger.expire(NOW, None) for _ in range(3)] == [4, 2, 0]


def test_a_damaged_entry_is_not_passed_over(repository: Repository, store: MemoryStore) -> None:
    repository.ledger(VM).append(entry(LedgerKind.RUN_STARTED, uuid4()))
    (name,) = [name for name in store.objects if name.startswith("ledger/")]
    store.objects[name] = store.objects[name][:-1] + b"?"
    with pytest.raises(Damaged):
        repository.ledger(VM).entries()


def test_a_run_uses_the_other_entries_and_knows_what_is_damaged(
    repository: Repository, store: MemoryStore
) -> None:
    run = uuid4()
    first, second = (entry(LedgerKind.RUN_STARTED, run) for _ in range(2))
    ledger = ledger_with(repository, [first, second])
    prefix = next(iter(store.objects_under("ledger"))).rsplit("/", 1)[0]
    planted = f"{prefix}/{5:016x}"
    store.objects[planted] = b"x"
    ledger = repository.ledger(VM)
    assert ledger.open_entries() == (first, second)
    assert [damage.name for damage in ledger.damaged] == [planted]
    ledger.append(settled := all_settled(run, NOW))
    ledger = repository.ledger(VM)
    assert ledger.current_entries() == (settled,)
    assert not ledger.damaged


def test_an_object_far_ahead_that_is_no_entry_is_passed_over(
    repository: Repository, store: MemoryStore
) -> None:
    run = uuid4()
    ledger_with(repository, [entry(LedgerKind.RUN_STARTED, run)])
    prefix = next(iter(store.objects_under("ledger"))).rsplit("/", 1)[0]
    for far in (2**48 - 1, 2**48, 2**64 - 1):
        store.objects[f"{prefix}/{far:016x}"] = b"x"
    store.objects[f"{prefix}/{1:017x}"] = b"x"
    for _ in range(3):
        ledger = repository.ledger(VM)
        ledger.append(settled := all_settled(run, NOW))
        assert repository.ledger(VM).current_entries() == (settled,)
        assert not ledger.damaged


def test_names_that_are_taken_but_not_listed_are_passed_over(
    repository: Repository, store: MemoryStore
) -> None:
    """Anyone who can create objects can make an empty one in S3, or a folder or a link elsewhere."""
    run = uuid4()
    ledger_with(repository, [entry(LedgerKind.RUN_STARTED, run)])
    prefix = next(iter(store.objects_under("ledger"))).rsplit("/", 1)[0]
    for number in range(1, 3000):
        store.objects[f"{prefix}/{number:016x}"] = b""
    settled = [all_settled(run, NOW), all_settled(run, NOW)]
    for each in settled:
        repository.ledger(VM).append(each)
    assert repository.ledger(VM).entries()[1:] == tuple(settled)
    assert any("ledger/" in note.name for note in repository.verify().notes)


def test_names_tell_nothing_about_the_vm(repository: Repository, store: MemoryStore) -> None:
    repository.ledger(VM).append(entry(LedgerKind.RUN_STARTED, uuid4()))
    assert not [name for name in store.objects if VM.hex[:8] in name or str(VM) in name]


def test_a_run_fetches_each_entry_once(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        repository.ledger(VM).append(entry(LedgerKind.RUN_STARTED, uuid4()))
    fetched: list[str] = []
    get = MemoryStore.get

    def counted(self: MemoryStore, name: str, max_bytes: int) -> bytes:
        fetched.append(name)
        return get(self, name, max_bytes)

    monkeypatch.setattr(MemoryStore, "get", counted)
    ledger = repository.ledger(VM)
    first = ledger.entries()
    ledger.append(added := entry(LedgerKind.RUN_STARTED, uuid4()))
    assert ledger.entries() == ledger.open_entries() == (*first, added)
    assert len(fetched) == len(set(fetched)) == 5  # it does not fetch its own
