"""The conformance kit on the simulator's model: friendly knobs pass, and hostile ones are named."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NoReturn
from uuid import UUID

import pytest

from hvpsbridge.contract.results import DiskInfo
from hvpsbridge.errors import HostUnreachable, Interrupted
from hvpsbridge.formats.extents import Extent
from hvpsbridge.repository import create_repository
from hvpsbridge.sim.model.knobs import HOSTILE
from hvpsbridge.sim.model.state import SnapshotType
from hvpsbridge.tasks.prove.cycle import IDLE_SECONDS, INCREMENTS, Cycle
from hvpsbridge.tasks.prove.expectations import EXPECTATIONS
from hvpsbridge.tasks.prove.findings import NotPossible, Verdict
from hvpsbridge.tasks.prove.operations import Operations
from hvpsbridge.tasks.prove.prover import BACKUP_SECONDS, CLEAN_UP, GROUPS, LIMIT_SECONDS, estimate_seconds
from hvpsbridge.tasks.prove.scratch import Earlier, ScratchLedger
from hvpsbridge.tasks.steps import Step
from tests.tasks.model_host import shells_of
from tests.tasks.prove.model_scratch import Guest, GuestScratch, ModelScratch, prove, scratch_vm
from tests.tasks.world import Died, World

# Only scripts show these: the builtin engine reads no files, and starts no jobs that vanish.
SCRIPTS_ONLY = {
    "config_unreadable",
    "defender",
    "detach_seconds",
    "disabled_refuses_backups",
    "files_held",
    "no_merge_settings",
    "no_security_settings",
    "vhd_busy_while_merging",
    "frozen_log",
    "job_vanishes",
    "jobs_at_once",
    "read_delay_seconds",
    "read_sync",
    "reply_bytes",
    "shell_memory_mb",
    "shells_per_user",
    "short_reads",
    "wmi_changes_as_job",
    "wmi_length_below_size",
}
# Its hostile value is shorter than what counts as slow.
FASTER = {"call_seconds"}
NEEDED_GROUPS = ("operations", "cycle", "crashes", "sweep", "restore")
BY_HAND = ("facts", "operations", "ids")


def test_a_friendly_host_passes(world: World, tmp_path: Path) -> None:
    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    result = prove(world, vm_id, tmp_path / "restored", [one for one in GROUPS if one != "probes"])
    bad = [row for row in result.rows if row.verdict is Verdict.FAIL]
    assert not bad
    assert [one for one in result.deviations if not one.timed] == []
    assert result.proved
    # A shell of a killed backup would hold the disks of its checkpoint. The first one died before its ledger
    # named its shell, which has nothing open.
    assert len(shells_of(world.model)) == 1


def test_a_guest_that_writes_one_disk_shows_no_empty_answer_and_is_waited_for_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[DiskInfo] = []

    def write(scratch: object, disk: DiskInfo, extents: object, seed: int) -> tuple[Extent, ...]:
        written.append(disk)
        return ()

    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    monkeypatch.setattr(GuestScratch, "write", write)
    facts = prove(world, vm_id, tmp_path / "restored", ["cycle"], Guest(world, vm_id, 240)).facts
    assert facts["cycle.points_good"] is True
    assert len(written) == INCREMENTS
    facts = prove(world, vm_id, tmp_path / "restored", ["operations"], Guest(world, vm_id, 240)).facts
    assert facts["changes.answered"] is True
    assert facts["changes.empty"] is False


def test_the_time_of_every_group_is_counted() -> None:
    size, rate = 1 << 30, 20e6
    seconds = {group: estimate_seconds([group], size, rate) for group in (*GROUPS, "long")}
    assert all(seconds.values())
    assert seconds["facts"] == estimate_seconds(["facts"], 100 * size, rate)
    assert seconds["cycle"] > size / rate
    assert seconds["crashes"] > len(Step) * BACKUP_SECONDS
    assert seconds["long"] > IDLE_SECONDS
    whole = estimate_seconds(GROUPS, size, rate)
    assert max(seconds[group] for group in GROUPS) < whole < LIMIT_SECONDS


def test_increments_from_other_ids_are_tried_on_the_scratch_vm(world: World, tmp_path: Path) -> None:
    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    world.model.set_knob("new_id_of_freeze", True)
    facts = prove(world, vm_id, tmp_path / "restored", ["operations", "cycle"]).facts
    assert facts["reference_point.ids_equal_frozen"] is False
    assert facts["window.covered"] is True
    assert facts["cycle.increments"] is True


KNOBS = {one.knob for one in EXPECTATIONS if one.knob in HOSTILE}


# Of every kind of answer one; the others are soak tests.
SAMPLE = {
    "conversion_drops_disk",
    "empty_answers",
    "ids_survive_apply",
    "info_without_id",
    "unsorted_answers",
}


@pytest.mark.parametrize(
    "knob",
    [
        pytest.param(one, marks=() if one in SAMPLE else pytest.mark.soak)
        for one in sorted(KNOBS - SCRIPTS_ONLY - FASTER)
    ],
)
def test_a_hostile_knob_is_named(world: World, tmp_path: Path, knob: str) -> None:
    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    world.model.setup.add_node("HV02")
    world.model.set_knob(knob, HOSTILE[knob])
    result = prove(world, vm_id, tmp_path / "restored", BY_HAND)
    assert knob in {one.knob for one in result.deviations}, result


def test_a_host_whose_tracking_misses_changes_is_not_proved(world: World, tmp_path: Path) -> None:
    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    world.model.set_knob("missing_changes", HOSTILE["missing_changes"])
    result = prove(world, vm_id, tmp_path / "restored", NEEDED_GROUPS)
    assert not result.proved
    assert result.facts["proof.lied_chunks"] > 0
    assert result.failed


def test_stages_that_could_not_run_prove_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise NotPossible("the scratch VM must be off")

    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    monkeypatch.setattr(ModelScratch, "write", refuse)
    result = prove(world, vm_id, tmp_path / "restored", NEEDED_GROUPS)
    assert not result.failed
    assert not result.proved


def test_a_killed_proof_is_cleaned_up_by_the_next_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> NoReturn:
        raise Died("killed")

    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    monkeypatch.setattr(Cycle, "forget", killed)
    with pytest.raises(Died):
        prove(world, vm_id, tmp_path / "restored", ("cycle",))
    monkeypatch.undo()
    ModelScratch(world, vm_id).user_checkpoint()
    world.model.jobs.wait(world.model.checkpoints.create(vm_id, name="another", kind=SnapshotType.Recovery))
    killed_one = world.repository
    earlier = Earlier(killed_one, killed_one.repository_id)
    world.repository = create_repository(str(tmp_path / "other"))
    with world.host() as host:
        assert host.reference_points(vm_id)
        result = prove(world, vm_id, tmp_path / "restored", ("facts",), earlier=earlier)
        assert [row for row in result.rows if row.verdict is Verdict.FAIL] == []
        assert {"leftovers of earlier proofs", CLEAN_UP} <= result.passed
        assert host.reference_points(vm_id) == ()
        assert [checkpoint.name for checkpoint in host.checkpoints(vm_id)] == ["another"]


@pytest.mark.parametrize("knob", ["none", "new_id_of_freeze"])
def test_what_a_proof_made_by_hand_is_removed_without_its_repository(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knob: str
) -> None:
    """Of a proof that was killed with a reference point and a checkpoint on the host."""
    ledger = ScratchLedger(tmp_path / "state")
    vm_id, entry = scratch_vm(world, ledger)
    if knob != "none":
        world.model.set_knob(knob, True)

    def killed(*_: object) -> NoReturn:
        raise Died("killed")

    record = partial(ledger.reference_point, entry)
    ledger.uses(entry, str(tmp_path / "gone"), world.repository.repository_id)
    monkeypatch.setattr(Operations, "raw_changes", killed)
    monkeypatch.setattr(Operations, "_remove_checkpoint", killed)
    monkeypatch.setattr(Operations, "remove", killed)
    with pytest.raises(Died):
        prove(world, vm_id, tmp_path / "restored", ("operations",), record=record)
    monkeypatch.undo()
    (known,) = ledger.entries()
    earlier = Earlier(None, UUID(known.repository_id), frozenset(known.reference_points))
    world.repository = create_repository(str(tmp_path / "other"))
    with world.host() as host:
        assert len(host.reference_points(vm_id)) == len(host.checkpoints(vm_id)) == 1
        result = prove(world, vm_id, tmp_path / "restored", (), earlier=earlier)
        assert not result.failed
        assert host.reference_points(vm_id) == host.checkpoints(vm_id) == ()
    ledger.clean(known)
    assert ledger.entries() == (entry,)


def test_a_proof_that_is_interrupted_says_what_it_found(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise Interrupted("SIGINT")

    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    monkeypatch.setattr(Cycle, "crashes", interrupted)
    result = prove(world, vm_id, tmp_path / "restored", ("facts", "cycle", "crashes"))
    assert not result.proved
    assert result.facts["cycle.points_good"] is True
    assert "crashes" not in {row.stage for row in result.rows}


def test_a_proof_ends_when_its_host_is_lost(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> NoReturn:
        raise HostUnreachable("hv01", "no route")

    vm_id, _ = scratch_vm(world, ScratchLedger(tmp_path / "state"))
    monkeypatch.setattr(Operations, "write_everywhere", lost)
    result = prove(world, vm_id, tmp_path / "restored", ("facts", "operations", "cycle"))
    assert [(row.stage, row.verdict) for row in result.rows] == [
        ("leftovers of earlier proofs", Verdict.PASS),
        ("facts", Verdict.PASS),
        ("operations", Verdict.FAIL),
    ]
