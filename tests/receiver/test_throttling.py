"""Shares of a budget: one host does not take what others need."""

from __future__ import annotations

from hvpsbridge.receiver.throttling import ByteBudget
from hvpsbridge.units import MIB

WINDOW = 4 * MIB


def fill(budget: ByteBudget) -> int:
    """Take windows as long as there are any; how many bytes."""
    while budget.try_take(WINDOW):
        pass
    return budget.taken_bytes


def test_a_host_that_gives_nothing_back_leaves_some_for_others() -> None:
    whole = ByteBudget(64 * MIB)
    slow, other = ByteBudget(share_of=whole), ByteBudget(share_of=whole)
    assert fill(slow) == 48 * MIB
    assert fill(other) >= 2 * WINDOW
    # What others give back is not for the slow one.
    other.give_back(other.taken_bytes)
    assert not slow.try_take(WINDOW)
    assert other.try_take(WINDOW)


def test_shares_together_are_within_the_whole_and_give_back_to_it() -> None:
    whole = ByteBudget(64 * MIB)
    shares = [ByteBudget(share_of=whole) for _ in range(10)]
    taken = sum(map(fill, shares))
    assert taken == whole.taken_bytes <= 64 * MIB
    for share in shares:
        share.give_back(share.taken_bytes)
    assert whole.taken_bytes == 0


def test_a_request_larger_than_everything_is_granted_alone() -> None:
    whole = ByteBudget(1 * MIB)
    share, other = ByteBudget(share_of=whole), ByteBudget(share_of=whole)
    assert share.try_take(WINDOW)
    assert not other.try_take(WINDOW)
    share.give_back(WINDOW)
    assert other.try_take(WINDOW)
