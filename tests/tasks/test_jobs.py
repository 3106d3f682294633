"""Which VM is next: hosts take turns, and one in trouble comes last."""

from __future__ import annotations

import pytest

from hvpsbridge.errors import (
    HostUnreachable,
    HvpsError,
    NotEligible,
    OperationTimedOut,
    ProtocolViolation,
    SessionLost,
)
from hvpsbridge.tasks.jobs import JobQueue

# Host and VM, in the order of names, as the runner has them.
JOBS = [("bad", "a"), ("bad", "b"), ("bad", "c"), ("bad", "d"), ("good", "e"), ("good", "f"), ("good", "g")]


def queue(jobs: list[tuple[str, str]] = JOBS) -> JobQueue[tuple[str, str]]:
    return JobQueue(jobs, lambda job: job[0])


def drain(jobs: JobQueue[tuple[str, str]], error: HvpsError | None = None) -> str:
    """VMs in the order in which one worker gets them, with this error of each on the bad host."""
    order = ""
    while (job := jobs.take()) is not None:
        order += job[1]
        jobs.ended(job, error if job[0] == "bad" else None)
    return order


def test_with_one_host_the_order_stays() -> None:
    assert drain(queue([("only", name) for name in "dacb"])) == "dacb"
    assert drain(queue()) == "abcdefg"


@pytest.mark.parametrize(
    "error",
    [
        HostUnreachable("bad", "down"),
        OperationTimedOut("bad", "Get-HvpsVm", 60),
        ProtocolViolation("bad", "Get-HvpsVm", "nonsense"),
        SessionLost("bad", "Get-HvpsVm", "gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_vms_of_a_host_in_trouble_come_after_those_of_the_others(error: HvpsError) -> None:
    assert drain(queue(), error) == "aefgbcd"


def test_a_vm_that_cannot_be_backed_up_is_no_trouble_of_its_host() -> None:
    assert drain(queue(), NotEligible("a", "it is shielded")) == "abcdefg"


def test_a_host_that_never_ends_holds_one_worker_while_others_have_vms() -> None:
    jobs = queue()
    stuck = jobs.take()
    assert stuck == ("bad", "a")
    for name in "efg":
        job = jobs.take()
        assert job == ("good", name)
        jobs.ended(job, None)
    assert jobs.take() == ("bad", "b")
