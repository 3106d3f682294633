"""Waiting for merges: only for the children of the checkpoint, and only for so long."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

from hvpsbridge.contract.results import MergeState
from hvpsbridge.tasks.cleanup.merge_wait import wait_for_merge
from hvpsbridge.tasks.policy import BackupLimits

CHILD, OTHER, BASE = "C:\\web_1.avhdx", "C:\\db_7.avhdx", "C:\\web.vhdx"


@dataclass
class Merging:
    """A host whose chains are these, one after the other."""

    chains: list[tuple[str, ...]]
    asked: int = 0

    def merge_state(self, vm_id: UUID) -> MergeState:
        self.asked += 1
        # Whatever else goes on: the VM is said to merge all the time.
        return MergeState(vm_id, True, (2, 32772), self.chains[min(self.asked, len(self.chains)) - 1])


def waited(host: Merging, children: tuple[str, ...], now: list[float]) -> tuple[str, ...]:
    def pause(seconds: float) -> bool:
        now[0] += seconds
        return True

    limits = BackupLimits(merge_seconds=60.0, poll_seconds=10.0)
    return wait_for_merge(host, uuid4(), children, limits, pause, lambda: now[0])  # type: ignore[arg-type]


def test_a_merge_is_over_when_our_child_is_on_no_chain_whatever_else_merges() -> None:
    host, now = Merging([(CHILD, BASE), (OTHER, CHILD.upper(), BASE), (OTHER, BASE)]), [0.0]
    assert waited(host, (CHILD,), now) == ()
    assert (host.asked, now[0]) == (3, 20.0)


def test_a_merge_that_does_not_end_is_waited_for_so_long_and_named() -> None:
    host, now = Merging([(CHILD, BASE)]), [0.0]
    (left,) = waited(host, (CHILD,), now)
    assert CHILD in left
    assert 60.0 < now[0] <= 80.0


def test_without_a_child_of_ours_nothing_is_waited_for() -> None:
    host = Merging([(OTHER, BASE)])
    assert waited(host, (), [0.0]) == ()
    assert host.asked == 0
