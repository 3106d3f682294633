"""A simulated host whose shells are a real PowerShell engine, and a session on it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats.extents import Extent
from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import PowerShellHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.sim.model_service import ModelService
from hvpsbridge.units import KIB, MIB
from tests.waiting import DEADLINE_SECONDS

SLOT = Slot(ControllerType.SCSI, 0, 0)
# Not a multiple of 4096 or of a chunk size.
SIZE = 24 * MIB + 512
# Where the disk has compressible data.
TEXT = Extent(8 * MIB, 512 * KIB)
USER = "backup"
PASSWORD = "canary-7d1c"


@dataclass(frozen=True)
class Frozen:
    """A VM with two successive checkpoints; tests read the disk of the second."""

    vm_id: UUID
    checkpoint_id: UUID
    path: str
    chain: tuple[str, ...]
    base_rct_id: str
    changed: tuple[Extent, ...]
    image: bytes


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    world = Model(tmp_path_factory.mktemp("world"), seed=3)
    world.knobs.over_report = 0.0
    yield world
    world.close()


@pytest.fixture(scope="module")
def service(model: Model) -> Iterator[ModelService]:
    with ModelService(model) as served:
        yield served


@pytest.fixture(scope="module")
def simulated(pwsh: Path, service: ModelService) -> Iterator[PowerShellHost]:
    with PowerShellHost(users={USER: Secret(PASSWORD)}, environment=service.environment()) as host:
        yield host


@pytest.fixture(scope="module")
def connection(simulated: PowerShellHost) -> HostConnection:
    return HostConnection(
        name="hv01",
        address=simulated.url,
        user=USER,
        password=Secret(PASSWORD),
        auth=Authentication.BASIC,
        operation_timeout=5,
        read_timeout=DEADLINE_SECONDS,  # an engine takes long to start on a busy machine
    )


@pytest.fixture(scope="module")
def host(connection: HostConnection) -> Iterator[HyperVHost]:
    with HyperVHost.connect(connection) as session:
        yield session


@pytest.fixture(scope="module")
def frozen(model: Model) -> Frozen:
    """Random data, a checkpoint, known writes, and the checkpoint that is read."""
    vm = model.setup.create_vm("web's [1] $x ü")
    model.setup.add_disk(vm.vm_id, SLOT, size_bytes=SIZE)
    chance = random.Random(5)
    model.guests.write(vm.vm_id, SLOT, 1 * MIB, chance.randbytes(2 * MIB))
    model.guests.write(
        vm.vm_id, SLOT, TEXT.offset, b"".join(b"line %07d\n" % n for n in range(65536))[: TEXT.length]
    )
    model.guests.write(vm.vm_id, SLOT, SIZE - 512, chance.randbytes(512))
    first = model.checkpoints.get(
        UUID(model.jobs.wait(model.checkpoints.create(vm.vm_id, name="user")).results["checkpoint"])
    )
    base = model.driver.tracking_state(model.disks.layer(first.disks[str(SLOT)]).path)[2]
    changed = (Extent(1 * MIB + 8 * KIB, 4 * KIB), Extent(2 * MIB + 512 * KIB, 1 * MIB))
    for extent in changed:
        model.guests.write(vm.vm_id, SLOT, extent.offset, chance.randbytes(extent.length))
    point = model.checkpoints.get(
        UUID(model.jobs.wait(model.checkpoints.create(vm.vm_id)).results["checkpoint"])
    )
    layers = model.disks.chain(point.disks[str(SLOT)])
    assert base
    return Frozen(
        vm.vm_id,
        point.checkpoint_id,
        layers[0].path,
        tuple(layer.path for layer in layers),
        base,
        changed,
        model.golden.at_checkpoint(point.checkpoint_id, SLOT).read_bytes(),
    )
