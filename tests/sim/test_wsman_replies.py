"""The simulated host's WSMan replies have the layout of those that real hosts gave (docs/hyperv-facts.md)."""

from __future__ import annotations

import base64
import contextlib
import random
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest
from pypsrp.exceptions import WinRMError
from pypsrp.wsman import NAMESPACES, SelectorSet, WSMan

from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import Request, decode_block
from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.replies import FRAGMENT
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.host.psrp.shells import SHELL_URI
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import ControllerType, Model, Slot
from hvpsbridge.sim.wsman import names
from hvpsbridge.sim.wsman.exchange import Caller, Reply
from hvpsbridge.units import KIB, MIB
from tests.connections import basic
from tests.host.layouts import Layout, layout_of, recorded
from tests.waiting import DEADLINE_SECONDS, wait_until

POWERSHELL_URI = "http://schemas.microsoft.com/powershell/Microsoft.PowerShell"
STREAM = '<rsp:Stream Name="stdout"{}>AA==</rsp:Stream>'


class Recorder:
    """The replies of a host, by last word of the action and in order."""

    def __init__(self, host: SimulatedHost) -> None:
        self.replies: list[tuple[str, int, bytes]] = []
        handle = host.service.handle

        def recording(data: bytes, caller: Caller) -> Reply:
            reply = handle(data, caller)
            self.replies.append((reply.action.rsplit("/")[-1], reply.status, b"".join(reply.body)))
            return reply

        host.service.handle = recording  # type: ignore[method-assign]

    def of(self, action: str) -> list[bytes]:
        return [text for one, status, text in self.replies if one == action and status == 200]

    def faults(self) -> list[bytes]:
        return [text for _, status, text in self.replies if status == 500]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SimulatedHost]:
    model = Model(tmp_path / "world", seed=1)
    with SimulatedHost(model, users={"backup": Secret("p")}) as running:
        yield running
    model.close()


@pytest.fixture
def connection(host: SimulatedHost) -> HostConnection:
    return basic(host.url, password="p", operation_timeout=1, read_timeout=30)


def expected(name: str, *, of_command: bool = True) -> Layout:
    owner = ' CommandId="x"' if of_command else ""
    return layout_of(recorded(name).replace("@STREAMS@", STREAM.format(owner)))


def receive(wsman: WSMan, shell_id: str, command_id: str | None) -> None:
    body = ElementTree.Element(f"{{{NAMESPACES['rsp']}}}Receive")
    stream = ElementTree.SubElement(body, f"{{{NAMESPACES['rsp']}}}DesiredStream")
    stream.text = "stdout"
    if command_id is not None:
        stream.attrib["CommandId"] = command_id
    with contextlib.suppress(WinRMError):
        wsman.receive(POWERSHELL_URI, body, selector_set=selectors(shell_id), timeout=1)


def selectors(shell_id: str) -> SelectorSet:
    made = SelectorSet()
    made.add_option("ShellId", shell_id)
    return made


def test_replies_to_a_whole_session_are_laid_out_as_recorded(
    host: SimulatedHost, connection: HostConnection
) -> None:
    recorder = Recorder(host)
    with HyperVHost.connect(connection) as connected:
        connected.host_info()
    for action, name in (("Create", "create"), ("Command", "command"), ("Delete", "delete")):
        assert {layout_of(text) for text in recorder.of(action)} == {expected(name)}
    assert {layout_of(text) for text in recorder.of("Signal")} <= {expected("signal")}
    received = {layout_of(text) for text in recorder.of("Receive")}
    assert expected("receive", of_command=False) in received
    assert expected("receive_done") in received
    assert received <= {
        expected("receive", of_command=False),
        expected("receive"),
        expected("receive_done"),
    }
    address = f"<a:Address>{host.url}/wsman</a:Address>"
    assert address.encode() in recorder.of("Create")[0]


def test_listings_and_faults_are_laid_out_as_recorded(
    host: SimulatedHost, connection: HostConnection
) -> None:
    recorder = Recorder(host)
    session = Session.open(connection)
    wsman: Any = session.client().wsman
    (shell,) = session.shells()
    assert shell.owner == r"HV01\backup"
    wsman.get(SHELL_URI, selector_set=selectors(session.shell_id))
    receive(wsman, session.shell_id, None)
    assert layout_of(recorder.faults()[-1]) == expected("fault_timeout")
    receive(wsman, session.shell_id, "6BE0A50F-0000-0000-0000-000000000000")
    assert layout_of(recorder.faults()[-1]) == expected("fault_no_command")
    assert not session.end_shell("6BE0A50F-0000-0000-0000-000000000000")
    assert layout_of(recorder.faults()[-1]) == expected("fault_no_shell")
    assert layout_of(recorder.of("Enumerate")[-1]) == expected("enumerate_shells")
    assert layout_of(recorder.of("Get")[-1]) == expected("get_shell")
    body = ElementTree.Element(f"{{{NAMESPACES['rsp']}}}Disconnect")
    wsman.disconnect(POWERSHELL_URI, body, selector_set=selectors(session.shell_id))
    assert layout_of(recorder.of("Disconnect")[-1]) == expected("disconnect")
    session.close()


def test_a_reply_ends_at_128_kib_of_fragments_as_recorded(
    host: SimulatedHost, connection: HostConnection
) -> None:
    content = random.Random(7).randbytes(2 * MIB)
    path = frozen_disk(host.model, content)
    recorder = Recorder(host)
    most = {}
    with HyperVHost.connect(connection) as connected:
        for knob in (0, 128 * KIB):
            host.model.knobs.reply_bytes = knob
            recorder.replies.clear()
            assert read_disk(connected, path, len(content)) == content
            most[knob] = max(len(fragments_of(reply)) for reply in recorder.of("Receive"))
    assert most[0] > 8
    # A small fragment may come before the large ones.
    assert 4 <= most[128 * KIB] <= 5


@pytest.mark.parametrize("unread", [64 * KIB, 1 << 40])
def test_a_process_is_held_back_or_not_and_a_disk_is_read_all_the_same(
    host: SimulatedHost, connection: HostConnection, unread: int
) -> None:
    content = random.Random(7).randbytes(2 * MIB)
    path = frozen_disk(host.model, content)
    host.model.knobs.unread_bytes = unread
    with HyperVHost.connect(connection) as connected:
        source = connected.open_reader(path)
        source.send(whole(len(content)))
        (shell,) = host.service.shells.all()
        wait_until(lambda: shell.outbox.peak_bytes > (unread if unread < MIB else len(content)))
        source.close()
        assert read_disk(connected, path, len(content)) == content
        if unread < MIB:
            assert shell.outbox.peak_bytes < unread + 64 * KIB


def whole(size: int) -> bytes:
    """A request for all of a disk."""
    extents = (Extent(0, size),)
    return Request(number=0, extents=extents, chunk_bytes=64 * KIB, block_bytes=MIB).pack()


def frozen_disk(model: Model, content: bytes) -> str:
    """Path of the frozen disk of a new VM, with that content."""
    slot = Slot(ControllerType.SCSI, 0, 0)
    vm = model.setup.create_vm("vm")
    model.setup.add_disk(vm.vm_id, slot, size_bytes=len(content))
    model.guests.write(vm.vm_id, slot, 0, content)
    made = model.jobs.wait(model.checkpoints.create(vm.vm_id)).results["checkpoint"]
    return model.disks.chain(model.checkpoints.get(UUID(made)).disks[str(slot)])[0].path


def read_disk(host: HyperVHost, path: str, size: int) -> bytes:
    source = host.open_reader(path)
    image = bytearray(size)
    try:
        source.send(whole(size))
        last = False
        while not last:
            for block in map(decode_block, source.receive(DEADLINE_SECONDS)):
                last = block.last
                for piece in block.pieces:
                    image[piece.extent.offset : piece.extent.end] = piece.data or bytes(piece.extent.length)
    finally:
        source.close()
    return bytes(image)


def test_messages_of_the_real_engine_are_laid_out_as_those_of_windows(pwsh: Path, tmp_path: Path) -> None:
    model = Model(tmp_path / "world", seed=1)
    with SimulatedHost(model, engine="powershell", users={"backup": Secret("p")}) as host:
        recorder = Recorder(host)
        settings = {"user": "backup", "password": Secret("p"), "auth": Authentication.BASIC}
        with HyperVHost.connect(HostConnection(name="hv01", address=host.url, **settings)) as connected:  # type: ignore[arg-type]
            connected.host_info()
        sent = [one for reply in recorder.of("Receive") for one in fragments_of(reply)]
    model.close()
    first = [one[FRAGMENT.size :] for one in sent if one[16] & 1]
    assert {one[40:43] for one in first} == {BOM_UTF8}
    for kind, name in (
        (0x00010002, "clixml_capability"),
        (0x00021005, "clixml_opened"),
        (0x00041006, "clixml_completed"),
    ):
        found = [one[43:] for one in first if int.from_bytes(one[4:8], "little") == kind]
        assert [layout_of(one) for one in found] == [layout_of(recorded(name))] * len(found) != [], name


def fragments_of(reply: bytes) -> list[bytes]:
    tree = ElementTree.fromstring(reply)
    found = [base64.b64decode(one.text or "") for one in tree.iter(f"{{{names.SHELL}}}Stream")]
    assert all(len(one) <= 32768 for one in found)
    return found
