"""The backup matrix: whatever the host does, a point is right, or the run says why there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from hvpsbridge.sim.engines.operations import context
from hvpsbridge.sim.model.knobs import HOSTILE
from hvpsbridge.tasks.planning.modes import Reason
from tests.once import made_once
from tests.tasks.matrix import FAILING, Cell, Matrix, calls_by_step, covering, new_vm, ways_of
from tests.tasks.wire import WireWorld
from tests.tasks.world import World

KNOBS = sorted(HOSTILE)
# Parts of the long tests, for several workers.
PARTS = 8
# Knobs of one cell of the real engine. More hide each other, fewer take more than half an hour in all.
TOGETHER = 32


# Knobs that alone make a tracked disk compared, the reason, and what its detail must have.
CAUSES = {
    "empty_answers": (Reason.EMPTY_ANSWER, ""),
    "frozen_id_of_last_point": (Reason.IDS_UNPROVED, "hvps host prove"),
    "info_without_id": (Reason.TRACKING_OFF, ""),
    "missing_changes": (Reason.TRACKING_LIED, "changed chunks were not reported"),
    "new_id_at_conversion": (Reason.IDS_UNPROVED, "hvps host prove"),
    "new_id_of_freeze": (Reason.IDS_UNPROVED, "hvps host prove"),
    "query_refusal": (Reason.TRACKING_UNUSABLE, "0x00000005"),
    "state_refusal": (Reason.TRACKING_UNUSABLE, "0x00000005"),
}


def find_disturbed(folder: Path) -> None:
    """Write every call, in every step that makes it, in every way, to ``cells.json``."""
    world = World(folder / "world")
    try:
        vm_id = new_vm(world)
        world.good_backup(vm_id)
        world.churn(vm_id)
        found = calls_by_step(world, vm_id)
    finally:
        world.close()
    cells = [(call, step, way) for step, calls in found.items() for call in calls for way in ways_of(call)]
    (folder / "cells.json").write_text(json.dumps(cells))


@pytest.fixture(scope="session")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, ...]:
    """Cells of every call in every step and way.

    The same in all workers, which take a part each: a step in which a thread looks at the host differs.
    """
    folder = made_once(tmp_path_factory, "matrix-cells", find_disturbed)
    found = json.loads((folder / "cells.json").read_text())
    return tuple(Cell(call=call, step=step, way=way) for call, step, way in found)


def sample(cells: tuple[Cell, ...], steps: bool = True) -> list[Cell]:
    """One cell per call (and step), with another way each."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.call, cell.step if steps else ""), []).append(cell)
    return [group[index % len(group)] for index, group in enumerate(groups.values())]


@pytest.fixture(scope="session")
def pairwise(disturbed: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Cells for the real engine: each two knobs meet, and each call fails once.

    The builtin engine makes each call fail with each knob; here that would take an hour.
    """
    knobs = [knob for knob in KNOBS if knob not in FAILING]
    return tuple(covering(knobs, disturbed, TOGETHER))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that always fails is not asked for seconds."""
    monkeypatch.setattr(context, "PATIENCE_SECONDS", 0.2)


def run(world: World, cells: Sequence[Cell]) -> None:
    """Disturbed backups of one VM, each followed by one that must end well.

    A cell that fails does not hide the next ones: they get another VM, and all failures are shown at the end.
    """
    failures: list[str] = []
    try:
        matrix = Matrix(world)
        for cell in cells:
            try:
                matrix.run(cell)
            except Exception as error:  # noqa: BLE001 (whatever it was, it is shown)
                failures.append(f"{cell}: {error!r}")
                matrix = Matrix(world)
    finally:
        world.close()
    assert not failures, "\n".join(failures)


def with_knob(knob: str, cells: tuple[Cell, ...]) -> list[Cell]:
    """Every call with one hostile knob, each in another step and way."""
    turn = KNOBS.index(knob) * 37 % len(cells)
    return [replace(cell, knobs=(knob,)) for cell in sample((*cells[turn:], *cells[:turn]), steps=False)]


def test_every_two_knobs_meet_and_every_call_fails(
    disturbed: tuple[Cell, ...], pairwise: tuple[Cell, ...]
) -> None:
    knobs = set(KNOBS) - FAILING
    cells = pairwise
    assert {pair for cell in cells for pair in combinations(cell.knobs, 2)} >= {
        *combinations(sorted(knobs), 2)
    }
    calls = {cell.call for cell in disturbed}
    assert {cell.call for cell in cells} == calls
    assert len(cells) <= len(calls) + PARTS


def test_each_call_of_a_backup_may_fail(tmp_path: Path, disturbed: tuple[Cell, ...]) -> None:
    run(World(tmp_path), sample(disturbed, steps=False))


@pytest.mark.parametrize("knob", CAUSES)
def test_a_compare_names_what_the_host_did(tmp_path: Path, knob: str) -> None:
    world = World(tmp_path)
    try:
        matrix = Matrix(world)
        matrix.set_knobs([knob])
        # What a conversion did shows in the second backup.
        results = [matrix.disturb(knob) for _ in range(2)]
    finally:
        world.close()
    disks = [disk for result in results for disk in result.disks if disk.slot == "scsi 0:0"]
    reason, detail = CAUSES[knob]
    assert any(disk.reason is reason and detail in disk.reason_text for disk in disks), disks


@pytest.mark.parametrize("part", range(2))
def test_hostile_hosts_of_all_sorts(tmp_path: Path, pairwise: tuple[Cell, ...], part: int) -> None:
    run(World(tmp_path), pairwise[part :: len(pairwise) // 8])


def test_a_hostile_host_runs_scripts(tmp_path: Path, pwsh: Path, pairwise: tuple[Cell, ...]) -> None:
    run(WireWorld(tmp_path, engine="powershell"), pairwise[:1])


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_each_call_may_fail_in_each_step_and_way(
    tmp_path: Path, disturbed: tuple[Cell, ...], part: int
) -> None:
    run(World(tmp_path), disturbed[part::PARTS])


@pytest.mark.soak
@pytest.mark.parametrize("knob", KNOBS)
def test_each_call_may_fail_with_each_hostile_knob(
    tmp_path: Path, disturbed: tuple[Cell, ...], knob: str
) -> None:
    run(World(tmp_path), with_knob(knob, disturbed))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_two_hostile_knobs_meet_on_the_real_engine(
    tmp_path: Path, pwsh: Path, pairwise: tuple[Cell, ...], part: int
) -> None:
    run(WireWorld(tmp_path, engine="powershell"), pairwise[part::PARTS])
