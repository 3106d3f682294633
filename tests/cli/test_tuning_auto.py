"""``tuning: auto`` with the real engine: the first run measures and remembers, the next one uses it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats.wire import Request
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.tasks.transfer import tuning
from hvpsbridge.tasks.transfer.tuning_store import TuningFile
from hvpsbridge.units import KIB, MIB

from .conftest import Hvps

SLOT = Slot(ControllerType.SCSI, 0, 0)
SIZE = 32 * MIB
PLAYBOOK = """\
version: 1
name: tuned
hosts:
  hv01: {{address: "{url}", user: backup, auth: basic, password: {{env: HVPS_PASSWORD}}}}
repositories:
  main: {{url: "{repository}"}}
plays:
  - {{name: all, hosts: [hv01], repository: main, tasks: [backup: {{tuning: auto}}]}}
"""


@pytest.fixture
def small_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials for which 32 MiB are enough on any machine: they are not limited by time."""
    monkeypatch.setattr(tuning, "MEASURABLE_BYTES", 1 * MIB)
    monkeypatch.setattr(tuning, "TRIAL_SECONDS", 0.002)
    start = replace(tuning.START, window_bytes=256 * KIB)
    monkeypatch.setattr(tuning, "Search", partial(tuning.Search, start=start))
    ladders = (*tuning.LADDERS[:-1], ("window_bytes", (512 * KIB,)))
    monkeypatch.setattr(tuning, "LADDERS", ladders)


def asked(host: SimulatedHost) -> list[Request]:
    """Every request of a reader pipeline so far."""
    return [request for reader in host.counters._readers for request in reader.requests]


def ways(requests: list[Request]) -> set[tuple[int, bool]]:
    """Block size of each, and whether it deflates."""
    return {(request.block_bytes, request.allow_deflate) for request in requests}


def test_the_first_run_measures_and_the_second_reads_as_it_found_best(
    tmp_path: Path, pwsh: Path, hvps: Hvps, small_scale: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(11)
    monkeypatch.setenv("HVPS_PASSWORD", "s3cret")
    model = Model(tmp_path / "world")
    for knob in ("job_seconds", "merge_seconds", "visibility_seconds"):
        model.set_knob(knob, 0.0)
    vm_id = model.setup.create_vm("web").vm_id
    model.setup.add_disk(vm_id, SLOT, size_bytes=SIZE)
    model.guests.write(vm_id, SLOT, 0, chance.randbytes(SIZE))
    repository, playbook = tmp_path / "repo", tmp_path / "playbook.yaml"
    assert hvps("repo", "init", repository, "--chunk", "64KiB").code == 0
    with SimulatedHost(model, engine="powershell", users={"backup": Secret("s3cret")}) as host:
        playbook.write_text(PLAYBOOK.format(url=host.url, repository=repository))
        done = hvps("run", playbook, "--quiet")
        assert done.code == 0, done.err
        assert {block for block, _ in ways(asked(host))} >= {64 * KIB, 256 * KIB}
        assert {deflate for _, deflate in ways(asked(host))} == {True, False}
        store = TuningFile(tmp_path / "home" / "cache" / "hvps")
        ((name, learned),) = store.load().items()
        assert name == "hv01"
        assert learned.rate_bytes > 0
        assert (learned.settings.block_bytes, learned.settings.deflate) in ways(asked(host))

        # The next run must use what is in the file, not its defaults or results of its own.
        remembered = replace(learned.settings, block_bytes=128 * KIB, deflate=False)
        store.save(name, replace(learned, settings=remembered))
        written = (store._file.path).read_bytes()
        model.guests.write(vm_id, SLOT, 0, chance.randbytes(SIZE // 4))
        before = len(asked(host))
        done = hvps("run", playbook, "--quiet")
        assert done.code == 0, done.err
        assert ways(asked(host)[before:]) == {(128 * KIB, False)}
        assert (store._file.path).read_bytes() == written

    points = json.loads(hvps("list", "--repo", repository, "--json").out)["points"]
    assert len(points) == 2
    for point in points:
        target = tmp_path / "restored.raw"
        options = ("--disk", "0", "--repo", repository, "--to", f"raw:{target}", "--overwrite", "-q")
        assert hvps("restore", point["point_id"], *options).code == 0
        kept = model.golden.at_checkpoint(UUID(point["checkpoint_id"]), SLOT)
        assert target.read_bytes() == kept.read_bytes()
    model.close()
