"""Handles that do not answer about tracking, files that others hold, disks that are detached late."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from uuid import UUID

import pytest

from hvpsbridge.contract.readings import DigestPage
from hvpsbridge.errors import DiskBusy, SessionLost
from hvpsbridge.formats.extents import Extent
from hvpsbridge.sim.model.state import VhdFormat
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.transfer import disk_reader
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.units import MIB
from tests.tasks.world import SECOND, SLOT, Died, Steps, World, die

SIZE = 4 * MIB
# Access denied, not supported, tracking is off, invalid parameter, invalid type.
CODES = [5, 50, 0xC03A002A, 87, 0xC03A001B]
EVERY_CODE = pytest.mark.parametrize("code", CODES, ids=hex)


def rounds(world: World, vm_id: UUID, count: int = 3) -> list[BackupResult]:
    """Backups with changes between, each of which ends well."""
    results = []
    for _ in range(count):
        world.churn(vm_id)
        results.append(world.good_backup(vm_id))
    assert world.assert_points_equal(vm_id) == count
    return results


def reasons(results: list[BackupResult], disk: int = 0) -> list[Reason]:
    return [result.disks[disk].reason for result in results]


def merge_failures(world: World) -> int:
    return sum(event.event_id == 19100 for event in world.model.nodes.events())


@EVERY_CODE
@pytest.mark.parametrize("knob", ["attached_refusal", "info_only_refusal"])
def test_one_kind_of_handle_that_answers_is_enough(world: World, knob: str, code: int) -> None:
    world.model.set_knob(knob, code)
    results = rounds(world, world.vm(disks=(SIZE,)))
    if (knob, code) == ("attached_refusal", 0xC03A002A):
        # What tracking itself says on the handle that reads is an answer.
        assert reasons(results) == [Reason.FIRST_BACKUP, *[Reason.TRACKING_UNUSABLE] * 2]
    else:
        assert reasons(results) == [Reason.FIRST_BACKUP, Reason.TRACKED, Reason.TRACKED]


@EVERY_CODE
def test_a_host_that_does_not_report_on_tracking_compares_and_says_why(world: World, code: int) -> None:
    world.model.set_knob("state_refusal", code)
    vm_id = world.vm(disks=(SIZE,))
    results = rounds(world, vm_id)
    assert reasons(results) == [Reason.FIRST_BACKUP, Reason.IDS_MISSING, Reason.IDS_MISSING]
    for result in results:
        assert f"0x{code:08X}" in result.disks[0].reason_text
    world.model.set_knob("state_refusal", 0)
    assert reasons(rounds_after(world, vm_id)) == [Reason.IDS_MISSING, Reason.TRACKED]


@EVERY_CODE
def test_tracking_that_stops_reporting_is_compared_and_comes_back(world: World, code: int) -> None:
    vm_id = world.vm(disks=(SIZE,))
    rounds(world, vm_id, 2)
    world.model.set_knob("state_refusal", code)
    (result,) = rounds_after(world, vm_id, 1)
    assert (result.disks[0].mode, result.disks[0].reason) == (Mode.COMPARE, Reason.TRACKING_UNUSABLE)
    assert f"0x{code:08X}" in result.disks[0].reason_text


@EVERY_CODE
def test_a_query_that_is_refused_on_every_handle_compares(world: World, code: int) -> None:
    world.model.set_knob("query_refusal", code)
    results = rounds(world, world.vm(disks=(SIZE,)))
    assert reasons(results) == [Reason.FIRST_BACKUP, Reason.TRACKING_UNUSABLE, Reason.TRACKING_UNUSABLE]
    assert all(f"0x{code:08X}" in result.disks[0].reason_text for result in results[1:])


def rounds_after(world: World, vm_id: UUID, count: int = 2) -> list[BackupResult]:
    results = []
    for _ in range(count):
        world.churn(vm_id)
        results.append(world.good_backup(vm_id))
    world.assert_points_equal(vm_id)
    return results


def test_a_vhd_among_vhdx_is_compared_and_they_are_tracked(world: World) -> None:
    world.model.set_knob("vhd_state_refusal", 0xC03A001B)
    vm_id = world.vm(disks=(SIZE,))
    world.model.setup.add_disk(vm_id, SECOND, size_bytes=SIZE, format=VhdFormat.VHD)
    world.churn(vm_id, SECOND)
    results = rounds(world, vm_id)
    assert reasons(results) == [Reason.FIRST_BACKUP, Reason.TRACKED, Reason.TRACKED]
    assert reasons(results, 1) == [Reason.FIRST_BACKUP, Reason.NOT_TRACKED, Reason.NOT_TRACKED]
    assert all("0xC03A001B" in result.disks[1].reason_text for result in results)
    assert not any(result.warnings for result in results)


@pytest.mark.parametrize(
    ("knob", "code"), [("files_held", "Hvps.DiskBusy, 0x00000020"), ("frozen_log", "Hvps.FormatUnsupported")]
)
def test_files_that_others_hold_are_read_whole_with_a_reason(world: World, knob: str, code: str) -> None:
    world.model.set_knob(knob, True)
    vm_id = world.vm(disks=())
    world.model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE, block_bytes=1 * MIB)
    (first,) = rounds(world, vm_id, 1)
    assert first.disks[0].read_bytes == SIZE
    assert code in first.disks[0].reason_text
    assert not first.warnings


def test_a_disk_is_detached_before_its_handle_closes(world: World) -> None:
    world.model.set_knob("detach_seconds", 3600.0)
    rounds(world, world.vm(disks=(SIZE, SIZE)))
    assert not merge_failures(world)


def test_a_disk_that_a_lost_shell_still_holds_is_waited_for(world: World) -> None:
    """The client lost the shell, and its process has ended, but Windows has not detached the disk yet."""
    world.model.set_knob("detach_seconds", 0.5)
    vm_id = world.vm(disks=(SIZE,))
    lost = []

    def lose(name: str) -> None:
        if name == "Read-HvpsExtent: receive" and len(lost) < 2:
            lost.append(name)
            raise SessionLost("HV01", name, "cut")

    world.before = lose
    rounds(world, vm_id)
    assert len(lost) == 2


def test_the_disk_of_a_killed_run_is_waited_for(world: World) -> None:
    world.model.set_knob("detach_seconds", 0.5)
    vm_id = world.vm(disks=(SIZE,))
    rounds(world, vm_id, 1)
    world.churn(vm_id)
    with pytest.raises(Died):
        world.backup(vm_id, observer=Steps(("CONFIGURATION", "before"), die))
    world.good_backup(vm_id)
    world.assert_points_equal(vm_id)


def test_digests_go_on_where_a_lost_shell_held_the_disk() -> None:
    """After a loss the host goes on in a new shell, which cannot attach the disk at once."""
    asked: list[tuple[int, int]] = []

    class Shell:
        shell_id = "1"

        def digests(self, path: str, chunk_bytes: int, offset: int, length: int) -> Iterator[DigestPage]:
            asked.append((offset, length))
            if len(asked) in (2, 3):
                raise DiskBusy("HV01", "Get-HvpsDiskDigest", "Hvps.DiskBusy", "ResourceBusy", 32, "in use")
            first = offset // chunk_bytes
            yield DigestPage(first, bytes(32))
            if len(asked) > 1:
                yield DigestPage(first + 1, bytes(32 * 2))
            else:
                yield from self.digests(path, chunk_bytes, offset + chunk_bytes, length - chunk_bytes)

        def host_info(self) -> None:
            return None

    paused: list[float] = []
    reader = DiskReader(
        lambda: Shell(),  # type: ignore[arg-type,return-value]
        "C:\\x.vhdx",
        SimpleNamespace(shell_opened=lambda *_: None),  # type: ignore[arg-type]
        "HV01",
        SimpleNamespace(acquire=lambda *_: None, mark_idle=lambda *_: None),  # type: ignore[arg-type]
        lambda: None,
        paused.append,
    )
    with reader.in_use():
        pages = list(reader.digests(4096, Extent(0, 4 * 4096 - 512)))
    assert [page.first_chunk for page in pages] == [0, 1, 2]
    assert len(paused) == 2


def test_a_disk_that_another_process_keeps_fails_the_vm(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_reader, "BUSY_SECONDS", 0.2)
    vm_id = world.vm(disks=(SIZE,))
    world.model.faults.arm("attach_busy", 1000)
    result = world.backup(vm_id)
    assert result.error is not None
    assert result.error.kind == "DiskBusy"
    world.model.faults.clear()
    assert not world.model.checkpoints.all(vm_id, hidden=True)
