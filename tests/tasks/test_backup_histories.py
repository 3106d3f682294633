"""Random histories: whatever happens between and during backups, every point equals its disk.

The oracle is the simulator's second book: images kept apart by code of its own, which remember every
byte at every checkpoint. A history is named by its seed; ``HVPS_HISTORY=seed`` runs one alone.
"""

from __future__ import annotations

import os
import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import HvpsError, InternalError, SessionLost
from hvpsbridge.sim.model.history import History
from hvpsbridge.sim.model.knobs import HOSTILE
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.host_records import IdWay
from hvpsbridge.tasks.planning.mark import parse_mark
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.steps import Step
from hvpsbridge.tasks.transfer.disk_reader import DiskReader
from hvpsbridge.units import MIB
from tests.tasks.test_sweep import sweep
from tests.tasks.world import Died, Steps, World, gave_back

SAMPLE = 24
SOAK = 10_000
BACKUPS = 5
STEPS_BETWEEN = 4
# Knobs under which tracking leaves changes out without a sign; only a proof of the whole disk sees that.
SILENT = {"missing_changes", "unmap_unreported", "power_loss_forgets", "ids_survive_apply"}
# Knobs under which reference points have other ids than frozen disks, of the same moment.
OTHER_IDS = {"new_id_of_freeze", "frozen_id_of_last_point", "info_without_id"}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# Knobs that only take time here, and those under which no run is sure to end well.
LEFT_OUT = {
    *("merge_seconds", "merge_delay_seconds", "visibility_seconds", "read_delay_seconds", "call_seconds"),
    *("short_reads", "job_vanishes"),
}
EVENTS = ["nothing", "nothing", "death", "signal", "lost message", "fault", "trouble during"]
FAULTS = [
    "checkpoint_fails",
    "convert_fails",
    "convert_other_ids",
    "remove_fails",
    "query_fails",
    "query_empty",
    "destroy_reference_point_fails",
    "read_error",
    "merge_fails",
    "guest_backup_fails",
]


class Life:
    """One history of one VM, with backups in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.world = World(folder, seed)
        self.world.model.setup.add_node("HV02")
        self.chance = random.Random(f"life|{seed}")
        self.vm_id = self.world.vm(disks=[1 * MIB + 512 * self.chance.randrange(8)])
        self.history = History(self.world.model, self.vm_id, seed, leave_out=frozenset({"crash_host"}))
        self.log: list[str] = [f"seed {seed}"]
        self.proof = ProofPolicy.SAMPLE
        self.unsettled = False
        if self.chance.random() < 0.5:
            knob = self.chance.choice(sorted(HOSTILE.keys() - LEFT_OUT))
            self.world.model.set_knob(knob, HOSTILE[knob])
            self.log.append(f"knob {knob}")
            if knob in SILENT:
                self.proof = ProofPolicy.ALWAYS
            if knob in OTHER_IDS and self.chance.random() < 0.7:
                self.log.append("ids of reference points are proved")
                for node in self.world.model.nodes.all():
                    info = self.world.host(node.name).host_info()
                    self.world.records.save(info, proved=NOON, way=IdWay.REFERENCE)

    def run(self) -> None:
        for _ in range(BACKUPS):
            self.history.run(self.chance.randrange(STEPS_BETWEEN + 1))
            self.history.settle()
            self.troubled_backup()
            self.judge()
        # Without disturbance, all leftovers are cleaned up, and the next point is right.
        self.world.model.faults.clear()
        self.history.settle()
        self.backup()
        self.history.run(2)
        self.history.settle()
        result = self.backup()
        self.judge()
        assert result.error is None, result.error
        self.clean()

    def backup(self, **options: object) -> object:
        self.world.reopen()
        node = self.world.model.vms.get(self.vm_id).node
        result = self.world.backup(self.vm_id, node=node, proof=self.proof, wait=20.0, **options)
        self.unsettled &= result.error is not None
        self.log.append(
            f"backup on {node}: {result.error or 'done'}, "
            f"{[(disk.mode.value, disk.reason.word) for disk in result.disks]} {result.leftovers}"
        )
        return result

    def troubled_backup(self) -> None:
        event = self.chance.choice(EVENTS)
        at = (self.chance.choice(list(Step)).name, self.chance.choice(["before", "after"]))
        self.log.append(f"{event} at {at}")
        before = len(self.world.repository.catalog.points(self.vm_id))
        match event:
            case "nothing":
                result = self.backup()
                assert result.error is None, result.error  # type: ignore[attr-defined]
                assert len(self.world.repository.catalog.points(self.vm_id)) == before + 1
            case "death":
                with pytest.raises(Died):
                    self.backup(observer=Steps(at, self.die))
                self.unsettled = True
            case "signal":
                cancel = Cancellation()
                self.backup(observer=Steps(at, lambda: cancel.request("SIGTERM")), cancel=cancel)
                if not self.unsettled:
                    self.clean(exact=False)
            case "lost message":
                self.lose_message()
            case "fault":
                fault = self.chance.choice(FAULTS)
                self.log.append(fault)
                self.world.model.faults.arm(fault, self.chance.randrange(1, 3))
                result = self.backup()
                assert not isinstance(result.error, InternalError), result.error  # type: ignore[attr-defined]
                self.world.model.faults.arm(fault, 0)
            case "trouble during":
                # A VM that moves away is not found again on this host, however long the undo looks for it.
                self.backup(observer=Steps(at, lambda: self.history.run(2)), undo_seconds=2.0)

    def die(self) -> None:
        raise Died

    def lose_message(self) -> None:
        left = self.chance.randrange(2, 60)
        unnamed: list[UUID] = []

        def cut(name: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                if name == "New-HvpsCheckpoint: rename":
                    there = self.world.model.checkpoints.all(self.vm_id, hidden=True)
                    unnamed.append(there[-1].checkpoint_id)
                raise SessionLost("HV01", name, "connection reset")

        self.world.before = cut
        self.backup()
        self.world.before = None
        for checkpoint_id in unnamed:
            # Nothing shows that it is ours, so a person has to say so.
            node = self.world.model.vms.get(self.vm_id).node
            assert not sweep(self.world, self.vm_id, ours=str(checkpoint_id), node=node).error

    def judge(self) -> None:
        """No point, ever, holds anything but what its disk was."""
        self.world.reopen()
        self.world.assert_points_equal(self.vm_id)

    def clean(self, *, exact: bool = True) -> None:
        """hvps has nothing on the host but one reference point; what others created does not matter."""
        marks = [
            parse_mark(point.name) for point in self.world.model.checkpoints.all(self.vm_id, hidden=True)
        ]
        assert not any(marks), "a checkpoint of ours is left"
        assert not self.world.model.driver.attached(), "a disk is left attached"
        if exact:
            ours = {
                entry.reference_point
                for entry in self.world.repository.ledger(self.vm_id).entries()
                if entry.reference_point is not None
            }
            there = [
                point.instance_id
                for point in self.world.model.reference_points.all(self.vm_id)
                if point.instance_id in ours
            ]
            # The first one whose ids are not those of the frozen disks is destroyed at once.
            _, ids = self.world.repository.catalog.with_ids(self.vm_id)[-1]
            assert len(there) == 1 or (not gave_back(ids) and not there), there


@pytest.fixture
def dead_leave_nothing_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead process closes no reader: its shell, with the attach in it, lives on at the host."""
    abandon = DiskReader.abandon

    def unless_dead(self: DiskReader) -> None:
        if not isinstance(sys.exc_info()[1], Died):
            abandon(self)

    monkeypatch.setattr(DiskReader, "abandon", unless_dead)


def live(folder: Path, seed: int) -> None:
    life = Life(folder, seed)
    try:
        life.run()
    except (AssertionError, HvpsError, OSError, KeyError, TimeoutError):
        print(f"history {seed}:", *life.log, *life.history.log, sep="\n  ")  # noqa: T201 - names what failed
        raise
    finally:
        life.world.close()


def seeds() -> list[int]:
    named = os.environ.get("HVPS_HISTORY")
    return [int(named)] if named else list(range(SAMPLE))


@pytest.mark.usefixtures("dead_leave_nothing_behind_them")
@pytest.mark.parametrize("seed", seeds())
def test_every_point_of_a_random_history_is_what_its_disk_was(tmp_path: Path, seed: int) -> None:
    live(tmp_path, seed)


@pytest.mark.soak
@pytest.mark.usefixtures("dead_leave_nothing_behind_them")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", range(100))
def test_histories_by_the_thousand(tmp_path: Path, block: int) -> None:
    for seed in range(SAMPLE + block * SOAK // 100, SAMPLE + (block + 1) * SOAK // 100):
        live(tmp_path / str(seed), seed)
