"""Progress: totals are sums, a stalled read shows, and a rate covers the last ten seconds."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import UUID

from hvpsbridge.tasks.events import Meter, Progress, VmRef
from hvpsbridge.tasks.totals import TOTAL, Totals

WEB = VmRef("hv01", UUID(int=1), "web")
DB = VmRef("hv01", UUID(int=2), "db")


def moved(activity: str, owed_bytes: int, done_bytes: int, wire_bytes: int = 0) -> Progress:
    return Progress(
        slot="scsi 0:0",
        activity=activity,
        owed_bytes=owed_bytes,
        done_bytes=done_bytes,
        wire_bytes=wire_bytes,
        rate_bytes=1.0,
        left_seconds=None,
    )


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_totals_are_the_sums_of_what_disks_told_last() -> None:
    chance, clock = random.Random(7), Clock()
    totals = Totals(clock)
    disks = [(WEB, "scsi 0:0"), (WEB, "scsi 0:1"), (DB, "scsi 0:0")]
    done = dict.fromkeys(disks, 0)
    total = None
    for _ in range(200):
        clock.now += 0.1
        disk = chance.choice(disks)
        done[disk] = min(done[disk] + chance.randrange(10), 500)
        total = totals.add(disk[0], replace(moved("read", 500, done[disk], 2 * done[disk]), slot=disk[1]))
    assert total is not None
    assert totals.disks == 3
    assert total.slot == TOTAL
    assert (total.owed_bytes, total.done_bytes, total.wire_bytes) == (
        1500,
        sum(done.values()),
        2 * sum(done.values()),
    )


def test_a_disk_that_is_read_and_then_proved_owes_both_and_nothing_is_taken_back() -> None:
    clock = Clock()
    totals = Totals(clock)
    totals.add(WEB, moved("read", 100, 100))
    proving = totals.add(WEB, moved("prove", 50, 10))
    assert (proving.owed_bytes, proving.done_bytes) == (150, 110)
    again = totals.add(WEB, moved("read", 30, 0))
    assert (again.owed_bytes, again.done_bytes) == (180, 110)


def test_the_total_rate_is_of_the_last_ten_seconds() -> None:
    clock = Clock()
    totals = Totals(clock)
    done = 0
    for _ in range(100):
        clock.now += 0.5
        done += 50
        fast = totals.add(WEB, moved("read", 10_000, done))
    assert abs(fast.rate_bytes - 100) < 5
    assert fast.left_seconds is not None
    assert abs(fast.left_seconds - 50) < 5
    for _ in range(24):
        clock.now += 0.5
        slow = totals.add(DB, moved("read", 10, 0))
    assert slow.rate_bytes == 0
    assert slow.left_seconds is None


def test_a_read_that_stalls_says_so_instead_of_keeping_its_last_rate() -> None:
    clock = Clock()
    told: list[Progress] = []
    meter = Meter(told.append, "scsi 0:0", "read", 1000, clock=clock)
    for _ in range(10):
        clock.now += 1.0
        meter.moved(50, 60)
    assert abs(told[-1].rate_bytes - 50) < 1
    for _ in range(15):
        clock.now += 1.0
        meter.tick()
    assert told[-1].rate_bytes == 0
    assert told[-1].left_seconds is None
    count = len(told)
    for _ in range(100):
        meter.tick()
    assert len(told) == count, "no more than once a second"
