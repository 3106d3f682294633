"""Random histories on the model: frozen disks are what was kept apart, and honest tracking never lies."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from hvpsbridge.formats.extents import Extent, normalise, subtract
from hvpsbridge.sim.model import ControllerType, DiskError, History, ManualClock, Model, Slot, Win32
from hvpsbridge.sim.model.state import Checkpoint
from hvpsbridge.units import KIB

FIRST = Slot(ControllerType.SCSI, 0, 0)
_REFUSALS = {Win32.VHD_INVALID_TRACKING_ID, Win32.VHD_TRACKING_DISABLED, Win32.VHD_TRACKING_MISSING}


def take(model: Model, history: History) -> Checkpoint:
    history.settle()
    job = model.checkpoints.create(history.vm_id)
    history.pass_time(1.0)
    return model.checkpoints.get(UUID(model.jobs.get(job.job_id).results["checkpoint"]))


def frozen(model: Model, point: Checkpoint, slot: str) -> bytes:
    layer = model.disks.layer(point.disks[slot])
    handle = model.driver.open(layer.path, "test")
    model.driver.attach(handle)
    data = model.driver.read(handle, 0, layer.size_bytes)
    model.driver.close(handle)
    return data


def changed(model: Model, path: str, rct_id: str) -> tuple[Extent, ...] | None:
    """What is reported, or None when the id is refused with one of the documented codes."""
    size = model.disks.at(path).size_bytes
    found: list[Extent] = []
    position = 0
    while position < size:
        try:
            page = model.driver.query_changes(path, rct_id, position, size - position)
        except DiskError as err:
            if err.code in _REFUSALS:
                return None
            raise
        found += page.extents
        position += page.processed_bytes
    return normalise(found, size)


def live_through(seed: int, folder: Path, rounds: int, steps: int) -> None:
    model = Model(folder, clock=ManualClock(), seed=seed)
    model.setup.add_node("HV02")
    vm = model.setup.create_vm("web01")
    model.setup.add_disk(vm.vm_id, FIRST, size_bytes=512 * KIB)
    history = History(model, vm.vm_id, seed)
    # Every id ever sealed with what the disk was then: each is asked again at every later checkpoint.
    sealed: list[tuple[str, str, bytes]] = []
    for _ in range(rounds):
        history.run(steps)
        point = take(model, history)
        for slot, number in point.disks.items():
            path = model.disks.layer(number).path
            now = frozen(model, point, slot)
            assert now == model.golden.at_checkpoint(point.checkpoint_id, Slot.parse(slot)).read_bytes()
            for base_slot, rct_id, then in sealed:
                if base_slot != slot:
                    continue
                reported = changed(model, path, rct_id)
                if reported is None:
                    continue
                same = min(len(now), len(then))
                different = [
                    Extent(at, 512) for at in range(0, same, 512) if now[at : at + 512] != then[at : at + 512]
                ]
                assert not subtract(normalise(different, same), reported), rct_id
            enabled, _, recent = model.driver.tracking_state(path)
            assert enabled
            assert recent
            sealed.append((slot, recent, now))
        end = (
            model.checkpoints.convert(point.checkpoint_id)
            if seed % 3
            else model.checkpoints.remove(point.checkpoint_id)
        )
        history.pass_time(1.0)
        assert not model.jobs.get(end.job_id).error_code
    model.close()
    again = Model(folder, clock=model.clock)
    assert again.vms.get(vm.vm_id) == model.vms.get(vm.vm_id)
    again.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1_000_000))
def test_whatever_happens_frozen_disks_are_right_and_no_accepted_id_hides_a_change(seed: int) -> None:
    note(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        live_through(seed, Path(folder), rounds=4, steps=12)


@pytest.mark.soak
@pytest.mark.parametrize("block", range(20))
def test_long_histories(block: int, tmp_path: Path) -> None:
    for seed in range(block * 100, block * 100 + 100):
        live_through(seed, tmp_path / str(seed), rounds=8, steps=30)
