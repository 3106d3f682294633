"""After a failure of the host the entries of its event logs come into the report; nothing else changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from hvpsbridge.errors import OperationFailed, ProtocolViolation, SessionLost
from hvpsbridge.report.documents import document_text
from hvpsbridge.report.documents.run import run_report
from hvpsbridge.report.views import condition_lines
from hvpsbridge.tasks.backup.evidence import MAX_EVENTS, MAX_LETTERS
from hvpsbridge.tasks.results import RunResult
from tests.tasks import builders as make
from tests.tasks.world import World

EVENTS = "Get-HvpsEvent"


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    yield made
    made.close()


def test_a_failed_checkpoint_comes_with_its_events(world: World) -> None:
    vm_id, other = world.vm(), world.vm("other")
    for one in (other, vm_id):
        world.model.faults.arm("checkpoint_no_space")
        result = world.backup(one)
    assert isinstance(result.error, OperationFailed)
    (event,) = result.host_events
    assert event.event_id == 18012
    assert "0x80070070" in event.text
    report = run_report(RunResult(make.RUN_ID, make.NOON, 1.0, (result,)), name="n", check=False)
    assert '"event_id": 18012' in document_text(report)
    assert any("event 18012 of Hyper-V-VMMS-Admin at" in line for line in condition_lines(report))


def test_events_are_bounded_and_cleaned(world: World) -> None:
    vm_id = world.vm()
    world.model.knobs.language = "de"
    core = world.model.nodes._core
    for number in range(MAX_EVENTS * 2):
        core.log("Microsoft-Windows-Hyper-V-VMMS-Admin", number, core.vm(vm_id), "a\r\nb" * 1000)
    world.model.faults.arm("checkpoint_no_space")
    events = world.backup(vm_id).host_events
    assert len(events) == MAX_EVENTS
    assert events[-1].event_id == 18012
    assert all(len(event.text) <= MAX_LETTERS and "\n" not in event.text for event in events)


def test_disks_are_named_without_their_drive(world: World) -> None:
    given: list[tuple[str, ...]] = []

    def events(checks: object, vm_id: object, seconds: float, disks: Iterable[str], most: int) -> tuple[()]:
        given.append(tuple(disks))
        return ()

    world.model.faults.arm("checkpoint_no_space", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hvpsbridge.host.checks.HostChecks.events", events)
        world.backup(world.vm(folder=r"D:\VMs\a.b"))
        world.backup(world.vm("other", folder=r"\\fs\share\b"))
    assert [disks[0].rpartition("\\")[0] for disks in given] == [
        r"\VMs\a.b\Virtual Hard Disks",
        r"\fs\share\b\Virtual Hard Disks",
    ]


def test_a_backup_without_failure_asks_for_none(world: World) -> None:
    asked: list[str] = []
    world.before = asked.append
    result = world.backup(world.vm())
    assert result.error is None
    assert (result.host_events, EVENTS in asked) == ((), False)


@pytest.mark.parametrize(
    "failure",
    [
        SessionLost("hv01", EVENTS, "gone"),
        ProtocolViolation("hv01", EVENTS, "nonsense"),
        ValueError("a bug"),
    ],
)
def test_failing_to_get_them_does_not_change_the_result(world: World, failure: Exception) -> None:
    def before(name: str) -> None:
        if name == EVENTS:
            raise failure

    world.model.faults.arm("checkpoint_no_space")
    world.before = before
    result = world.backup(world.vm())
    assert isinstance(result.error, OperationFailed)
    assert result.error.native == 0x80070070
    assert (result.host_events, result.conditions) == ((), ())


def test_a_warning_after_the_commit_has_its_events_too(world: World) -> None:
    world.model.faults.arm("convert_fails")
    result = world.backup(world.vm())
    assert result.error is None
    assert result.point_id is not None
    assert [event.event_id for event in result.host_events] == [18012, 19070, 19080]
