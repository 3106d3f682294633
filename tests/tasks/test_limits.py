"""Limits of a run as the host sees them: bytes sent over time, and disks read at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.receiver.throttling import TokenBucket
from hvpsbridge.sim.engines.readers import Disk
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model.state import ControllerType, Slot
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.policy import BackupOptions, TuningOptions
from hvpsbridge.tasks.runner import Runner
from hvpsbridge.tasks.task import play_task
from hvpsbridge.tasks.transfer.limits import SharedLimits, SharedPermits
from hvpsbridge.tasks.transfer.permits import Claim, RunLimits
from hvpsbridge.units import KIB, MIB
from tests.tasks.backup_process import connection
from tests.tasks.test_permits import within
from tests.tasks.wire import WireWorld
from tests.tasks.world import QUICK

# Small pieces, so that reads of several disks would fall together if they were let.
PIECES = replace(QUICK, tuning=TuningOptions(readers=1, block=64 * KIB, window=64 * KIB))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[WireWorld]:
    made = WireWorld(tmp_path)
    made.model.setup.add_volume("D:\\", 100 << 30)
    yield made
    made.close()


def filled(world: WireWorld, name: str, size: int, node: str = "HV01", volume: str = "C:\\") -> UUID:
    """A VM whose disk holds random bytes throughout."""
    vm_id = world.model.setup.create_vm(name, node=node).vm_id
    slot = Slot(ControllerType.SCSI, 0, 0)
    path = f"{volume}VMs\\{name}.vhdx"
    world.model.setup.add_disk(vm_id, slot, size_bytes=size, path=path, block_bytes=1 * MIB)
    world.model.guests.write(vm_id, slot, 0, world.chance.randbytes(size))
    return vm_id


def run(
    world: WireWorld,
    shared: SharedLimits,
    *,
    policy: BackupOptions = PIECES,
    others: tuple[SimulatedHost, ...] = (),
) -> list[BackupResult]:
    """One play over all hosts; every backup must end well."""
    urls = {"HV01": world.server.url, **{host.node: host.url for host in others}}

    def target(name: str, url: str) -> HostTarget:
        return HostTarget(name, lambda: HyperVHost.connect(replace(connection(url), name=name)))

    targets = tuple(target(str(name), url) for name, url in urls.items())
    play = PlayRun("nightly", targets, world.repository, VmSelection(), (play_task("backup", policy),))
    result = Runner(uuid4(), Observer(), Cancellation(), forks=len(world.model.vms.all()), shared=shared).run(
        [play]
    )
    assert not result.problems
    results = [task for task in result.tasks if isinstance(task, BackupResult)]
    for task in results:
        assert task.error is None, task.error
        assert not task.leftovers
    return results


# -- a rate ------------------------------------------------------------------------------------------------


class Timeline:
    """When a host sent how much."""

    def __init__(self, host: SimulatedHost) -> None:
        self.sent: list[tuple[float, int]] = []
        counters = host.counters
        answered, lock = counters.answered, threading.Lock()

        def noted(action: str, received_bytes: int, sent_bytes: int) -> None:
            with lock:
                self.sent.append((time.monotonic(), sent_bytes))
            answered(action, received_bytes, sent_bytes)

        counters.answered = noted  # type: ignore[method-assign]  # of this one host

    def assert_within(self, rate: float, under_way: float) -> None:
        """In no span of time more came than its rate, a second's worth before, and what was under way."""
        for first, (began, _) in enumerate(self.sent):
            total = 0
            for moment, sent in self.sent[first:]:
                total += sent
                assert total <= rate * (moment - began + 1) + under_way, f"{total} in {moment - began:.2f} s"


def test_no_more_is_sent_than_the_rate_lets(world: WireWorld) -> None:
    rate = 1.5 * MIB
    vms = [filled(world, name, 2 * MIB) for name in ("a", "b")]
    line = Timeline(world.server)
    # As it is by default: windows far larger than what the rate lets come in a second.
    run(world, SharedLimits(rate=TokenBucket(rate)), policy=QUICK)
    assert sum(sent for _, sent in line.sent) > 2 * 2 * MIB * 1.7
    # Each of two disks may have a second's worth under way, and scripts' answers come beside.
    line.assert_within(rate, 2 * rate + 256 * KIB)
    assert all(world.assert_points_equal(vm_id) for vm_id in vms)


# -- readers at once ---------------------------------------------------------------------------------------


class Readers:
    """Which disks are read at this moment, as the hosts do it, and which were before.

    Args:
        claims: what each disk counts against, by its file's name.
        together: so many reads are waited for before the first one is done.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, claims: dict[str, Claim], together: int) -> None:
        self.now: list[Claim] = []
        self.seen: list[list[Claim]] = []
        self.order: list[Claim] = []
        self._changed = threading.Condition()
        self._together = together
        read = Disk.read

        def watched(disk: Disk, offset: int, length: int) -> bytes:
            claim = claims[disk._model.disks.layer(disk.handle.layer).path.rpartition("\\")[2][0]]
            with self._changed:
                self.now.append(claim)
                self.seen.append(list(self.now))
                self.order.append(claim)
                self._changed.notify_all()
                assert self._changed.wait_for(lambda: self.most() >= self._together, timeout=60)
            time.sleep(0.01)  # so that reads fall together wherever they may
            try:
                return read(disk, offset, length)
            finally:
                with self._changed:
                    self.now.remove(claim)

        monkeypatch.setattr(Disk, "read", watched)

    def most(self) -> int:
        """The most that were read at once."""
        return max(map(len, self.seen))


class StartTogether(SharedPermits):
    """Permits that are given out once every reader has asked for one, so that none is early or late."""

    def __init__(self, limits: RunLimits, readers: int) -> None:
        super().__init__(limits, turn_seconds=0.02)
        self._asked: set[int] = set()
        self._start = threading.Barrier(readers)

    def acquire(self, ticket: int, claim: Claim, check: Callable[[], None]) -> None:
        if ticket not in self._asked:
            self._asked.add(ticket)
            self._start.wait(60)
        super().acquire(ticket, claim, check)


# Disks by the first letter of their VM: host and volume.
PLACES = {
    "a": ("HV01", "C:\\"),
    "b": ("HV01", "C:\\"),
    "c": ("HV01", "D:\\"),
    "d": ("HV02", "C:\\"),
    "e": ("HV02", "C:\\"),
}


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        (RunLimits(), 5),
        (RunLimits(readers=1), 1),
        (RunLimits(readers=3), 3),
        (RunLimits(readers_per_host=1), 2),
        (RunLimits(readers_per_volume=1), 3),
    ],
    ids=["none", "run-1", "run-3", "host-1", "volume-1"],
)
def test_vms_side_by_side_are_read_within_the_limits_and_all_of_them_end(
    world: WireWorld, limits: RunLimits, reached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.model.setup.add_node("HV02")
    vms = {name: filled(world, name, 1 * MIB, *place) for name, place in PLACES.items()}
    claims = {name: Claim(*place, vms[name], name) for name, place in PLACES.items()}
    readers = Readers(monkeypatch, claims, reached)
    with SimulatedHost(world.model, node="HV02") as second:
        shared = SharedLimits(permits=StartTogether(limits, len(vms)))
        assert len(run(world, shared, others=(second,))) == len(vms)
    assert readers.most() == reached
    assert all(within(now, limits) for now in readers.seen)
    for vm_id in vms.values():
        assert world.assert_points_equal(vm_id) == 1
    # Nobody waited for another one's end: each disk's first read comes before any disk's last one.
    names = [claim.disk for claim in readers.order]
    firsts = {name: names.index(name) for name in names}
    lasts = {name: len(names) - 1 - names[::-1].index(name) for name in names}
    assert firsts.keys() == vms.keys()
    assert max(firsts.values()) < min(lasts.values())
