"""Every fault of the table happens as often as asked, and does what the table says it does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import requests
from pypsrp.exceptions import AuthenticationError, WinRMTransportError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from hvpsbridge.contract import CONTRACT
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import Block, BlockError, Request, decode_block
from hvpsbridge.sim.faults import WireFaults, fault_table
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.units import KIB, MIB
from tests.waiting import DEADLINE_SECONDS, wait_until

SLOT = Slot(ControllerType.SCSI, 0, 0)
GONE = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)


class Client:
    """A pool on a host of its own, and one frozen disk of 4 MiB to read."""

    def __init__(self, host: SimulatedHost, path: str) -> None:
        self.host = host
        self.path = path
        self.wsman = self.connect()
        self.pool = RunspacePool(self.wsman, max_runspaces=4)
        self.pool.open()

    def connect(self, read_timeout: int = 30) -> WSMan:
        return WSMan(
            "127.0.0.1",
            port=self.host.listener.port,
            ssl=False,
            auth="basic",
            encryption="never",
            username="backup",
            password="backup",
            read_timeout=read_timeout,
        )

    def arm(self, name: str, count: int = 1, **parameters: object) -> None:
        self.host.faults.arm(name, count, **parameters)

    def start(self, operation: str = "Get-HvpsHost", **parameters: object) -> PowerShell:
        shell = PowerShell(self.pool)
        shell.add_script(f"# hvps operation={operation} contract={CONTRACT}\n")
        shell.add_parameters(parameters)
        return shell

    def ask(self) -> int:
        return len(self.start().invoke())

    def blocks(self, count: int = 8) -> list[Block]:
        """Blocks of 64 KiB of the disk's beginning, as they arrive; bad ones raise BlockError."""
        shell = self.start("Read-HvpsExtent", Path=self.path)
        request = Request(
            number=0,
            extents=(Extent(0, count * 64 * KIB),),
            chunk_bytes=64 * KIB,
            block_bytes=64 * KIB,
            allow_deflate=False,
        )

        def inputs() -> Iterator[object]:
            yield request.pack()

        shell.begin_invoke(input=inputs())
        shell.end_invoke()
        return [decode_block(item.extended_properties["Block"]) for item in shell.output]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, str]]:
    model = Model(tmp_path_factory.mktemp("world"), seed=1)
    vm = model.setup.create_vm("vm")
    model.setup.add_disk(vm.vm_id, SLOT, size_bytes=4 * MIB)
    model.guests.write(vm.vm_id, SLOT, 0, b"".join(bytes([1 + n]) * 64 * KIB for n in range(8)))
    point = model.checkpoints.get(
        UUID(model.jobs.wait(model.checkpoints.create(vm.vm_id)).results["checkpoint"])
    )
    yield model, model.disks.layer(point.disks[str(SLOT)]).path
    model.close()


@pytest.fixture
def client(world: tuple[Model, str]) -> Iterator[Client]:
    model, path = world
    with SimulatedHost(model) as host:
        yield Client(host, path)


def lost_request(client: Client) -> None:
    client.arm("request_lost", action="command")
    with pytest.raises(GONE):
        client.ask()
    assert not client.host.service.shells.all()[0].commands
    assert client.ask() == 1


def lost_reply(client: Client) -> None:
    client.arm("reply_lost")
    with pytest.raises(GONE):
        client.ask()
    # Carried out, and what it held is gone.
    assert len(client.host.service.shells.all()[0].commands) == 1


def cut_reply(client: Client) -> None:
    client.arm("reply_cut", bytes=700)
    with pytest.raises(GONE):
        client.ask()
    assert client.ask() == 1


def reply_twice(client: Client) -> None:
    client.arm("reply_twice")
    numbers = [block.number for block in client.blocks()]
    assert set(numbers) == set(range(8))
    assert len(numbers) > 8


def delayed_reply(client: Client) -> None:
    client.arm("reply_delayed", action="command", seconds=0.5)
    started = time.monotonic()
    assert client.ask() == 1
    assert time.monotonic() - started >= 0.5


def slow_reply(client: Client) -> None:
    client.arm("reply_slow", bytes_per_second=4096)
    started = time.monotonic()
    assert client.ask() == 1
    assert time.monotonic() - started >= 0.3


def stalled_reply(client: Client) -> None:
    client.arm("reply_stalled", action="signal", bytes=100, seconds=60)
    client.wsman.transport.read_timeout = 1
    shell = client.start()
    shell.invoke()
    with pytest.raises((requests.exceptions.ReadTimeout, *GONE)):
        shell.close()


def unavailable(client: Client) -> None:
    client.arm("unavailable", action="command", status=503)
    with pytest.raises((requests.exceptions.RetryError, WinRMTransportError)):
        client.ask()
    assert client.ask() == 1


def unauthorized(client: Client) -> None:
    client.arm("unauthorized", action="command")
    with pytest.raises(AuthenticationError):
        client.ask()
    assert client.ask() == 1


def _refused(name: str, code: int) -> Callable[[Client], None]:
    def check(client: Client) -> None:
        client.arm(name, action="create")
        with client.connect() as wsman, pytest.raises(WSManFaultError) as caught:
            RunspacePool(wsman).open()
        assert caught.value.code == code
        assert client.host.counters.faults[code] == 1
        with client.connect() as wsman, RunspacePool(wsman):
            pass

    return check


def lost_shell(client: Client) -> None:
    client.arm("shell_lost")
    with pytest.raises(WSManFaultError) as caught:
        client.ask()
    assert caught.value.code == 0x8033805B
    assert client.host.service.shells.all() == ()


def killed_engine(client: Client) -> None:
    reader = client.start("Read-HvpsExtent", Path=client.path)
    reader.begin_invoke(input=iter_none())
    client.arm("engine_killed")
    with pytest.raises(WSManFaultError):
        reader.poll_invoke(timeout=30)
    assert client.host.model.driver.attached() == ()
    with pytest.raises(WSManFaultError):
        client.ask()


def iter_none() -> Iterator[None]:
    """Input that pypsrp leaves open."""
    yield None


def reboot(client: Client) -> None:
    before = client.host.model.nodes.get().booted
    listener, seen_down = client.host.listener, threading.Event()
    come_up = listener._come_up

    def held(boots: int, down_seconds: float, came_up: Callable[[], None]) -> None:
        seen_down.wait()
        come_up(boots, down_seconds, came_up)

    listener._come_up = held  # type: ignore[method-assign]  # of this one host
    client.arm("host_reboots", down_seconds=0.01)
    try:
        with pytest.raises(GONE):
            client.ask()
        with client.connect() as wsman, pytest.raises(GONE):
            RunspacePool(wsman).open()
    finally:
        seen_down.set()
    wait_until(lambda: listens(listener.port))
    with client.connect() as wsman, RunspacePool(wsman):
        assert len(client.host.service.shells.all()) == 1
    assert client.host.model.nodes.get().booted > before


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS):
            return True
    except OSError:
        return False


def skewed_clock(client: Client) -> None:
    client.arm("clock_skewed", seconds=3600)
    (told,) = client.start().invoke()
    ahead = datetime.fromisoformat(told.extended_properties["Time"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
    client.host.skew_clock(0)


def lost_block(client: Client) -> None:
    client.arm("block_lost", after=2)
    assert [block.number for block in client.blocks()] == [0, 1, 3, 4, 5, 6, 7]


def doubled_block(client: Client) -> None:
    client.arm("block_doubled")
    assert [block.number for block in client.blocks(3)] == [0, 0, 1, 2]


def reordered_block(client: Client) -> None:
    client.arm("block_reordered", after=1)
    assert [block.number for block in client.blocks(4)] == [0, 2, 1, 3]


def _broken(name: str, match: str) -> Callable[[Client], None]:
    def check(client: Client) -> None:
        client.arm(name)
        with pytest.raises(BlockError, match=match):
            client.blocks()
        assert len(client.blocks()) == 8

    return check


CASES: dict[str, Callable[[Client], None]] = {
    "request_lost": lost_request,
    "reply_lost": lost_reply,
    "reply_cut": cut_reply,
    "reply_twice": reply_twice,
    "reply_delayed": delayed_reply,
    "reply_slow": slow_reply,
    "reply_stalled": stalled_reply,
    "unavailable": unavailable,
    "unauthorized": unauthorized,
    "access_denied": _refused("access_denied", 5),
    "quota_shells": _refused("quota_shells", 0x803381A5),
    "quota_operations": _refused("quota_operations", 0x803381A6),
    "shell_lost": lost_shell,
    "engine_killed": killed_engine,
    "host_reboots": reboot,
    "clock_skewed": skewed_clock,
    "block_lost": lost_block,
    "block_doubled": doubled_block,
    "block_reordered": reordered_block,
    "block_altered": _broken("block_altered", "digest"),
    "block_wrong_digest": _broken("block_wrong_digest", "digest"),
    "block_truncated": _broken("block_truncated", "there are"),
}


@pytest.mark.parametrize("name", fault_table())
def test_a_fault_does_what_its_row_says(name: str, client: Client) -> None:
    CASES[name](client)
    assert client.host.faults.fired == {name: 1}
    assert not client.host.faults.any_armed


def test_the_page_on_the_simulated_host_has_every_fault() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulated-host.md").read_text(encoding="utf-8")
    for kind in fault_table().values():
        rows = [line for line in page.splitlines() if line.startswith(f"| `{kind.name}` | {kind.where} |")]
        assert len(rows) == 1, kind.name
        assert kind.what in rows[0]
        assert all(f"{key}={value}" in rows[0] for key, value in kind.parameters.items() if key != "after")


def test_a_reply_that_was_kept_is_had_by_sending_the_request_again(client: Client) -> None:
    client.arm("reply_cut", bytes=700, keep=True)
    sent: list[bytes] = []
    send = client.wsman.transport.send
    client.wsman.transport.send = lambda message, **options: (sent.append(message), send(message, **options))[
        1
    ]
    shell = client.start()
    shell.begin_invoke()
    with pytest.raises(GONE):
        shell.poll_invoke()
    first = send(sent[-1])
    assert first.count(b"<rsp:Stream") >= 1


def test_faults_speak_the_language_of_the_host(client: Client) -> None:
    client.arm("access_denied", action="command")
    client.host.model.set_knob("language", "de")
    try:
        with pytest.raises(WSManFaultError, match="verweigert") as caught:
            client.ask()
    finally:
        client.host.model.set_knob("language", "en")
    assert caught.value.code == 5


def test_a_fault_lets_as_many_pass_as_told(client: Client) -> None:
    client.arm("request_lost", action="command", after=2)
    assert [client.ask(), client.ask()] == [1, 1]
    with pytest.raises(GONE):
        client.ask()


def test_a_fault_is_armed_from_text_and_refused_when_it_makes_no_sense() -> None:
    faults = WireFaults()
    faults.arm_text("reply_cut:bytes=12,action=any,keep=true", 2)
    fault = faults.fire("reply", "send")
    assert fault is not None
    assert fault.parameters == {"bytes": 12, "keep": True, "action": "any", "after": 0}
    assert faults.armed() == {"reply_cut": 1}
    faults.arm("reply_cut", 0)
    assert not faults.any_armed
    for text in (
        "no_such",
        "reply_cut:bytes",
        "reply_cut:bytes=x",
        "reply_cut:colour=red",
        "reply_cut:keep=5",
    ):
        with pytest.raises(ValueError, match=r"no|takes"):
            faults.arm_text(text)


def test_the_host_counts_what_readers_asked_for(client: Client) -> None:
    client.blocks(2)
    client.blocks(3)
    counters = client.host.counters
    assert counters.asked_bytes(client.path.upper()) == 5 * 64 * KIB
    assert counters.asked_extents() == (Extent(0, 128 * KIB), Extent(0, 192 * KIB))
    assert counters.asked_bytes("C:\\another.vhdx") == 0
    assert counters.operations == {"Read-HvpsExtent": 2}
    # A reply is counted when it was sent, which may be after the client has read it.
    sent_bytes = 5 * 64 * KIB * 16 // 9
    wait_until(lambda: counters.sent_bytes["receive"] > sent_bytes, "all replies to be counted")
    assert counters.sent_bytes["receive"] > sent_bytes
