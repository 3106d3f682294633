"""The builtin engine as a PSRP server: scripts that are not ours, binding, runspaces, stopping, input."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.serializer import TaggedValue
from pypsrp.wsman import WSMan

from hvpsbridge.contract import CONTRACT
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import Request, decode_block
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.units import KIB, MIB

SLOT = Slot(ControllerType.SCSI, 0, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    world = Model(tmp_path_factory.mktemp("world"), seed=1)
    yield world
    world.close()


@pytest.fixture(scope="module")
def host(model: Model) -> Iterator[SimulatedHost]:
    with SimulatedHost(model) as running:
        yield running


@pytest.fixture
def pool(host: SimulatedHost) -> Iterator[RunspacePool]:
    wsman = connect(host)
    with wsman, RunspacePool(wsman, max_runspaces=2) as opened:
        yield opened


def connect(host: SimulatedHost) -> WSMan:
    return WSMan(
        "127.0.0.1",
        port=host.listener.port,
        ssl=False,
        auth="basic",
        encryption="never",
        username="backup",
        password="backup",
    )


def pipeline(
    pool: RunspacePool, operation: str, contract: int = CONTRACT, **parameters: object
) -> PowerShell:
    shell = PowerShell(pool)
    shell.add_script(f"# hvps operation={operation} contract={contract}\n'not read'")
    shell.add_parameters(parameters)
    return shell


def error_of(shell: PowerShell) -> str:
    shell.invoke()
    assert shell.had_errors
    (record,) = shell.streams.error
    return str(record.fq_error)


def frozen_path(model: Model, content: bytes) -> str:
    vm = model.setup.create_vm(f"vm {uuid4()}")
    model.setup.add_disk(vm.vm_id, SLOT, size_bytes=4 * MIB)
    model.guests.write(vm.vm_id, SLOT, 0, content)
    job = model.jobs.wait(model.checkpoints.create(vm.vm_id))
    point = model.checkpoints.get(UUID(job.results["checkpoint"]))
    return model.disks.layer(point.disks[str(SLOT)]).path


def test_a_script_that_is_not_ours_is_refused_and_the_shell_stays_usable(pool: RunspacePool) -> None:
    shell = PowerShell(pool)
    shell.add_script("Get-Process")
    assert error_of(shell) == "Hvps.NotOurScript"
    assert len(pipeline(pool, "Get-HvpsHost").invoke()) == 1


def test_a_script_of_another_contract_is_refused(pool: RunspacePool) -> None:
    assert error_of(pipeline(pool, "Get-HvpsHost", contract=CONTRACT + 1)) == "Hvps.OtherContract"


def test_stopping_ends_an_operation_that_waits_for_input(pool: RunspacePool, model: Model) -> None:
    shell = pipeline(pool, "Read-HvpsExtent", Path=frozen_path(model, b"x" * 512))
    shell.begin_invoke(input=open_input())
    shell.stop()  # else it would wait for ever
    assert len(pipeline(pool, "Get-HvpsHost").invoke()) == 1


def open_input(*first: object) -> Iterator[object]:
    """Input that is never closed by pypsrp: the last thing it is given is None."""
    yield from first
    yield None


def test_no_more_pipelines_run_than_the_pool_has_runspaces(pool: RunspacePool, model: Model) -> None:
    path = frozen_path(model, b"x" * 512)
    readers = [pipeline(pool, "Read-HvpsExtent", Path=path) for _ in range(2)]
    for reader in readers:
        reader.begin_invoke(input=open_input())
    waiting = pipeline(pool, "Get-HvpsHost")
    waiting.begin_invoke()
    waiting.poll_invoke(timeout=1)
    assert waiting.output == []
    readers[0].stop()
    assert len(waiting.end_invoke()) == 1
    readers[1].stop()


def test_blocks_of_a_disk_are_what_the_disk_holds(pool: RunspacePool, model: Model) -> None:
    content = bytes(range(256)) * 512
    extents = (Extent(512, 1024), Extent(64 * KIB, 1 * MIB), Extent(4 * MIB - 512, 512))
    request = Request(
        number=0, extents=extents, chunk_bytes=64 * KIB, block_bytes=256 * KIB, want_chunk_digests=True
    )
    shell = pipeline(pool, "Read-HvpsExtent", Path=frozen_path(model, content))
    shell.begin_invoke(input=open_input(request.pack()))
    blocks = []
    while not blocks or not blocks[-1].last:
        shell.poll_invoke()
        blocks = [decode_block(item.extended_properties["Block"]) for item in shell.output]
    shell.stop()
    whole = content.ljust(4 * MIB, b"\0")
    pieces = [piece for block in blocks for piece in block.pieces]
    for piece in pieces:
        expected = whole[piece.extent.offset : piece.extent.end]
        assert (b"\0" * piece.extent.length if piece.data is None else piece.data) == expected
    assert sum(piece.extent.length for piece in pieces) == sum(extent.length for extent in extents)
    assert {entry.number for block in blocks for entry in block.chunk_digests} == {0, *range(1, 17), 63}


def test_a_deleted_shell_gives_its_disks_back(host: SimulatedHost, model: Model) -> None:
    path = frozen_path(model, b"x" * 512)
    with connect(host) as wsman:
        opened = RunspacePool(wsman)
        opened.open()
        pipeline(
            opened,
            "Get-HvpsDiskDigest",
            Path=path,
            ChunkBytes=64 * KIB,
            OffsetBytes=TaggedValue("U64", 0),
            LengthBytes=TaggedValue("U64", 4 * MIB),
        ).invoke()
        assert [handle.path for handle in model.driver.attached()] == [path]
        opened.close()
    assert model.driver.attached() == ()


def test_a_shell_that_is_killed_while_a_pipeline_starts_ends(
    host: SimulatedHost, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reboot ends shells one by one: an error at one of them would leave the host down."""
    ended: list[str] = []

    def kill() -> None:
        host.service.shells.kill(host.service.shells.all()[-1])
        ended.append("shell")

    class KilledAtStart(threading.Thread):
        def start(self) -> None:
            killer = threading.Thread(target=kill)
            killer.start()
            killer.join(0.2)  # it gets as far as it can before the pipeline runs
            super().start()
            killers.append(killer)

    killers: list[threading.Thread] = []
    with connect(host) as wsman:
        pool = RunspacePool(wsman)
        pool.open()
        monkeypatch.setattr("hvpsbridge.sim.engines.builtin.Thread", KilledAtStart)
        with contextlib.suppress(WSManFaultError):
            pipeline(pool, "Read-HvpsExtent", Path=frozen_path(model, b"x" * 512)).begin_invoke(
                input=open_input()
            )
        for killer in killers:
            killer.join()
    assert ended == ["shell"]
    assert model.driver.attached() == ()
