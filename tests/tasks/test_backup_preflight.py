"""What would fail after the checkpoint is found before anything is made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.errors import NotEligible, OperationTimedOut
from hvpsbridge.tasks.planning.eligibility import Severity
from tests.tasks.world import World

SHARE = r"\\FS01\VMs\web"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("check", [True, False])
def test_a_share_without_delegation_is_refused_before_anything_is_made(world: World, check: bool) -> None:
    asked: list[str] = []
    vm_id = world.vm(folder=SHARE)
    world.model.set_knob("smb_without_delegation", True)
    world.before = asked.append
    result = world.backup(vm_id, check=check)
    assert isinstance(result.error, NotEligible)
    assert "ERROR_ACCESS_DENIED" in str(result.error)
    assert "delegation" in str(result.error)
    assert "New-HvpsCheckpoint" not in asked
    assert result.findings[0].severity is Severity.REFUSE


def test_a_share_that_opens_is_backed_up_and_its_space_is_not_watched(world: World) -> None:
    vm_id = world.vm(folder=SHARE, disks=(1 << 20, 1 << 20))
    asked: list[str] = []
    world.before = asked.append
    result = world.good_backup(vm_id)
    assert [note.severity for note in result.findings] == [Severity.NOTE]
    assert r"\\fs01\vms" in result.findings[0].text
    assert asked.count("Test-HvpsDisk") == 1


def test_local_storage_is_not_opened_first(world: World) -> None:
    asked: list[str] = []
    world.before = asked.append
    world.good_backup(world.vm())
    assert "Test-HvpsDisk" not in asked


class Rate:
    """A measured rate in place of one of a wire, which this world has not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rate_bytes: float | Exception) -> None:
        self.asked = 0

        def measure(checks: object) -> Rate:
            self.asked += 1
            if isinstance(rate_bytes, Exception):
                raise rate_bytes
            self.rate_bytes = rate_bytes
            return self

        monkeypatch.setattr("hvpsbridge.host.checks.HostChecks.measure_rate", measure)


def test_a_plan_notes_fulls_that_take_longer_than_a_checkpoint_may_age(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = Rate(monkeypatch, 1000.0)
    first, second = world.vm(), world.vm("other")
    for vm_id in (first, second):
        result = world.backup(vm_id, check=True, checkpoint_age=0.1)
        assert result.error is None
        (note,) = result.findings
        assert "checkpoint may be only 0.1 s old" in note.text
    assert rate.asked == 1


@pytest.mark.parametrize(
    ("rate_bytes", "age"), [(1e12, 0.1), (1.0, 1e9), (OperationTimedOut("hv01", "Read-HvpsSample", 1), 0.1)]
)
def test_a_plan_without_that_note(
    world: World, monkeypatch: pytest.MonkeyPatch, rate_bytes: float | Exception, age: float
) -> None:
    rate = Rate(monkeypatch, rate_bytes)
    result = world.backup(world.vm(), check=True, checkpoint_age=age)
    assert (result.error, result.findings) == (None, ())
    assert rate.asked == (age < 1)


def test_a_backup_itself_measures_nothing_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = Rate(monkeypatch, 1.0)
    world.backup(world.vm(), checkpoint_age=0.01)
    assert rate.asked == 0
