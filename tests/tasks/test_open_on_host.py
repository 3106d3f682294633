"""What ``hvps host check`` says of restores in the ledger."""

from __future__ import annotations

from uuid import uuid4

import pytest

from hvpsbridge.formats.in_place import InPlaceDisk, InPlaceRestore, Stage
from hvpsbridge.formats.ledger import RestoreIntent
from hvpsbridge.tasks.cleanup.restores import RestoreJournal
from hvpsbridge.tasks.host_check import CheckState, HostCheck
from hvpsbridge.tasks.restore.in_place_ledger import InPlaceLedger
from hvpsbridge.tasks.restore.open_on_host import check_restores
from tests.tasks.world import World


def shown(world: World, machine: str = "hv01") -> list[HostCheck]:
    return list(check_restores(world.repository, machine, "host1"))


def test_nothing_is_open(world: World) -> None:
    assert [row.state for row in shown(world)] == [CheckState.GOOD]


def test_a_copy_that_did_not_end_is_listed_until_it_does(world: World) -> None:
    journal = RestoreJournal(world.repository, uuid4(), "host1")
    journal.intended("mark", RestoreIntent("HV01", "copy", "C:\\VMs\\copy", (), ()))
    (row,) = shown(world)
    assert row.state is CheckState.NOTE
    assert "VM copy has not ended; files may be in C:\\VMs\\copy" in row.text
    assert "hvps host sweep host1" in row.remedy
    assert [row.state for row in shown(world, "HV02")] == [CheckState.GOOD]
    journal.settled("finished")
    assert [row.state for row in shown(world)] == [CheckState.GOOD]


def test_a_drill_is_listed_with_when_it_should_have_ended(world: World) -> None:
    for expires, late in (("2999-01-01T10:00:00+00:00", False), ("2026-01-01T10:00:00+00:00", True)):
        journal = RestoreJournal(world.repository, uuid4(), "host1")
        journal.intended("mark", RestoreIntent("HV01", "drill", "C:\\VMs\\drill", (), (), expires))
        (row,) = shown(world)
        assert "the drill of VM drill has not ended" in row.text
        assert ("it should have at 2026-01-01T10:00 UTC" in row.text) is late
        journal.settled("removed")


@pytest.mark.parametrize("expires", ["soon", "2026-01-01T10:00:00"])
def test_a_drill_that_expires_at_no_time_is_damage(expires: str) -> None:
    with pytest.raises(ValueError, match=r"time|isoformat"):
        RestoreIntent.parse(RestoreIntent("HV01", "drill", "C:\\x", (), (), expires).text())


def test_a_restore_in_place_is_listed_with_what_it_keeps(world: World) -> None:
    ledger = InPlaceLedger(world.repository, "host1", uuid4())
    disk = InPlaceDisk("scsi 0:0", "C:\\a.vhdx", "C:\\a.new.vhdx", "C:\\a.old.vhdx")
    restore = InPlaceRestore("HV01", uuid4(), "web", uuid4(), Stage.COPYING, (disk,))
    restore = ledger.reached(restore, Stage.WRITING)
    (row,) = shown(world)
    assert "into the disks of VM web has not ended" in row.text
    assert "--replace" in row.remedy
    restore = ledger.reached(restore, Stage.KEPT)
    (row,) = shown(world)
    assert "is kept" in row.text
    assert "hvps host undo host1 web" in row.remedy
    ledger.settled(restore, "forgotten")
    assert [row.state for row in shown(world)] == [CheckState.GOOD]
