"""Leases: who holds one, which holders are dead, and how a holder finds out that it lost one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.errors import LeaseLost, NewerObject, RepositoryLocked, StoreError
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.formats.lease import LeaseRecord
from hvpsbridge.formats.record import encode_record
from hvpsbridge.repository import lease as module
from hvpsbridge.repository.holder import current_holder, is_provably_dead
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.sealing import PlainSealer
from tests.repository.memory_store import MemoryStore
from tests.waiting import DEADLINE_SECONDS, wait_until

PREFIX = f"leases/{0xABC:032x}"


@pytest.fixture
def objects() -> Objects:
    repository_id = uuid4()
    return Objects(MemoryStore(), PlainSealer(repository_id), repository_id)


def take(objects: Objects, *, stale_seconds: float = 0.3, **changes: object) -> Lease:
    """A lease of a holder that looks like this process with ``changes``; it does not renew by itself.

    Args:
        stale_seconds: how long a holder elsewhere is watched before it is taken for dead.
    """
    holder = replace(current_holder(uuid4()), **changes)  # type: ignore[arg-type]  # overrides by keyword
    return Lease(objects, PREFIX, holder, "VM x", stale_seconds=stale_seconds, renew_seconds=3600)


def give_up_silently(lease: Lease) -> None:
    """End a holder as SIGKILL does, without a release."""
    lease._stop.set()


def objects_of(objects: Objects) -> list[str]:
    """Names of the records."""
    return [info.name for info in objects.list(PREFIX)]


ELSEWHERE = {"boot_id": "another boot", "machine": "elsewhere"}


class TestLease:
    def test_asks_once_where_nothing_may_be_deleted(self, objects: Objects) -> None:
        asked: list[str] = []

        class Refusing(MemoryStore):
            def delete(self, name: str) -> None:
                asked.append(name)
                raise StoreError(self.url, "delete", name, "permission denied")

        objects.store = Refusing()
        with take(objects) as lease:
            for _ in range(5):
                lease.check()
        assert len(asked) == 1
        take(objects).release()  # the remaining records do no harm

    @pytest.mark.parametrize("counter", [7, 2**48 - 1, 2**48, 2**64 - 1])
    def test_is_taken_in_spite_of_an_object_that_is_no_record(self, objects: Objects, counter: int) -> None:
        with take(objects):
            pass
        store = objects.store
        assert isinstance(store, MemoryStore)
        store.objects[f"{PREFIX}/{counter:016x}"] = b"x"
        begun = time.monotonic()
        for number in range(3):
            with take(objects, stale_seconds=0.2) as lease:
                lease.check()
                with pytest.raises(RepositoryLocked):
                    take(objects)
            if number == 0:
                waited = time.monotonic() - begun
        assert waited < 5

    @pytest.mark.parametrize("blocked", [range(2, 3), range(2, 200)])
    def test_is_taken_and_kept_in_spite_of_names_that_are_taken_but_not_listed(
        self, objects: Objects, blocked: range
    ) -> None:
        """An empty object in S3, or a folder or a link elsewhere: no listing of records has it."""
        store = objects.store
        assert isinstance(store, MemoryStore)
        with take(objects):
            pass
        for counter in blocked:
            store.objects[f"{PREFIX}/{counter:016x}"] = b""
        with take(objects, stale_seconds=0.2) as lease:
            following = max(int(name.rsplit("/", 1)[1], 16) for name in objects_of(objects)) + 1
            store.objects[f"{PREFIX}/{following:016x}"] = b""
            lease.check()
            with pytest.raises(RepositoryLocked):
                take(objects)
        begun = time.monotonic()
        take(objects, stale_seconds=60).release()
        assert time.monotonic() - begun < 30

    def test_of_two_that_pass_over_a_taken_name_one_is_held(self, objects: Objects) -> None:
        store = objects.store
        assert isinstance(store, MemoryStore)
        store.objects[f"{PREFIX}/{0:016x}"] = b""
        held: list[Lease] = []
        refused: list[RepositoryLocked] = []

        def one() -> None:
            try:
                held.append(take(objects, stale_seconds=0.2, **ELSEWHERE))
            except RepositoryLocked as err:
                refused.append(err)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert held
        alive = 0
        for lease in held:
            with contextlib.suppress(LeaseLost):
                lease.check()
                alive += 1
        assert alive == 1
        for lease in held:
            give_up_silently(lease)

    @pytest.mark.parametrize("counter", [7, 2**48 - 1, 2**64 - 1])
    def test_is_kept_when_somebody_adds_an_object(self, objects: Objects, counter: int) -> None:
        store = objects.store
        assert isinstance(store, MemoryStore)
        with take(objects) as lease:
            for at in (counter, counter - 1):
                store.objects[f"{PREFIX}/{at:016x}"] = b"x"
            for _ in range(3):
                lease.check()
            with pytest.raises(RepositoryLocked):
                take(objects)
        take(objects).release()

    def test_of_a_newer_hvps_is_not_taken(self, objects: Objects) -> None:
        take(objects).release()
        record = json.loads(objects.read(f"{PREFIX}/{1:016x}", Kind.LEASE)) | {"zone": "later", "counter": 9}
        text = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        objects.write(f"{PREFIX}/{9:016x}", Kind.LEASE, text)
        with pytest.raises(NewerObject):
            take(objects)

    def test_forged_in_a_plain_repository_locks_with_an_error(self, objects: Objects) -> None:
        forged = f"{PREFIX}/{2**64 - 1:016x}"
        record = LeaseRecord(2**64 - 1, current_holder(uuid4()), datetime.now(UTC), released=True)
        objects.write(forged, Kind.LEASE, encode_record(record))
        with pytest.raises(RepositoryLocked):
            take(objects)

    def test_that_could_not_be_released_is_no_lock_for_its_own_process(self, objects: Objects) -> None:
        class Failing(MemoryStore):
            broken = False

            def put(self, name: str, data: bytes) -> None:
                if self.broken:
                    raise StoreError(self.url, "create", name, "down")
                super().put(name, data)

        objects.store = store = Failing()
        lease = take(objects)
        store.broken = True
        with pytest.raises(StoreError):
            lease.release()
        store.broken = False
        take(objects).release()

    def test_is_held_by_one_until_released(self, objects: Objects) -> None:
        with take(objects) as lease:
            with pytest.raises(RepositoryLocked, match=f"process {os.getpid()}"):
                take(objects)
            lease.check()
        with take(objects) as next_lease:
            assert next_lease.taken_from is None

    def test_of_a_dead_process_of_this_machine_is_taken_at_once(self, objects: Objects) -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        stat = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        lost = take(objects, process_id=process.pid, process_started=int(stat[19]))
        give_up_silently(lost)
        with pytest.raises(RepositoryLocked):
            take(objects)
        process.kill()  # it may still be a zombie, which is dead, too
        wait_until(lambda: is_provably_dead(lost.holder), "a dead holder was not recognised")
        with take(objects) as lease:
            assert lease.taken_from == lost.holder
        process.wait()

    def test_of_a_recycled_pid_is_dead(self) -> None:
        me = current_holder(uuid4())
        assert not is_provably_dead(me)
        assert me.process_started is not None
        assert is_provably_dead(replace(me, process_started=me.process_started - 1))

    @pytest.mark.parametrize(
        "changes",
        [{"boot_id": "b"}, {"pid_namespace": "pid:[1]"}, {"boot_id": None}, {"pid_namespace": None}],
    )
    def test_of_another_boot_or_container_is_never_provably_dead(self, changes: dict[str, object]) -> None:
        holder = replace(current_holder(uuid4()), process_id=2**22 + 1, **changes)  # type: ignore[arg-type]
        assert not is_provably_dead(holder)

    def test_of_another_machine_is_taken_when_its_counter_stands_still(self, objects: Objects) -> None:
        lost = take(objects, **ELSEWHERE)
        give_up_silently(lost)
        with take(objects) as lease:
            assert lease.taken_from == lost.holder
            with pytest.raises(LeaseLost):
                lost.check()
            lease.check()

    def test_of_another_machine_that_renews_is_not_taken(self, objects: Objects) -> None:
        holder = replace(current_holder(uuid4()), boot_id="another boot")
        with Lease(objects, PREFIX, holder, "VM x", renew_seconds=0.05) as lease:
            with pytest.raises(RepositoryLocked):
                take(objects, stale_seconds=DEADLINE_SECONDS)
            lease.check()

    def test_does_not_look_at_anybodys_clock(self, objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
        # A record dated a century ago, or ahead, changes nothing: only the counter is watched.
        class Skewed(module.datetime):
            @classmethod
            def now(cls, tz: object = None) -> module.datetime:  # type: ignore[override]
                return module.datetime(1990, 1, 1, tzinfo=module.UTC)

        monkeypatch.setattr(module, "datetime", Skewed)
        holder = replace(current_holder(uuid4()), boot_id="another boot")
        with Lease(objects, PREFIX, holder, "VM x", renew_seconds=0.05) as lease:
            monkeypatch.undo()
            with pytest.raises(RepositoryLocked):
                take(objects, stale_seconds=DEADLINE_SECONDS)
            lease.check()

    def test_lost_stays_lost_when_the_taker_has_gone(self, objects: Objects) -> None:
        sleeper = take(objects, **ELSEWHERE)
        give_up_silently(sleeper)
        for _ in range(3):
            take(objects).release()
        with pytest.raises(LeaseLost):
            sleeper.check()
        with pytest.raises(LeaseLost):
            sleeper.check()
        take(objects).release()

    def test_counter_never_goes_back(self, objects: Objects) -> None:
        seen = []
        for _ in range(3):
            take(objects).release()
            (left,) = objects.list(PREFIX)
            seen.append(int(left.name.rsplit("/", 1)[1], 16))
        assert seen == sorted(set(seen))

    def test_with_an_unreadable_record_is_taken_only_after_the_wait(self, objects: Objects) -> None:
        lost = take(objects)
        give_up_silently(lost)
        assert isinstance(objects.store, MemoryStore)
        (name,) = objects.store.objects
        objects.store.objects[name] = b"half"
        started = time.monotonic()
        take(objects).release()
        assert time.monotonic() - started >= 0.3

    def test_of_a_stopped_process_here_is_kept(self, objects: Objects) -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            os.kill(process.pid, signal.SIGSTOP)
            stat = Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
            give_up_silently(take(objects, process_id=process.pid, process_started=int(stat[19])))
            with pytest.raises(RepositoryLocked):
                take(objects)
        finally:
            process.kill()
            process.wait()

    def test_of_a_run_leaves_nothing_behind(self, objects: Objects) -> None:
        Lease(objects, f"runs/{1:032x}", current_holder(uuid4()), "run", once=True).release()
        assert list(objects.list("runs")) == []

    def test_is_taken_by_exactly_one_of_many(self, objects: Objects) -> None:
        give_up_silently(take(objects, **ELSEWHERE))
        won: list[Lease] = []

        def attempt() -> None:
            with contextlib.suppress(RepositoryLocked):
                won.append(take(objects))

        threads = [threading.Thread(target=attempt) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].check()
