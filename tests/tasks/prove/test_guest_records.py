"""A guest's writes between the freeze and the conversion enable increments from ids of reference points."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.sim.guests.pattern import PatternWriter
from hvpsbridge.sim.model.knobs import HOSTILE
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.prove.findings import Verdict
from hvpsbridge.tasks.prove.guest_records import RECORD_BYTES, GuestRecord, parse_record, written_within
from hvpsbridge.tasks.prove.prover import GROUPS, ProveResult
from hvpsbridge.tasks.prove.remember import remember
from hvpsbridge.tasks.prove.scratch import ScratchLedger
from tests.tasks.prove.model_scratch import Guest, prove, scratch_vm
from tests.tasks.world import World

WHOLE = [one for one in GROUPS if one != "probes"]
STAGE = "writes before the conversion"
RECORDS = 240  # of a round: much more than what the guest writes between two checkpoints


@pytest.fixture
def proof(world: World, tmp_path: Path) -> Callable[..., tuple[ProveResult, Guest]]:
    """A whole proof while the guest of the kit writes; what it found is remembered."""

    def run(records: int = RECORDS, *, stopped: bool = False) -> tuple[ProveResult, Guest]:
        vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
        guest = Guest(world, vm_id, records)
        guest.work(10)
        guest.stopped = stopped
        result = prove(world, vm_id, tmp_path / "restored", WHOLE, guest)
        world.before = None
        remember(world.records, world.host().host_info(), result)
        return result, guest

    return run


def way_of(world: World) -> IdWay | None:
    return world.records.load(world.host().host_info()).way


def text_of(result: ProveResult) -> str:
    return next(row.text for row in result.rows if row.stage == STAGE)


def modes(world: World, rounds: int = 3) -> list[Mode]:
    """Of backups of another VM."""
    vm_id = world.vm("other")
    seen = []
    for _ in range(rounds):
        seen.append(world.good_backup(vm_id).disks[0].mode)
        world.churn(vm_id)
    world.assert_points_equal(vm_id)
    return seen


def test_writes_in_the_window_that_are_covered_enable_increments(
    world: World, proof: Callable[..., tuple[ProveResult, Guest]]
) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    result, _ = proof()
    assert not [row for row in result.rows if row.verdict is Verdict.FAIL]
    assert result.proved
    facts = result.facts
    assert facts["window.records"] >= 30
    assert (facts["window.covered"], facts["window.by_guest"], facts["window.missing_bytes"]) == (
        True,
        True,
        0,
    )
    assert facts["cycle.increments"] is True
    assert way_of(world) is IdWay.REFERENCE
    assert modes(world) == [Mode.FULL, Mode.INCREMENTAL, Mode.INCREMENTAL]


def test_equal_ids_need_no_such_proof(world: World, proof: Callable[..., tuple[ProveResult, Guest]]) -> None:
    result, _ = proof()
    assert result.proved
    assert result.facts["window.covered"] is True
    assert way_of(world) is IdWay.FROZEN


def test_an_id_that_misses_writes_in_the_window_is_named_and_never_used(
    world: World, proof: Callable[..., tuple[ProveResult, Guest]]
) -> None:
    world.model.set_knob("new_id_at_conversion", True)
    result, _ = proof()
    assert result.facts["window.covered"] is False
    assert result.facts["window.missing_bytes"] >= 30 * RECORD_BYTES
    assert text_of(result).endswith("MiB missing")
    assert "window.covered" in {one.fact for one in result.deviations if one.knob == "new_id_at_conversion"}
    assert way_of(world) is not IdWay.REFERENCE
    assert world.records.load(world.host().host_info()).refuted is not None
    assert Mode.INCREMENTAL not in modes(world)


def test_a_refused_query_is_no_id_that_misses_writes(
    world: World, proof: Callable[..., tuple[ProveResult, Guest]]
) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    world.model.set_knob("query_refusal", HOSTILE["query_refusal"])
    result, _ = proof()
    assert "change tracking does not answer" in text_of(result)
    assert "window.covered" not in result.facts
    assert way_of(world) is None
    assert world.records.load(world.host().host_info()).refuted is None


@pytest.mark.parametrize("how", ["stopped", "written again"])
def test_nothing_shown_in_the_window_proves_nothing(
    world: World, proof: Callable[..., tuple[ProveResult, Guest]], how: str
) -> None:
    world.model.set_knob("new_id_of_freeze", True)
    result, _ = proof(stopped=True) if how == "stopped" else proof(records=9)
    assert "window.covered" not in result.facts
    assert result.facts["window.records"] < 8
    assert "records of the guest are known to be from before the conversion" in text_of(result)
    assert way_of(world) is None
    record = world.records.load(world.host().host_info())
    assert (record.refuted, record.differ) == (None, True)
    assert Mode.INCREMENTAL not in modes(world)


def test_the_guest_of_the_kit_writes_what_is_read(tmp_path: Path) -> None:
    """Its shell script, and the simulated one; a guest that starts again counts rounds on."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"")
    script = Path(__file__).parents[3] / "tools" / "conformance" / "linux" / "write-pattern"
    for _ in range(2):
        subprocess.run(["sh", script, disk, "2", "4"], check=True, capture_output=True)
    content = disk.read_bytes()
    assert len(content) == 4 * RECORD_BYTES
    heads = [content[place * RECORD_BYTES :] for place in range(4)]
    records = [record for head in heads if (record := parse_record(head)) is not None]
    assert [(record.round, record.number) for record in records] == [(4, 0), (4, 1), (4, 2), (4, 3)]
    assert records == sorted(records, key=lambda one: one.hundredths)
    assert records[0].hundredths > 0

    written: dict[int, bytes] = {}
    writer = PatternWriter(written.__setitem__, records=4)
    for second in range(5):
        writer.write_record(second)
    assert parse_record(written[0]) == GuestRecord(2, 0, 400)
    assert {len(data) for data in written.values()} == {RECORD_BYTES}


def test_what_was_written_in_the_window_follows_from_the_guests_clock() -> None:
    def records(*hundredths: int, first: int = 0) -> dict[int, GuestRecord]:
        return {
            (first + place) * RECORD_BYTES: GuestRecord(1, first + place, at)
            for place, at in enumerate(hundredths)
        }

    before = records(0, 100, 200)
    # Until 200 + 4 s, less the second by which clocks may differ: until 500.
    after = before | records(300, 400, 450, 500, 501, first=3)
    wanted = (Extent(4 * RECORD_BYTES, RECORD_BYTES), Extent(5 * RECORD_BYTES, RECORD_BYTES))
    assert written_within(before, after, 4.0) == wanted
    # Written again in the next round: later, whatever the place says.
    again = after | {4 * RECORD_BYTES: GuestRecord(2, 4, 900)}
    assert written_within(before, again, 4.0) == wanted[1:]
    assert written_within({}, after, 4.0) == ()
    assert written_within(before, before, 4.0) == ()
    # The guest was started again: its clock says nothing about the freeze.
    assert written_within(before, before | {3 * RECORD_BYTES: GuestRecord(2, 0, 10)}, 4.0) == ()
