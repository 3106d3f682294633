"""Slots for shells: disks take turns, a busy reader keeps its shell, and no shell is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.errors import HostRefused
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.wsman.shells import Quotas
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.transfer.limits import SharedLimits
from hvpsbridge.tasks.transfer.shell_slots import ShellSlots
from hvpsbridge.units import KIB
from tests.tasks.test_limits import run
from tests.tasks.wire import WireWorld
from tests.tasks.world import QUICK


class Reader:
    """A holder that knows whether it has a shell, and whether it works."""

    def __init__(self, slots: ShellSlots, open_now: list[Reader], host: str = "hv01") -> None:
        self._slots = slots
        self._host = host
        self._open = open_now
        self.lock = threading.RLock()
        self.works = False
        self.given_up = 0

    def work(self) -> None:
        self._slots.acquire(self._host, self, lambda: None)
        self.works = True
        with self.lock:
            if self not in self._open:
                self._open.append(self)

    def idle(self) -> None:
        self.works = False
        self._slots.mark_idle(self._host, self)

    def give_up_shell(self) -> None:
        with self.lock:
            assert not self.works, "a shell in use was taken away"
            self._open.remove(self)
            self.given_up += 1


def test_an_idle_reader_keeps_its_shell_until_another_one_needs_the_slot() -> None:
    open_now: list[Reader] = []
    slots = ShellSlots(2)
    first, second, third = (Reader(slots, open_now) for _ in range(3))
    for reader in (first, second):
        reader.work()
        reader.idle()
    first.work()
    first.idle()
    assert open_now == [first, second]
    assert first.given_up == second.given_up == 0
    third.work()
    # The one that has rested longest.
    assert open_now == [first, third]
    slots.release("HV01", third)
    second.work()
    assert first.given_up == 0, "there was a free slot"


def test_hosts_have_slots_of_their_own() -> None:
    open_now: list[Reader] = []
    slots = ShellSlots(1)
    one, other = Reader(slots, open_now), Reader(slots, open_now, "hv02")
    one.work()
    other.work()
    assert len(open_now) == 2


def test_a_wait_that_is_broken_off_leaves_no_place_behind() -> None:
    slots = ShellSlots(1)
    first, second, third = (Reader(slots, []) for _ in range(3))
    first.work()

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        slots.acquire("hv01", second, stop)
    slots.release("hv01", first)
    slots.acquire("hv01", third, stop)


@pytest.mark.parametrize("most", [1, 3])
def test_threads_take_turns_at_slots_and_all_of_them_end(most: int) -> None:
    open_now: list[Reader] = []
    slots = ShellSlots(most)
    working, seen, lock = [0], [0], threading.Lock()
    done: list[Reader] = []

    def live() -> None:
        reader = Reader(slots, open_now)
        for _ in range(10):
            reader.work()
            with lock:
                working[0] += 1
                seen[0] = max(seen[0], working[0])
            with lock:
                working[0] -= 1
            reader.idle()
        slots.release("hv01", reader)
        done.append(reader)

    threads = [threading.Thread(target=live, daemon=True) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 9
    assert seen[0] <= most


# -- on a host that refuses more shells --------------------------------------------------------------------

DISKS = 3


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WireWorld]:
    """A host that lets an account have four shells: of two VMs one each, and two for disks."""
    made = WireWorld(tmp_path)
    made.server.close()
    made.server = SimulatedHost(made.model, quotas=Quotas(shells_per_user=4))
    made.server.__enter__()
    yield made
    made.close()


def test_more_disks_than_shells_are_read_in_turns(world: WireWorld) -> None:
    """Full, then increments that are proved whole: disks come back for another turn after they gave way."""
    vms = [world.vm(name, disks=(256 * KIB,) * DISKS) for name in ("a", "b")]
    for mode in (Mode.FULL, Mode.INCREMENTAL):
        results = run(world, SharedLimits(shells=ShellSlots(2)), policy=QUICK)
        assert {disk.mode for result in results for disk in result.disks} == {mode}
        for vm_id in vms:
            world.assert_clean(vm_id)
            for drive in world.model.disks.drives(vm_id):
                world.churn(vm_id, drive.slot)
    assert all(world.assert_points_equal(vm_id) == 2 for vm_id in vms)
    assert world.server.counters.requests["create"] > 2 * DISKS


def test_without_turns_such_a_host_refuses(world: WireWorld) -> None:
    vm_id = world.vm(disks=(256 * KIB,) * (DISKS + 1))
    assert isinstance(world.backup(vm_id).error, HostRefused)
    world.assert_clean(vm_id, reference_points=0)
