"""The backup matrix: whatever the host does, a point is right, or the run says why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hvpsbridge.sim.engines.operations import context
from hvpsbridge.sim.model.knobs import HOSTILE
from hvpsbridge.tasks.planning.modes import Reason
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


@cache
def disturbed() -> tuple[Cell, ...]:
    """Every call in every step that makes it, in every way."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            vm_id = new_vm(world)
            world.good_backup(vm_id)
            world.churn(vm_id)
            found = calls_by_step(world, vm_id)
        finally:
            world.close()
    return tuple(
        Cell(call=call, step=step, way=way)
        for step, calls in found.items()
        for call in calls
        for way in ways_of(call)
    )


def sample(cells: tuple[Cell, ...], steps: bool = True) -> list[Cell]:
    """One cell per call (and step), with another way each."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.call, cell.step if steps else ""), []).append(cell)
    return [group[index % len(group)] for index, group in enumerate(groups.values())]


@cache
def pairwise_cells() -> tuple[Cell, ...]:
    """Cells for the real engine: each two knobs meet, and each knob meets each call."""
    knobs = [knob for knob in KNOBS if knob not in FAILING]
    return tuple(covering(knobs, disturbed(), TOGETHER))


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


def with_knob(knob: str) -> list[Cell]:
    """Every call with one hostile knob, each in another step and way."""
    cells = disturbed()
    turn = KNOBS.index(knob) * 37 % len(cells)
    return [replace(cell, knobs=(knob,)) for cell in sample((*cells[turn:], *cells[:turn]), steps=False)]


def test_every_two_knobs_meet_and_every_knob_meets_every_call() -> None:
    knobs = set(KNOBS) - FAILING
    cells = pairwise_cells()
    assert {pair for cell in cells for pair in combinations(cell.knobs, 2)} >= {
        *combinations(sorted(knobs), 2)
    }
    calls = {cell.call for cell in disturbed()}
    assert {(knob, cell.call) for cell in cells for knob in cell.knobs} == {*product(knobs, calls)}
    assert len(cells) < 500


def test_each_call_of_a_backup_may_fail(tmp_path: Path) -> None:
    run(World(tmp_path), sample(disturbed(), steps=False))


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
def test_hostile_hosts_of_all_sorts(tmp_path: Path, part: int) -> None:
    run(World(tmp_path), pairwise_cells()[part :: len(pairwise_cells()) // 8])


def test_a_hostile_host_runs_scripts(tmp_path: Path, pwsh: Path) -> None:
    run(WireWorld(tmp_path, engine="powershell"), pairwise_cells()[:1])


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
def test_each_call_may_fail_in_each_step_and_way(tmp_path: Path, part: int) -> None:
    run(World(tmp_path), disturbed()[part::PARTS])


@pytest.mark.soak
@pytest.mark.parametrize("knob", KNOBS)
def test_each_call_may_fail_with_each_hostile_knob(tmp_path: Path, knob: str) -> None:
    run(World(tmp_path), with_knob(knob))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_two_hostile_knobs_meet_on_the_real_engine(tmp_path: Path, pwsh: Path, part: int) -> None:
    run(WireWorld(tmp_path, engine="powershell"), pairwise_cells()[part::PARTS])
