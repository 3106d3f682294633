"""Permits: limits hold, no permit stays idle, no reader starves, and threads do not deadlock."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.tasks.policy import RunLimits
from hvpsbridge.tasks.transfer.limits import SharedPermits
from hvpsbridge.tasks.transfer.permits import MAX_PASSES, Claim, Permits
from tests.waiting import DEADLINE_SECONDS

TURN = 5.0


def claim(host: int, volume: int, vm: int, disk: int) -> Claim:
    return Claim(f"hv{host}", f"{'CDE'[volume]}:\\", UUID(int=host * 100 + vm), f"{disk}.vhdx")


# A VM is on one host; its disks may be on several volumes.
CLAIMS = st.builds(claim, st.integers(0, 1), st.integers(0, 2), st.integers(0, 3), st.integers(0, 2))
LIMIT = st.none() | st.integers(1, 4)
LIMITS = st.builds(RunLimits, readers=LIMIT, readers_per_host=LIMIT, readers_per_volume=LIMIT)


def counted(holders: list[Claim]) -> tuple[int, Counter[str], Counter[tuple[str, str]]]:
    return (
        len(holders),
        Counter(one.host for one in holders),
        Counter((one.host, one.volume) for one in holders),
    )


def within(holders: list[Claim], limits: RunLimits) -> bool:
    total, hosts, volumes = counted(holders)
    of_host, of_volume = limits.readers_per_host, limits.readers_per_volume
    return (
        (limits.readers is None or total <= limits.readers)
        and (of_host is None or max(hosts.values(), default=0) <= of_host)
        and (of_volume is None or max(volumes.values(), default=0) <= of_volume)
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CLAIMS, st.integers(1, 12)), min_size=1, max_size=14), LIMITS)
def test_limits_hold_nothing_idles_and_all_work_gets_done(
    readers: list[tuple[Claim, int]], limits: RunLimits
) -> None:
    permits = Permits(limits, TURN)
    claims = {permits.ticket(): one for one, _ in readers}
    left = dict(zip(claims, (work for _, work in readers), strict=True))
    for ticket, one in claims.items():
        permits.ask(ticket, one)
    holding: set[int] = set()
    for now in itertools.count():
        holding |= set(permits.grant(now))
        if not left:
            break
        held = [claims[ticket] for ticket in holding]
        assert within(held, limits)
        for ticket in left.keys() - holding:
            assert not within([*held, claims[ticket]], limits), "a free permit, and somebody waits for it"
        # Each holder works for one second; holders that are done or due give up and ask again.
        for ticket in sorted(holding):
            left[ticket] -= 1
            if not left[ticket] or permits.due(ticket, now + 1):
                permits.drop(ticket)
                holding.discard(ticket)
                if left[ticket]:
                    permits.ask(ticket, claims[ticket])
                else:
                    del left[ticket]
        assert now < sum(work for _, work in readers), "nobody worked in some round"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(CLAIMS, min_size=2, max_size=12),
    LIMITS,
    st.integers(0, 11),
)
def test_nobody_waits_for_ever_among_readers_that_never_end(
    claims_: list[Claim], limits: RunLimits, watched: int
) -> None:
    permits = Permits(limits, TURN)
    claims = {permits.ticket(): one for one in claims_}
    for ticket, one in claims.items():
        permits.ask(ticket, one)
    watched_ticket = sorted(claims)[watched % len(claims)]
    waited = 0
    holding: set[int] = set()
    # In each turn another reader may go first, but each of them only a limited number of times.
    most = (MAX_PASSES + len(claims)) * (int(TURN) + 1) * 2
    for now in range(3 * most):
        holding |= set(permits.grant(now))
        waited = 0 if watched_ticket in holding else waited + 1
        assert waited <= most, f"{claims[watched_ticket]} waits since {waited} s"
        for ticket in sorted(holding):
            if permits.due(ticket, now + 1):
                permits.drop(ticket)
                holding.discard(ticket)
                permits.ask(ticket, claims[ticket])


def turns(permits: Permits, claims: dict[int, Claim], count: int) -> list[int]:
    """Who gets the next permits, when each holder gives up after a turn and asks again at once."""
    got: list[int] = []
    now = 0.0
    while len(got) < count:
        got += permits.grant(now)
        now += TURN
        for ticket in claims:
            if permits.due(ticket, now):
                permits.drop(ticket)
                permits.ask(ticket, claims[ticket])
    return got[:count]


def test_equals_take_turns_in_the_order_of_asking() -> None:
    permits = Permits(RunLimits(readers=1), TURN)
    claims = {permits.ticket(): claim(0, 0, vm, 0) for vm in range(3)}
    for ticket, one in claims.items():
        permits.ask(ticket, one)
    assert turns(permits, claims, 9) == list(claims) * 3


def test_a_disk_whose_vm_reads_elsewhere_too_is_passed_over_only_so_often() -> None:
    permits = Permits(RunLimits(readers_per_volume=1), TURN)
    elsewhere, here = permits.ticket(), permits.ticket()
    claims = {elsewhere: claim(0, 0, 0, 0), here: claim(0, 1, 0, 1)}
    # VMs that hold nothing else go first, time and again.
    claims |= {permits.ticket(): claim(0, 1, vm, 0) for vm in (1, 2)}
    for ticket, one in claims.items():
        permits.ask(ticket, one)
    got = turns(permits, claims, 4 * MAX_PASSES)
    assert got.count(elsewhere) == 1, "nobody else wants its volume"
    got.remove(elsewhere)
    assert MAX_PASSES - 1 <= got.index(here) <= MAX_PASSES + 1
    assert got.count(here) >= 2


def test_two_vms_get_half_each_however_many_disks_one_has() -> None:
    permits = Permits(RunLimits(readers_per_host=4), TURN)
    large = [claim(0, 0, 0, disk) for disk in range(8)]
    small = [claim(0, 0, 1, disk) for disk in range(2)]
    tickets = {permits.ticket(): one for one in large}
    for ticket, one in tickets.items():
        permits.ask(ticket, one)
    assert len(permits.grant(0)) == 4
    late = {permits.ticket(): one for one in small}
    for ticket, one in late.items():
        permits.ask(ticket, one)
    # At once, not after a turn: the large VM gives up until both have the same.
    for ticket in tickets:
        if permits.due(ticket, 0.1):
            permits.drop(ticket)
            permits.grant(0.1)
    assert sum(permits.holds(ticket) for ticket in late) == 2
    assert sum(permits.holds(ticket) for ticket in tickets) == 2
    assert not any(permits.due(ticket, 0.2) for ticket in (*tickets, *late)), "shares are equal now"


def test_a_reader_whose_volume_is_full_is_not_in_the_way_of_others() -> None:
    permits = Permits(RunLimits(readers_per_volume=1), TURN)
    first, second, other = (permits.ticket() for _ in range(3))
    permits.ask(first, claim(0, 0, 0, 0))
    permits.ask(second, claim(0, 0, 1, 0))
    permits.ask(other, claim(0, 1, 2, 0))
    assert permits.grant(0) == (first, other)
    assert not permits.due(other, 99), "its permit would help nobody"
    assert permits.due(first, TURN)


@pytest.mark.parametrize("run", [1, 3])
def test_threads_take_turns_and_all_of_them_end(run: int) -> None:
    shared = SharedPermits(RunLimits(readers=run), turn_seconds=0.001)
    lock = threading.Lock()
    inside = 0
    most = 0
    done: list[int] = []

    def read(number: int) -> None:
        nonlocal inside, most
        gate = shared.permit(claim(0, number % 3, number % 4, number))
        for _ in range(20):
            gate.enter(lambda: None)
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            if gate.due():
                gate.leave()
        gate.leave()
        done.append(number)

    threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert sorted(done) == list(range(8))
    assert most <= run


def test_a_wait_that_is_broken_off_leaves_no_permit_behind() -> None:
    shared = SharedPermits(RunLimits(readers=1))
    first, second, third = (shared.permit(claim(0, 0, vm, 0)) for vm in range(3))
    first.enter(lambda: None)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        second.enter(stop)
    first.leave()
    third.enter(stop)
    third.leave()
