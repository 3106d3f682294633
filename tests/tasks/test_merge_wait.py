"""Waiting for merges: only for the children of the checkpoint, and only for so long."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from hvpsbridge.contract.results import MergeState
from hvpsbridge.errors import (
    CommitForkFailed,
    DiskBusy,
    HostError,
    OperationFailed,
    OperationTimedOut,
    SessionLost,
    VmNotFound,
)
from hvpsbridge.tasks.cleanup.merge_wait import wait_for_merge
from hvpsbridge.tasks.policy import BackupLimits

CHILD, OTHER, BASE = "C:\\web_1.avhdx", "C:\\db_7.avhdx", "C:\\web.vhdx"


@dataclass
class Merging:
    """A host whose chains are these, one after the other; or what it says instead."""

    chains: list[tuple[str, ...] | MergeState | HostError]
    asked: int = 0

    def merge_state(self, vm_id: UUID) -> MergeState:
        self.asked += 1
        said = self.chains[min(self.asked, len(self.chains)) - 1]
        if isinstance(said, HostError):
            raise said
        if isinstance(said, MergeState):
            return said
        # Whatever else goes on: the VM is said to merge all the time.
        return MergeState(vm_id, True, (2, 32772), said)


UNREAD = MergeState(uuid4(), True, (2, 32772), (), (CHILD,))


def refused(kind: type[OperationFailed]) -> OperationFailed:
    return kind("HV01", "Get-HvpsMerge", "Hvps.DiskBusy", "ResourceBusy", None, "in use")


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


@pytest.mark.parametrize(
    "said",
    [UNREAD, refused(DiskBusy), refused(OperationFailed), OperationTimedOut("HV01", "Get-HvpsMerge", 60.0)],
    ids=lambda said: type(said).__name__,
)
def test_a_drive_that_cannot_be_asked_is_still_being_merged(said: MergeState | HostError) -> None:
    host, now = Merging([(CHILD, BASE), said, said, (BASE,)]), [0.0]
    assert waited(host, (CHILD,), now) == ()
    assert host.asked == 4
    host, now = Merging([said]), [0.0]
    (left,) = waited(host, (CHILD,), now)
    assert f"{CHILD} may still be merged" in left
    assert 60.0 < now[0] <= 80.0, "only the deadline ends the waiting"


@pytest.mark.parametrize(
    "err",
    [refused(VmNotFound), refused(CommitForkFailed), SessionLost("HV01", "Get-HvpsMerge", "cut")],
    ids=lambda err: type(err).__name__,
)
def test_waiting_does_not_help_where_the_vm_or_the_connection_is_gone(err: HostError) -> None:
    with pytest.raises(type(err)):
        waited(Merging([err]), (CHILD,), [0.0])
