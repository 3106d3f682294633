"""The ledger keeps order, finds damage, and forgets only what is settled and old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import Damaged
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.repository import Repository
from tests.repository.conftest import VM
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


def test_expiry_keeps_what_is_open_or_young_and_the_counter(repository: Repository) -> None:
    ledger = repository.ledger(VM)
    old, young, open_run = uuid4(), uuid4(), uuid4()
    for run, at in ((old, NOW - timedelta(days=40)), (young, NOW), (open_run, NOW - timedelta(days=90))):
        ledger.append(entry(LedgerKind.RUN_STARTED, run, at))
    ledger.append(entry(LedgerKind.SETTLED, young, NOW))
    ledger.append(entry(LedgerKind.SETTLED, old, NOW - timedelta(days=40)))
    assert ledger.expire(NOW) == 1
    assert [each.run_id for each in ledger.entries()] == [young, open_run, young, old]
    ledger.append(entry(LedgerKind.RUN_STARTED, young))
    assert ledger.entries()[-1].run_id == young


def test_a_damaged_entry_is_not_passed_over(repository: Repository, store: MemoryStore) -> None:
    repository.ledger(VM).append(entry(LedgerKind.RUN_STARTED, uuid4()))
    (name,) = [name for name in store.objects if name.startswith("ledger/")]
    store.objects[name] = store.objects[name][:-1] + b"?"
    with pytest.raises(Damaged):
        repository.ledger(VM).entries()


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

    def counted(self: MemoryStore, name: str) -> bytes:
        fetched.append(name)
        return get(self, name)

    monkeypatch.setattr(MemoryStore, "get", counted)
    ledger = repository.ledger(VM)
    first = ledger.entries()
    ledger.append(added := entry(LedgerKind.RUN_STARTED, uuid4()))
    assert ledger.entries() == ledger.open_entries() == (*first, added)
    assert len(fetched) == len(set(fetched)) == 6
