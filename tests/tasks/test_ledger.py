"""What runs leave in the ledger, and when it expires: tested with real runs over simulated weeks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.results import ReferencePointInfo
from hvpsbridge.errors import Damaged, ExitCode, StoreError
from hvpsbridge.formats.ledger import LedgerEntry, LedgerKind
from hvpsbridge.repository.ledger import EXPIRE_ENTRIES, KEEP
from hvpsbridge.repository.opening import create_on_store, open_on_store
from hvpsbridge.repository.stores.base import MAX_OBJECT_BYTES
from hvpsbridge.sim.model import SystemClock
from hvpsbridge.tasks import journal
from hvpsbridge.tasks.backup import checkpoint
from hvpsbridge.tasks.cleanup import checkpoints
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.units import MIB
from tests.repository.memory_store import MemoryStore
from tests.tasks.model_host import ModelHost, shells_of
from tests.tasks.world import GRID, Died, Steps, World, die

SMALL = 2 * MIB


class LedgerStore(MemoryStore):
    """A store in which tests count and disturb what is done to ledger entries.

    Attributes:
        read: names of entries that were fetched.
        disturb: called before an entry is created ("put") or deleted; may raise.
    """

    remote = True

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.disturb: Callable[[str], None] = lambda action: None

    def get(self, name: str, max_bytes: int = MAX_OBJECT_BYTES) -> bytes:
        if name.startswith("ledger/"):
            self.read.append(name)
        return super().get(name, max_bytes)

    def put(self, name: str, data: bytes) -> None:
        if name.startswith("ledger/"):
            self.disturb("put")
        super().put(name, data)

    def delete(self, name: str) -> None:
        if name.startswith("ledger/"):
            self.disturb("delete")
        super().delete(name)


class Calendar:
    """The time of the host and of hvps."""

    def __init__(self, world: World) -> None:
        assert isinstance(world.model.clock, SystemClock)
        self._clock = world.model.clock

    def pass_days(self, days: float) -> None:
        self._clock.skew_seconds += days * 86400

    def now(self, zone: tzinfo | None = None) -> datetime:
        return datetime.now(zone) + timedelta(seconds=self._clock.skew_seconds)


@pytest.fixture
def calendar(world: World, monkeypatch: pytest.MonkeyPatch) -> Calendar:
    made = Calendar(world)

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return made.now(tz)

    for module in (journal, checkpoint, checkpoints):
        monkeypatch.setattr(module, "datetime", Shifted)
    return made


@pytest.fixture
def store(world: World) -> LedgerStore:
    """The store of a fresh repository of the world."""
    made = LedgerStore()
    world.repository.close()
    world.repository = create_on_store(made, GRID)
    return made


def reopen(world: World, store: LedgerStore) -> None:
    """A new process would see it like this."""
    store.disturb = lambda action: None
    world.repository = open_on_store(store)


def entries(world: World, vm_id: UUID) -> tuple[LedgerEntry, ...]:
    return world.repository.ledger(vm_id).entries()


def good_backup(world: World, vm_id: UUID) -> None:
    world.churn(vm_id)
    world.good_backup(vm_id)


def failed_backup(world: World, vm_id: UUID, left: int = 0) -> None:
    """One that fails after its checkpoint was made, and undoes it; ``left`` things are named as unclear."""

    def wrong(*_: object) -> None:
        raise StoreError("store", "write", "a pack", "made to fail")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryStore, "sink", wrong)
        result = world.backup(vm_id)
    assert isinstance(result.error, StoreError), result.error
    assert len(result.leftovers) == left
    world.assert_clean(vm_id)


def age(entry: LedgerEntry, calendar: Calendar) -> timedelta:
    return calendar.now(entry.at.tzinfo) - entry.at


def test_entries_go_thirty_days_after_their_run(world: World, store: LedgerStore, calendar: Calendar) -> None:
    vm_id = world.vm(disks=(SMALL,))
    counts = []
    for _ in range(14):
        good_backup(world, vm_id)
        left = entries(world, vm_id)
        assert max(age(entry, calendar) for entry in left) < KEEP
        counts.append(len(left))
        calendar.pass_days(6)
    # Those of five runs: 0, 6, 12, 18 and 24 days ago.
    assert set(counts[5:]) == {counts[4]}
    assert counts[4] == 5 * counts[0]
    assert world.repository.verify("written").good


def test_an_entry_that_cannot_be_read_is_reported_and_the_vm_backed_up(
    world: World, store: LedgerStore
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    good_backup(world, vm_id)
    prefix = next(iter(store.objects_under("ledger"))).rsplit("/", 1)[0]
    planted = f"{prefix}/{99:016x}"
    store.objects[planted] = b"x"
    world.churn(vm_id)
    result = world.backup(vm_id)
    assert result.error is None
    assert [(type(each), getattr(each, "name", None)) for each in result.conditions] == [(Damaged, planted)]
    assert all(each.exit_code is ExitCode.DAMAGE for each in result.conditions)
    world.assert_clean(vm_id)
    assert world.assert_points_equal(vm_id) == 2
    # The run closed the ledger after it.
    assert not world.backup(vm_id).conditions


def test_a_run_reads_few_entries_however_many_there_are(
    world: World, store: LedgerStore, calendar: Calendar
) -> None:
    """On a store that refuses deletes, entries stay for years."""

    def refuse(action: str) -> None:
        if action == "delete":
            raise StoreError("store", "delete", "a ledger entry", "retained until 2030")

    store.disturb = refuse
    vm_id = world.vm(disks=(SMALL,))
    for _ in range(12):
        good_backup(world, vm_id)
        calendar.pass_days(30)
    there = len(entries(world, vm_id))
    assert there > 12 * 5
    world.repository = open_on_store(store)
    store.read.clear()
    world.churn(vm_id)
    result = world.good_backup(vm_id)
    assert not result.warnings
    # The newest one of the run before; and the oldest one, which the store will not delete.
    assert len(store.read) == 2
    assert len(entries(world, vm_id)) > there


def test_years_of_entries_from_before_are_read_once_and_go_little_by_little(
    world: World, store: LedgerStore, calendar: Calendar
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    ledger = world.repository.ledger(vm_id)
    for number in range(250):
        run_id, at = uuid4(), calendar.now().astimezone() - timedelta(days=400 - number)
        for kind in (LedgerKind.RUN_STARTED, LedgerKind.SETTLED):
            ledger.append(LedgerEntry(kind=kind, run_id=run_id, vm_id=vm_id, host="old", at=at))
    counts: list[int] = []
    reads: list[int] = []
    for _ in range(7):
        world.repository = open_on_store(store)
        store.read.clear()
        good_backup(world, vm_id)
        reads.append(len(store.read))
        counts.append(len(entries(world, vm_id)))
    of_a_run = counts[6] - counts[5]
    assert reads[0] >= 500
    assert max(reads[1:]) == EXPIRE_ENTRIES + 1
    assert counts[0] == 500 + of_a_run - EXPIRE_ENTRIES
    assert counts[4] == 5 * of_a_run
    assert reads[5:] == [2, 2]  # the newest one, and the oldest one, which is young


def test_the_entries_of_the_newest_point_stay_while_later_runs_fail(
    world: World, store: LedgerStore, calendar: Calendar
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    good_backup(world, vm_id)
    calendar.pass_days(1)
    good_backup(world, vm_id)
    newest = world.repository.catalog.points(vm_id)[-1]
    for _ in range(8):
        calendar.pass_days(10)
        failed_backup(world, vm_id)
    old = [entry for entry in entries(world, vm_id) if age(entry, calendar) > KEEP]
    assert [(entry.kind, entry.point_id) for entry in old] == [
        (LedgerKind.CONVERSION_INTENDED, newest.point_id),
        (LedgerKind.REFERENCE_POINT_MADE, newest.point_id),
    ]
    # Only they show that its manifest is lost if everything else that names it is lost, too.
    for name in list(store.objects):
        if name.split("/")[0] in ("points", "ids", "proofs") and newest.point_id.hex in name:
            del store.objects[name]
    world.repository = open_on_store(store)
    problems = world.repository.verify("written").problems
    assert [problem.name for problem in problems] == [f"points/{newest.point_id.hex}"]
    failed_backup(world, vm_id, left=1)  # its reference point, which may be anybody's now
    assert not world.repository.verify("written").good


def unpublished_backup(world: World, vm_id: UUID) -> str:
    """A backup whose ids are not published, so that only the ledger names its reference point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hvpsbridge.tasks.backup.finish.ids_of", lambda *_: None)
        good_backup(world, vm_id)
    (made,) = world.host().reference_points(vm_id)
    return made.instance_id


def test_what_names_a_reference_point_stays_until_it_is_destroyed(
    world: World, store: LedgerStore, calendar: Calendar
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    made = unpublished_backup(world, vm_id)
    for _ in range(5):
        calendar.pass_days(20)
        failed_backup(world, vm_id)
    (named,) = (entry for entry in entries(world, vm_id) if entry.reference_point)
    assert named.reference_point == made
    assert age(named, calendar) > KEEP
    for _ in range(2):
        good_backup(world, vm_id)
        calendar.pass_days(31)
    good_backup(world, vm_id)
    assert made not in [entry.reference_point for entry in entries(world, vm_id)]


def test_a_reference_point_on_a_host_where_the_vm_was_is_not_forgotten(
    world: World, store: LedgerStore, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.model.nodes.get("HV01").cluster = "one"
    world.model.setup.add_node("HV02", cluster="one")
    vm_id = world.vm(disks=(SMALL,), clustered=True)
    made = unpublished_backup(world, vm_id)
    listed = ModelHost.reference_points

    def on_this_host(host: ModelHost, of: UUID) -> tuple[ReferencePointInfo, ...]:
        return tuple(one for one in listed(host, of) if host.name == "HV01" or one.instance_id != made)

    monkeypatch.setattr(ModelHost, "reference_points", on_this_host)
    for node, remembered in (("HV02", True), ("HV02", True), ("HV01", False)):
        calendar.pass_days(40)
        world.model.incidents.migrate(vm_id, node)
        world.churn(vm_id)
        result = world.backup(vm_id, node=node)
        assert result.error is None, result.error
        current = world.repository.ledger(vm_id).current_entries()
        assert (made in {name for entry in current for name in entry.own_reference_points}) == remembered
    world.assert_clean(vm_id)


def test_a_vm_that_is_never_fit_leaves_no_more_than_a_month(
    world: World, store: LedgerStore, calendar: Calendar
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    for _ in range(12):
        calendar.pass_days(5)
        result = world.backup(vm_id, free_space_floor=1 << 60)
        assert result.error is not None
    store.read.clear()
    world.repository = open_on_store(store)
    world.backup(vm_id, free_space_floor=1 << 60)
    assert len(store.read) <= 6
    left = entries(world, vm_id)
    assert max(age(entry, calendar) for entry in left) < KEEP
    assert {entry.kind for entry in left} == {LedgerKind.RUN_STARTED, LedgerKind.SETTLED}


def strike(action: str, number: int) -> Callable[[str], None]:
    """Dies at the given time that something is done to an entry."""
    seen = 0

    def disturb(done: str) -> None:
        nonlocal seen
        seen += done == action
        if done == action and seen == number:
            raise Died

    return disturb


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_death_between_deletes_loses_nothing(
    world: World, store: LedgerStore, calendar: Calendar, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(DiskReader, "abandon", lambda self: None)
    vm_id = world.vm(disks=(SMALL,))
    good_backup(world, vm_id)
    calendar.pass_days(1)
    good_backup(world, vm_id)
    calendar.pass_days(31)
    store.disturb = strike("delete", number)
    world.churn(vm_id)
    with pytest.raises(Died):
        world.backup(vm_id)
    reopen(world, store)
    assert world.repository.ledger(vm_id).open_entries() == ()
    good_backup(world, vm_id)
    assert max(age(entry, calendar) for entry in entries(world, vm_id)) < KEEP
    assert world.assert_points_equal(vm_id) == 4
    assert world.repository.verify("written").good


@pytest.mark.parametrize("number", range(1, 10))
@pytest.mark.parametrize("step", ["PLAN", "READ", "CONVERT"])
def test_a_death_at_any_entry_after_a_death_leaves_nothing_behind(
    world: World,
    store: LedgerStore,
    calendar: Calendar,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
) -> None:
    vm_id = world.vm(disks=(SMALL,))
    good_backup(world, vm_id)
    world.churn(vm_id)
    monkeypatch.setattr(DiskReader, "abandon", lambda self: None)
    monkeypatch.setattr(ModelHost, "__exit__", lambda *_: None)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps((step, "before"), die))
    reopen(world, store)
    store.disturb = strike("put", number)
    unknown = 1  # the shell that the last run here itself ends with
    try:
        world.backup(vm_id)
    except Died:
        reopen(world, store)
        # Nothing is lost by a death right behind the entry that closes the ledger but the shell of a run
        # that has done nothing yet. It ends when it is idle.
        last = entries(world, vm_id)[-1]
        unknown += number == 1 or (last.all_settled and number < 5)
    good_backup(world, vm_id)
    assert len(shells_of(world.model)) <= unknown
    assert world.repository.ledger(vm_id).open_entries() == ()
    good_backup(world, vm_id)
    assert world.repository.verify("written").good
    world.assert_points_equal(vm_id)
