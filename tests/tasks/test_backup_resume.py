"""A read resumes with little sent twice; a backup starts over if its checkpoint is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats.extents import Extent, total_bytes
from hvpsbridge.formats.wire import Block, decode_block
from hvpsbridge.receiver.settings import CREDIT, ReadSettings
from hvpsbridge.sim.model.state import Slot
from hvpsbridge.tasks.policy import BackupOptions, Compression, ProofPolicy, TuningOptions
from hvpsbridge.tasks.results import Outcome
from hvpsbridge.units import KIB, MIB
from tests.tasks.wire import WireWorld
from tests.tasks.world import QUICK, SECOND, SLOT, Steps, World

WINDOW = 1 * MIB
SIZE = 12 * MIB
SMALL = replace(
    QUICK,
    proof=ProofPolicy.NEVER,
    tuning=TuningOptions(readers=1, compression=Compression.NONE, block=128 * KIB, window=WINDOW),
    # Faults strike the reader: while it reads, nobody else asks the host for anything.
    limits=replace(QUICK.limits, watch_seconds=3600),
)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[WireWorld]:
    """A world over the wire."""
    world = WireWorld(tmp_path)
    yield world
    world.close()


def full_vm(world: WireWorld) -> UUID:
    """A VM with one disk full of data, with which nothing is free."""
    vm_id = world.vm(disks=(SIZE,))
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(SIZE))
    return vm_id


@pytest.mark.parametrize(
    ("fault", "pipelines"),
    [
        ("request_lost:after=12", 1),
        ("reply_lost:after=6", 1),
        ("reply_cut:after=6,bytes=3000", 2),
        ("shell_lost:after=6", 1),
        ("shell_lost:after=6", 2),
        ("engine_killed:after=6", 1),
        ("host_reboots:after=6,down_seconds=0.3", 1),
        ("block_lost:after=20", 2),
        ("block_altered:after=20", 1),
        ("block_doubled:after=20", 1),
    ],
)
def test_after_a_loss_only_what_is_owed_is_asked_again(wire: WireWorld, fault: str, pipelines: int) -> None:
    vm_id = full_vm(wire)
    name = fault.partition(":")[0]
    arm = Steps(("READ", "before"), lambda: wire.server.faults.arm_text(fault, 1))
    policy = replace(SMALL, tuning=replace(SMALL.tuning, readers=pipelines))
    asked_before = wire.server.counters.asked_bytes()
    result = wire.good_backup(vm_id, policy=policy, observer=arm)
    assert wire.server.faults.fired[name] == 1, "the fault never fired"
    asked = wire.server.counters.asked_bytes() - asked_before
    # A lost shell takes both pipelines with it; of each, two windows were under way.
    assert SIZE <= asked <= SIZE + pipelines * CREDIT * WINDOW
    assert len(wire.repository.catalog.points(vm_id)) == 1
    assert result.disks[0].read_bytes == SIZE, "every byte counts once"
    wire.assert_points_equal(vm_id)


def test_losses_one_after_the_other_cost_no_more_than_two_windows_each(wire: WireWorld) -> None:
    vm_id = full_vm(wire)
    losses = 3  # fewer than the tries of one call, since all may meet it
    arm = Steps(("READ", "before"), lambda: wire.server.faults.arm_text("shell_lost:after=12", losses))
    result = wire.good_backup(vm_id, policy=SMALL, observer=arm)
    fired = wire.server.faults.fired["shell_lost"]
    assert fired >= 2
    assert result.disks[0].resumed >= 1
    assert wire.server.counters.asked_bytes() <= SIZE + fired * CREDIT * WINDOW
    wire.assert_points_equal(vm_id)


class _Counted:
    """Raw bytes of all blocks that came, before base64."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.block_bytes = self.blocks = self.extents = 0

        def counting(data: bytes | bytearray | memoryview, max_body_bytes: int) -> Block:
            block = decode_block(data, max_body_bytes)
            self.block_bytes += len(data)
            self.blocks += 1
            self.extents += len(block.pieces)
            return block

        monkeypatch.setattr("hvpsbridge.receiver.stream.decode_block", counting)


@pytest.mark.parametrize("chunk_writes", [1, 5])
def test_scattered_small_writes_travel_alone(
    wire: WireWorld, monkeypatch: pytest.MonkeyPatch, chunk_writes: int
) -> None:
    """4 KiB here and there: at most 1.15 times the changed extents, and 64 bytes for each."""
    for knob, value in (("memory_granularity_bytes", 4 * KIB), ("over_report", 0.0)):
        wire.model.set_knob(knob, value)
    vm_id = full_vm(wire)
    policy = replace(QUICK, proof=ProofPolicy.NEVER)
    wire.good_backup(vm_id, policy=policy)
    chunk = wire.repository.grid.chunk_bytes
    for number in wire.chance.sample(range(SIZE // chunk), 160):
        for _ in range(chunk_writes):
            place = number * chunk + wire.chance.randrange(chunk // (4 * KIB)) * 4 * KIB
            wire.model.guests.write(vm_id, SLOT, place, wire.chance.randbytes(4 * KIB))
    counted = _Counted(monkeypatch)
    result = wire.good_backup(vm_id, policy=policy)
    disk = result.disks[0]
    assert disk.reread_chunks == 0
    assert disk.read_bytes == disk.changed_bytes, "more than the changed extents was read"
    assert counted.extents >= 150
    assert counted.block_bytes <= 1.15 * disk.changed_bytes + 64 * counted.extents
    assert counted.blocks <= 2 + disk.changed_bytes // ReadSettings().block_bytes, "few extents to a block"
    wire.assert_points_equal(vm_id)


def removing(world: World, vm_id: UUID, times: int) -> Callable[[str], None]:
    """Removes the recovery checkpoint before a read, the given number of times."""
    left = times

    def before(name: str) -> None:
        nonlocal left
        if name == "Read-HvpsExtent" and left:
            for checkpoint in world.model.checkpoints.all(vm_id, hidden=True):
                left -= 1
                world.model.checkpoints.remove(checkpoint.checkpoint_id)

    return before


def test_a_backup_whose_checkpoint_was_removed_says_so_and_starts_over(world: World) -> None:
    vm_id = world.vm(disks=(2 * MIB, 2 * MIB))
    world.before = removing(world, vm_id, 1)
    seen = Steps()
    result = world.backup(vm_id, observer=seen)
    assert result.error is None, result.error
    assert result.outcome is Outcome.DEGRADED
    assert any("starting over" in note for note in seen.notes)
    assert "started over" in result.warnings[0]
    assert seen.seen.count(("MAKE_CHECKPOINT", "after")) == 2
    world.assert_clean(vm_id)
    assert world.assert_points_equal(vm_id) == 1


def test_it_starts_over_once_and_then_fails(world: World) -> None:
    vm_id = world.vm(disks=(2 * MIB,))
    world.before = removing(world, vm_id, 2)
    result = world.backup(vm_id)
    assert result.error is not None
    assert result.error.kind == "CheckpointGone"
    assert not world.repository.catalog.points(vm_id)
    world.assert_clean(vm_id, reference_points=0)


def test_disks_are_read_side_by_side_and_one_that_fails_stops_the_others(world: World) -> None:
    vm_id = world.vm(disks=(4 * MIB, 4 * MIB, 4 * MIB))
    world.model.faults.arm("read_error", 1)
    result = world.backup(vm_id)
    assert result.error is not None
    assert result.error.kind == "DiskUnreadable"
    assert not world.repository.catalog.points(vm_id)
    world.assert_clean(vm_id, reference_points=0)
    done = world.good_backup(vm_id)
    assert [disk.slot for disk in done.disks] == [f"scsi 0:{n}" for n in range(3)], "in the plan's order"
    world.churn(vm_id, SECOND)
    world.churn(vm_id, Slot.parse("scsi0:2"))
    world.good_backup(vm_id)
    assert world.assert_points_equal(vm_id) == 2


def test_settings_fixed_in_the_policy_reach_the_host(wire: WireWorld) -> None:
    vm_id = full_vm(wire)
    policy: BackupOptions = replace(
        QUICK,
        tuning=TuningOptions(readers=3, compression=Compression.NONE, block=128 * KIB, window=2 * MIB),
        proof=ProofPolicy.NEVER,
    )
    wire.good_backup(vm_id, policy=policy)
    readers = [asked for asked in wire.server.counters._readers if asked.requests]
    assert 1 < len(readers) <= 3, "several pipelines shared the disk"
    requests = [request for asked in readers for request in asked.requests]
    assert {request.block_bytes for request in requests} == {128 * KIB}
    assert not any(request.allow_deflate for request in requests)
    assert max(total_bytes(request.extents) for request in requests) <= 2 * MIB
    assert sum(total_bytes(request.extents) for request in requests) == SIZE
    assert {Extent(0, 2 * MIB)} <= {extent for request in requests for extent in request.extents}
