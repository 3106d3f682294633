"""Limits set in a playbook and by options, as a host in this process sees them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.receiver.throttling import TokenBucket
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model
from hvpsbridge.sim.model.state import ControllerType, Slot
from hvpsbridge.sim.wsman.shells import Quotas
from hvpsbridge.tasks.transfer.limits import SharedPermits
from hvpsbridge.tasks.transfer.permits import Claim, RunLimits
from hvpsbridge.units import KIB, MIB
from tests.tasks.test_limits import Readers, Timeline
from tests.tasks.test_permits import within

from .conftest import Hvps

# VMs by the letter of their disk file, and its volume.
PLACES = {"a": "C:\\", "b": "C:\\", "c": "D:\\"}
SLOT = Slot(ControllerType.SCSI, 0, 0)
SIZE = 1 * MIB
# Configuration files of each VM on the wire. They are sent as a whole and count against the next reader.
FILES = 700 * KIB
PLAYBOOK = """\
version: 1
name: limits
forks: 3
hosts:
  hv01: {{address: "{url}", user: backup, auth: basic, password: {{env: HVPS_PASSWORD}}}}
repositories:
  main: {{url: "{repository}"}}
limits: {limits}
plays:
  - name: all
    hosts: [hv01]
    repository: main
    tasks:
      - backup: {{proof: never, tuning: {{readers: 1, block: 64KiB, window: 1MiB}}}}
"""


class Night:
    """Three VMs on one host, with all data new each night."""

    def __init__(self, folder: Path, hvps: Hvps, model: Model, host: SimulatedHost) -> None:
        self.host = host
        self._folder = folder
        self._hvps = hvps
        self._model = model
        self._chance = random.Random(2)
        self._vms: dict[str, UUID] = {}
        for name, volume in PLACES.items():
            vm_id = self._vms[name] = model.setup.create_vm(name).vm_id
            model.setup.add_disk(
                vm_id, SLOT, size_bytes=SIZE, path=f"{volume}VMs\\{name}.vhdx", block_bytes=1 * MIB
            )
        assert hvps("repo", "init", folder / "repo", "--chunk", "64KiB").code == 0

    def claims(self) -> dict[str, Claim]:
        """The limits that each disk counts against, by name of its file."""
        return {name: Claim("hv01", PLACES[name], vm_id, name) for name, vm_id in self._vms.items()}

    def run(self, limits: str, *options: str, new_bytes: int = 256 * KIB) -> None:
        """Run the playbook with these limits. Every VM must get a point with this much data."""
        for vm_id in self._vms.values():
            self._model.guests.write(vm_id, SLOT, 0, self._chance.randbytes(new_bytes))
        path = self._folder / "playbook.yaml"
        path.write_text(PLAYBOOK.format(url=self.host.url, repository=self._folder / "repo", limits=limits))
        done = self._hvps("run", path, *options)
        assert done.code == 0, done.out + done.err


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path / "world")
    for knob in ("job_seconds", "merge_seconds", "visibility_seconds"):
        world.set_knob(knob, 0.0)
    world.setup.add_volume("D:\\", 100 << 30)
    yield world
    world.close()


@pytest.fixture
def night(model: Model, hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    monkeypatch.setenv("HVPS_PASSWORD", "s3cret")
    # Room for a shell of each VM, and for the shell of one disk.
    quotas = Quotas(shells_per_user=len(PLACES) + 1)
    with SimulatedHost(model, users={"backup": Secret("s3cret")}, quotas=quotas) as host:
        yield Night(tmp_path, hvps, model, host)


NONE = "{}"


@pytest.mark.parametrize(
    ("limits", "options", "meant", "at_once"),
    [
        (NONE, (), RunLimits(), 3),
        ("{readers: 1}", (), RunLimits(readers=1), 1),
        (NONE, ("--max-readers", "1"), RunLimits(readers=1), 1),
        ("{readers_per_host: 1}", ("--max-readers-per-host", "2"), RunLimits(readers_per_host=2), 2),
        ("{readers_per_volume: 1}", (), RunLimits(readers_per_volume=1), 2),
        (NONE, ("--most-readers-per-volume", "1"), RunLimits(readers_per_volume=1), 2),
    ],
    ids=["none", "readers", "--max-readers", "the-option-wins", "volume", "--most-readers-per-volume"],
)
def test_readers_at_once_are_those_of_the_playbook_or_the_option(
    limits: str,
    options: tuple[str, ...],
    meant: RunLimits,
    at_once: int,
    night: Night,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night.host.service.shells.quotas = Quotas()
    asked: list[RunLimits] = []

    def permits(given: RunLimits) -> SharedPermits:
        asked.append(given)
        return SharedPermits(given)

    monkeypatch.setattr("hvpsbridge.cli.compose.SharedPermits", permits)
    readers = Readers(monkeypatch, night.claims(), at_once)
    night.run(limits, *options)
    # A slow machine may read one disk after the other even without a limit.
    assert asked == [meant]
    assert readers.most() == at_once
    assert all(within(now, meant) for now in readers.seen)


@pytest.mark.parametrize(
    ("limits", "options"), [("{rate: 1MiB}", ()), ("{rate: 100MiB}", ("--rate", "1MiB"))]
)
def test_a_rate_is_the_playbook_s_or_the_option_s(
    limits: str, options: tuple[str, ...], night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def bucket(rate: float) -> TokenBucket:
        asked.append(rate)
        return TokenBucket(rate)

    monkeypatch.setattr("hvpsbridge.cli.compose.TokenBucket", bucket)
    night.host.service.shells.quotas = Quotas()
    line = Timeline(night.host)
    night.run(limits, *options, new_bytes=SIZE)
    # A machine slower than the rate does not show whether the rate is respected.
    assert asked == [1 * MIB]
    assert sum(sent for _, sent in line.sent) > (1.7 * SIZE + FILES / 2) * len(PLACES)
    # Each disk may have data for a second under way, in windows of a quarter of that, besides other answers.
    line.assert_within(1 * MIB, len(PLACES) * (MIB / 2 + FILES) + 384 * KIB)


@pytest.mark.parametrize(
    ("limits", "options"), [("{shells_per_host: 1}", ()), (NONE, ("--max-shells-per-host", "1"))]
)
def test_disks_take_turns_at_the_shells_of_the_playbook_or_the_option(
    limits: str, options: tuple[str, ...], night: Night
) -> None:
    night.run(limits, *options)
