"""Patch or whole chunk: the cheaper one is read, nothing is missed, no other chunk is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent, normalise, subtract, total_bytes
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository.frames import FrameReader
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.sim.model.state import ControllerType, Slot
from hvpsbridge.tasks.planning.modes import Mode
from hvpsbridge.tasks.planning.patching import (
    EXTENT_BYTES,
    FREE,
    LOCAL,
    REMOTE,
    BaseCost,
    owed_extents,
    patch_pays,
)
from hvpsbridge.tasks.policy import ProofPolicy
from hvpsbridge.tasks.transfer.figures import DiskFigures
from hvpsbridge.units import KIB, MIB
from tests.tasks.world import GRID as WORLD_GRID
from tests.tasks.world import World

GRID = ChunkGrid(64 * KIB)
CHUNK = GRID.chunk_bytes
SIZE = 20 * CHUNK + 512
COSTS = st.builds(BaseCost, st.integers(0, 2 * CHUNK), st.floats(0, 2))
SETS = st.lists(
    st.tuples(st.integers(0, SIZE // 512 - 1), st.integers(1, 300)).map(
        lambda at: Extent(at[0] * 512, min(at[1] * 512, SIZE - at[0] * 512))
    ),
    max_size=40,
).map(lambda extents: normalise(extents, SIZE))


def within(extents: tuple[Extent, ...], chunk: Extent) -> tuple[Extent, ...]:
    """The part of a set that is in a chunk."""
    return subtract(extents, subtract((Extent(0, SIZE),), (chunk,)))


@settings(deadline=None)
@given(SETS, st.lists(COSTS, min_size=21, max_size=21))
def test_each_chunk_is_patched_or_whole_whichever_is_cheaper(
    changes: tuple[Extent, ...], costs: list[BaseCost]
) -> None:
    owed = owed_extents(changes, GRID, SIZE, costs.__getitem__)
    assert owed == normalise(owed, SIZE), "a sorted set of extents that do not touch"
    touched = set(GRID.touched(changes))
    assert set(GRID.touched(owed)) == touched
    for number in touched:
        chunk = GRID.extent(number, SIZE)
        changed, asked = within(changes, chunk), within(owed, chunk)
        patch = total_bytes(changed) + len(changed) * EXTENT_BYTES + costs[number].of(chunk.length)
        whole = chunk.length + EXTENT_BYTES
        assert asked == ((chunk,) if whole <= patch else changed)


@settings(deadline=None)
@given(SETS, COSTS)
def test_what_is_no_patch_is_none_when_more_changed(changes: tuple[Extent, ...], cost: BaseCost) -> None:
    for number in GRID.touched(changes):
        chunk = GRID.extent(number, SIZE)
        changed = within(changes, chunk)
        more = (*changed, *subtract((chunk,), changed)[:1])
        assert patch_pays(changed, chunk.length, cost) or not patch_pays(more, chunk.length, cost)


def test_a_local_base_is_patched_until_most_of_it_changed_and_a_remote_one_never() -> None:
    for kib, local in ((4, True), (48, True), (60, False), (64, False)):
        changed = (Extent(0, kib * KIB),)
        assert patch_pays(changed, CHUNK, LOCAL) == local
        for length in (CHUNK, MIB):
            assert not patch_pays(changed, length, REMOTE)
    assert patch_pays((Extent(0, 4 * KIB),), CHUNK, FREE), "zeros need no request"


# -- a repository that is far away -------------------------------------------------------------------------


class FarStore(LocalStore):
    """A folder that says a request costs a round trip."""

    remote = True


SLOT = Slot(ControllerType.SCSI, 0, 0)
DISK = 4 * MIB


@pytest.mark.parametrize("far", [False, True], ids=["local", "remote"])
def test_small_changes_cost_no_request_each_of_a_remote_store(
    far: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    if far:
        world.repository.close()
        store = tmp_path / "far"
        store.mkdir()
        world.repository = create_on_store(FarStore(store), WORLD_GRID)
    world.model.set_knob("memory_granularity_bytes", 4 * KIB)
    world.model.set_knob("over_report", 0.0)
    vm_id = world.vm(disks=(DISK,))
    world.model.guests.write(vm_id, SLOT, 0, world.chance.randbytes(DISK // 2))
    world.model.guests.unmap(vm_id, SLOT, DISK // 2, DISK // 2)
    world.good_backup(vm_id, proof=ProofPolicy.NEVER)
    # Eight chunks that hold data and eight that are zero get 4 KiB each.
    for chunk in (*range(8), *range(40, 48)):
        world.model.guests.write(vm_id, SLOT, chunk * CHUNK + 8 * KIB, world.chance.randbytes(4 * KIB))
    read: list[bytes] = []
    real = FrameReader.read

    def counting(reader: FrameReader, identity: bytes, kind: object) -> bytes:
        if getattr(kind, "name", "") == "DATA_PACK":
            read.append(identity)
        return real(reader, identity, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(FrameReader, "read", counting)
    disk: DiskFigures = world.good_backup(vm_id, proof=ProofPolicy.NEVER).disks[0]
    monkeypatch.undo()
    assert disk.mode is Mode.INCREMENTAL
    assert disk.changed_bytes == 16 * 4 * KIB
    assert disk.reread_chunks == 0
    if far:
        assert read == []
        assert disk.read_bytes == 8 * CHUNK + 8 * 4 * KIB
    else:
        assert len(read) == 8
        assert disk.read_bytes == 16 * 4 * KIB
    assert world.assert_points_equal(vm_id) == 2
    world.close()
