"""The backup matrix: what a host can do wrong, at which moment, and what must be true of the outcome."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations, pairwise
from uuid import UUID

from hvpsbridge.errors import ExitCode, Gated, HostRefused, InternalError, OperationFailed
from hvpsbridge.sim.model.call_faults import METHODS
from hvpsbridge.sim.model.knobs import HOSTILE, Knobs
from hvpsbridge.sim.model.state import ControllerType, Slot, SnapshotType, VhdFormat
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.observer import Observer
from hvpsbridge.tasks.planning.modes import Mode, Reason
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.steps import Step
from hvpsbridge.units import MIB
from tests.tasks.world import QUICK, Steps, World

VHDX, VHD = Slot(ControllerType.SCSI, 0, 0), Slot(ControllerType.SCSI, 0, 1)
# With these tracking leaves changes out without a sign, which only proofs of whole disks see.
SILENT_LIES = {"missing_changes", "unmap_unreported", "power_loss_forgets", "ids_survive_apply"}
# With these no run is sure to end well.
FAILING = {"short_reads", "job_vanishes"}
# Waits of the matrix are short: what a fault makes wait for ever must end.
SHORTER = {
    "merge_seconds": 0.3,
    "merge_delay_seconds": 0.2,
    "visibility_seconds": 0.2,
    "detach_seconds": 0.2,
    "read_delay_seconds": 0.002,
    "call_seconds": 0.002,
}
# Knobs of a world whose jobs and merges take no time.
QUIET = {"merge_seconds": 0.0, "visibility_seconds": 0.0}
POLICY = replace(
    QUICK,
    limits=replace(
        QUICK.limits,
        wait=1.0,
        merge_seconds=2.0,
        held_merge_seconds=2.0,
        undo_seconds=2.0,
        # Each look at the free space is a script: more often, they take half of the real engine's time.
        watch_seconds=1.0,
    ),
)
# How a call can fail: how often, and with which settings.
WAYS: dict[str, tuple[int, dict[str, object]]] = {
    "fails once": (1, {"error": "failed"}),
    "always fails": (1000, {"error": "failed"}),
    "is busy twice": (2, {"error": "busy"}),
    "is denied": (1000, {"error": "access_denied"}),
    "finds nothing once": (1, {"error": "not_found"}),
    "fails later": (1, {"error": "failed", "after": 1}),
    "is slow": (2, {"seconds": 0.1}),
}
METHOD_WAYS: dict[str, tuple[int, dict[str, object]]] = {
    "fails in its job": (1, {"job": True, "code": 32768}),
    "is locked in its job": (1, {"job": True, "code": 32774, "text": "in use (0x80070020)"}),
    "throws": (1, {"code": 0x800706BA}),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One disturbed backup: hostile knobs, and a call that fails in some way from a step on."""

    knobs: tuple[str, ...] = ()
    call: str = ""
    step: str = Step.RESOLVE.name
    way: str = ""

    def __str__(self) -> str:
        disturbed = f"{self.call} {self.way} from {self.step.lower()}" if self.call else "undisturbed"
        return f"{'+'.join(self.knobs) or 'benign'}: {disturbed}"


def ways_of(call: str) -> dict[str, tuple[int, dict[str, object]]]:
    """The ways in which a call can fail."""
    return {**WAYS, **METHOD_WAYS} if METHODS.get(call) is not None else WAYS


def calls_by_step(world: World, vm_id: UUID) -> dict[str, list[str]]:
    """The calls that a backup makes in each step, from one that goes well."""
    marks: list[tuple[str, Counter[str]]] = []
    seen = world.model.faults.calls.seen

    class Marking(Steps):
        def step(self, vm: object, step: object, moment: str) -> None:
            if moment == "before":
                marks.append((step.name, seen.copy()))  # type: ignore[attr-defined]

    world.good_backup(vm_id, observer=Marking())
    marks.append(("", seen.copy()))
    found: dict[str, list[str]] = {}
    for (step, before), (_, after) in pairwise(marks):
        found.setdefault(step, []).extend(sorted((after - before).keys() - {"Import-Module"}))
    return found


def new_vm(world: World) -> UUID:
    """A VM with a VHDX and a VHD, with a name of its own."""
    vm_id = world.vm(f"web{len(world.model.vms.all())}", disks=(1 * MIB,))
    world.model.setup.add_disk(vm_id, VHD, size_bytes=1 * MIB, format=VhdFormat.VHD)
    world.churn(vm_id, VHD)
    return vm_id


# Reasons whose text leaves open what happened, which a detail must say.
VAGUE = {
    Reason.CHAIN_CHANGED,
    Reason.IDS_LATE,
    Reason.IDS_MISSING,
    Reason.IDS_UNPROVED,
    Reason.TRACKING_LIED,
    Reason.TRACKING_UNUSABLE,
}


def assert_reasons(result: BackupResult) -> None:
    """Each disk that was not read as tracked shows why, and so does a run that ended early."""
    shown = [*result.warnings, *map(str, result.conditions)]
    for disk in result.disks:
        said = (disk, shown, result.error)
        assert (disk.mode is Mode.INCREMENTAL) == (disk.reason is Reason.TRACKED), said
        assert disk.reason_text.startswith(disk.reason.text), said
        assert disk.reason not in VAGUE or disk.reason_text != disk.reason.text, said
        if result.error is None and not disk.reason.expected:
            # The warning of a disk names its slot; wrong tracking is a condition.
            assert any(disk.slot in line for line in shown), said
    error = result.error
    if error is not None:
        # Facts of the error that are texts: the host, the operation, what the host said.
        empty = {fact.name for fact in fields(error) if getattr(error, fact.name) == ""}
        assert not empty - {"error_id", "category"}, (error, empty)
        assert not isinstance(error, OperationFailed) or error.native is not None or error.error_id, error


class Matrix:
    """A VM whose backups are disturbed one after the other."""

    def __init__(self, world: World, knobs: Sequence[str] = ()) -> None:
        self.world = world
        self.vm_id = new_vm(world)
        self.set_knobs(knobs)
        self.calm("first")

    def set_knobs(self, knobs: Sequence[str]) -> None:
        """Make these knobs hostile, and all others those of a quick world."""
        model = self.world.model
        hostile, quiet = {**HOSTILE, **SHORTER}, {**asdict(Knobs()), **QUIET}
        for knob in HOSTILE:
            model.set_knob(knob, (hostile if knob in knobs else quiet)[knob])
        self.several = len(knobs) > 1
        self.sure = not FAILING.intersection(knobs)
        self.policy = POLICY
        self.may_lie = bool(SILENT_LIES.intersection(knobs))
        if self.may_lie:
            self.policy = replace(POLICY, proof=ProofPolicy.ALWAYS)

    def run(self, cell: Cell) -> None:
        """One disturbed backup, then calm ones until one ends well; all points must be right."""
        model = self.world.model
        self.set_knobs(cell.knobs)
        self._churn()
        count, settings = ways_of(cell.call)[cell.way] if cell.call else (0, {})
        arm = Steps((cell.step, "before"), lambda: model.faults.arm_call(cell.call, count, **settings))
        try:
            self._backup(str(cell), arm if cell.call else None)
        finally:
            model.faults.clear()
        self._churn()
        self.calm(str(cell))

    def disturb(self, where: str) -> BackupResult:
        """A backup of what the guest wrote meanwhile, with the knobs as they are."""
        self._churn()
        return self._backup(where)

    def calm(self, where: str) -> None:
        """An undisturbed backup, which may have to clean up first."""
        result = self._backup(f"after {where}")
        if isinstance(result.error, Gated) and result.leftovers:
            # A checkpoint that nothing shows to be ours was reported: an administrator removes it.
            for checkpoint_id in self._recovery_checkpoints():
                self.world.model.jobs.wait(self.world.model.checkpoints.remove(checkpoint_id))
            result = self._backup(f"after {where}, cleaned up")
        if self.sure:
            said = (where, result.error, result.warnings, result.leftovers)
            assert result.error is None, said
            # Several knobs together may leave a reference point whose owner nothing shows, which is reported.
            assert not result.leftovers or self.several, said
            if not result.leftovers:
                self.world.assert_clean(self.vm_id)

    def _churn(self) -> None:
        self.world.churn(self.vm_id, VHDX)
        self.world.churn(self.vm_id, VHD, writes=1)

    def _backup(self, where: str, observer: Observer | None = None) -> BackupResult:
        """A backup whose outcome is judged, whatever it is."""
        world = self.world
        points = len(world.repository.catalog.points(self.vm_id))
        before = self._recovery_checkpoints()
        result = world.backup(self.vm_id, policy=self.policy, observer=observer)
        said = (where, result.error, result.warnings, result.leftovers)
        there = world.repository.catalog.points(self.vm_id)
        for point in there[points:]:
            world.assert_point_equal(point)
        assert_reasons(result)
        if result.error is None:
            assert len(there) == points + 1, said
        else:
            assert not isinstance(result.error, InternalError | HostRefused), said
            assert result.exit_code is not ExitCode.DAMAGE or self.may_lie, said
        left = self._recovery_checkpoints() - before
        assert result.leftovers or not left, (*said, left)
        assert not world.model.driver.attached(), said
        return result

    def _recovery_checkpoints(self) -> set[UUID]:
        found = self.world.model.checkpoints.all(self.vm_id, hidden=True)
        return {point.checkpoint_id for point in found if point.kind is SnapshotType.Recovery}


def covering(knobs: Sequence[str], calls: Sequence[Cell], size: int, seed: int = 1) -> Iterator[Cell]:
    """Cells of ``size`` knobs each: one cell for each call, and more until each two knobs have met.

    Greedy: each cell takes the knob that adds the most pairs not seen yet, and of equal ones the knob
    that has been in the fewest cells.
    """
    chance = random.Random(seed)
    pairs = {frozenset(pair) for pair in combinations(knobs, 2)}
    taken = Counter[str]()
    waiting = sorted({cell.call for cell in calls})
    chance.shuffle(waiting)
    while pairs or waiting:
        call = waiting.pop() if waiting else chance.choice(calls).call
        cell = chance.choice([cell for cell in calls if cell.call == call])
        chosen: list[str] = []
        for _ in range(min(size, len(knobs))):
            rest = [knob for knob in knobs if knob not in chosen]
            chance.shuffle(rest)
            gains = [
                (sum(frozenset((knob, other)) in pairs for other in chosen), -taken[knob]) for knob in rest
            ]
            chosen.append(rest[gains.index(max(gains))])
        pairs -= {frozenset(pair) for pair in combinations(chosen, 2)}
        taken.update(chosen)
        yield replace(cell, knobs=tuple(sorted(chosen)))
