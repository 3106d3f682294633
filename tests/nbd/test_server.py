"""The NBD server, asked by the clients of others, and by hostile ones."""

from __future__ import annotations

import json
import random
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvpsbridge.errors import ConfigurationError, Damaged
from hvpsbridge.formats.extents import Extent
from hvpsbridge.nbd import protocol, server
from hvpsbridge.nbd.certificates import CA_NAME, CLIENT_KEY_NAME, CLIENT_NAME, make_certificates
from hvpsbridge.nbd.exports import Export
from hvpsbridge.nbd.overlay import Overlay
from hvpsbridge.nbd.room import Room
from hvpsbridge.nbd.server import Server, tcp_socket, unix_socket
from hvpsbridge.nbd.stream import PATIENCE_SECONDS
from hvpsbridge.units import KIB, MIB
from tests.waiting import wait_until

SIZE = 40 * MIB + 512
EXTENTS = (Extent(0, 3 * MIB), Extent(20 * MIB, 64 * KIB), Extent(SIZE - 512, 512))
BAD = 2 * MIB


class Content:
    """A disk in memory, with data in its extents; one block of it is damaged if ``bad``."""

    def __init__(self, *, bad: bool = False) -> None:
        self.size_bytes = SIZE
        content = bytearray(SIZE)
        for extent in EXTENTS:
            content[extent.offset : extent.end] = random.Random(extent.offset).randbytes(extent.length)
        self.content = bytes(content)
        self._bad = bad

    def pread(self, offset: int, length: int) -> bytes:
        assert 0 <= offset < offset + length <= SIZE
        if self._bad and offset <= BAD < offset + length:
            raise Damaged("here", "chunk 1", "the digest does not match")
        return self.content[offset : offset + length]

    def extents(self) -> tuple[Extent, ...]:
        return EXTENTS

    def status(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        position, end = offset, offset + length
        for extent in EXTENTS:
            start, stop = max(extent.offset, position), min(extent.end, end)
            if start < stop:
                if position < start:
                    yield start - position, False
                yield stop - start, True
                position = stop
        if position < end:
            yield end - position, False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nbd.sock"


@pytest.fixture
def served(path: Path) -> Iterator[Content]:
    disk = Content()
    exports = {
        name: Export(name=name, description="a disk", disk=content)
        for name, content in (("scsi-0-0", disk), ("damaged", Content(bad=True)))
    }
    with Server(unix_socket(path), exports):
        yield disk


def uri(path: Path, name: str = "scsi-0-0") -> str:
    return f"nbd+unix:///{name}?socket={path}"


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)


def test_nbdinfo_finds_the_exports(served: Content, path: Path) -> None:
    done = run("nbdinfo", "--json", "--list", uri(path, ""))
    assert done.returncode == 0, done.stderr
    (one, other) = json.loads(done.stdout)["exports"]
    assert (one["export-name"], other["export-name"]) == ("scsi-0-0", "damaged")
    assert one["export-size"] == SIZE
    assert one["is_read_only"] is True
    assert one["can_multi_conn"] is True
    assert one["contexts"] == ["base:allocation"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nbdinfo_maps_the_holes(served: Content, path: Path) -> None:
    done = run("nbdinfo", "--json", "--map", uri(path))
    assert done.returncode == 0, done.stderr
    found = [(one["offset"], one["length"]) for one in json.loads(done.stdout) if one["type"] == 0]
    assert found == [(extent.offset, extent.length) for extent in EXTENTS]


def test_nbdcopy_and_qemu_img_copy_every_byte(served: Content, path: Path, tmp_path: Path) -> None:
    done = run("nbdcopy", uri(path), tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy").read_bytes() == served.content
    done = run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri(path), tmp_path / "converted")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "converted").read_bytes() == served.content
    assert (tmp_path / "converted").stat().st_blocks * 512 < SIZE // 2


def test_a_client_without_structured_replies_reads_too(served: Content, path: Path) -> None:
    client = Client(path)
    client.choose_old("scsi-0-0")
    assert client.read(0, 4096) == served.content[:4096]
    assert client.read(SIZE - 512, 512) == served.content[-512:]
    client.close()


def test_damage_is_an_error_where_it_is_and_nowhere_else(
    served: Content, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = run("nbdcopy", uri(path, "damaged"), tmp_path / "copy")
    assert done.returncode != 0
    assert "Input/output error" in done.stderr
    assert f"bytes {BAD}" in caplog.text or "cannot be read" in caplog.text
    client = Client(path)
    client.choose_old("damaged")
    assert client.read(0, 4096) == served.content[:4096]
    with pytest.raises(OSError, match="5"):
        client.read(BAD, 512)
    assert client.read(4096, 4096) == served.content[4096:8192]
    client.close()


class Client:
    """A client that says what it wants to, also what nobody may."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self._cookie = 0

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def greet(self, flags: int = 3) -> None:
        assert self.receive(18) == protocol.greeting()
        self.socket.sendall(flags.to_bytes(4))

    def option(self, kind: int, data: bytes = b"", length: int | None = None) -> None:
        size = len(data) if length is None else length
        self.socket.sendall(protocol.OPTION_HEAD.pack(protocol.OPTION_MAGIC, kind, size) + data)

    def answer(self) -> tuple[int, bytes]:
        _, _, kind, length = struct.unpack(">QIII", self.receive(20))
        return kind, self.receive(length)

    def choose_old(self, name: str) -> None:
        self.greet()
        self.option(protocol.OptionKind.EXPORT_NAME, name.encode())
        size, _ = struct.unpack(">QH", self.receive(10))
        assert size == SIZE

    def request(self, command: int, offset: int, length: int, flags: int = 0, data: bytes = b"") -> int:
        self._cookie += 1
        head = protocol.REQUEST.pack(protocol.REQUEST_MAGIC, flags, command, self._cookie, offset, length)
        self.socket.sendall(head + data)
        return self._cookie

    def status(self) -> int:
        magic, error, _ = struct.unpack(">IIQ", self.receive(16))
        assert magic == protocol.SIMPLE_REPLY_MAGIC
        return int(error)

    def read(self, offset: int, length: int) -> bytes:
        self.request(protocol.Command.READ, offset, length)
        error = self.status()
        if error:
            raise OSError(error, str(error))
        return self.receive(length)

    def is_closed(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.socket.close()


@pytest.mark.parametrize(
    ("command", "offset", "length", "error"),
    [
        (protocol.Command.READ, SIZE, 512, protocol.Error.INVALID),
        (protocol.Command.READ, 2**64 - 1, 512, protocol.Error.INVALID),
        (protocol.Command.READ, 0, 0, protocol.Error.INVALID),
        (protocol.Command.READ, 0, 2**32 - 1, protocol.Error.OVERFLOW),
        (protocol.Command.TRIM, 0, 512, protocol.Error.PERM),
        (protocol.Command.WRITE_ZEROES, 0, 512, protocol.Error.PERM),
        (protocol.Command.FLUSH, 0, 0, protocol.Error.PERM),
        (protocol.Command.BLOCK_STATUS, 0, 512, protocol.Error.INVALID),
        (99, 0, 512, protocol.Error.INVALID),
    ],
)
def test_what_cannot_be_done_is_an_error_and_the_connection_goes_on(
    served: Content, path: Path, command: int, offset: int, length: int, error: int
) -> None:
    client = Client(path)
    client.choose_old("scsi-0-0")
    client.request(command, offset, length)
    assert client.status() == error
    assert client.read(0, 512) == served.content[:512]
    client.close()


def test_a_write_to_a_read_only_export_is_refused(served: Content, path: Path) -> None:
    client = Client(path)
    client.choose_old("scsi-0-0")
    client.request(protocol.Command.WRITE, 0, 512, data=bytes(512))
    assert client.status() == protocol.Error.PERM
    client.request(protocol.Command.WRITE, 0, 64 * MIB)
    assert client.is_closed()  # its data would have to be read to go on
    client.close()


def test_hostile_clients_cost_their_own_connection_only(served: Content, path: Path) -> None:
    hostile = []
    for index in range(8):
        client = Client(path)
        hostile.append(client)
        if index == 0:
            continue  # says nothing
        client.greet(flags=255 if index == 1 else 3)
        if index == 2:
            client.option(protocol.OptionKind.LIST, length=2**31)
        elif index == 3:
            client.socket.sendall(random.Random(3).randbytes(64))
        elif index == 4:
            for _ in range(1000):
                try:
                    client.option(77)
                except OSError:
                    break
        elif index == 5:
            client.option(protocol.OptionKind.GO, b"\xff\xff\xff\xff")
            assert client.answer()[0] == protocol.Reply.ERR_INVALID
        elif index == 6:
            client.option(protocol.OptionKind.EXPORT_NAME, b"\xff\xfe")
            assert client.is_closed()
        elif index == 7:
            client.option(protocol.OptionKind.STARTTLS)
            assert client.answer()[0] == protocol.Reply.ERR_UNSUP
    good = Client(path)
    good.choose_old("scsi-0-0")
    assert good.read(0, MIB) == served.content[:MIB]
    for index in (1, 2, 3):
        assert hostile[index].is_closed()
    for client in (*hostile, good):
        client.close()


def test_many_requests_at_once_are_all_answered(served: Content, path: Path) -> None:
    client = Client(path)
    client.choose_old("scsi-0-0")
    sent = {number + 1: number * 4096 for number in range(200)}

    def ask() -> None:
        for at in range(200):
            client.request(protocol.Command.READ, at * 4096, 4096)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(200):
        magic, error, cookie = struct.unpack(">IIQ", client.receive(16))
        assert (magic, error) == (protocol.SIMPLE_REPLY_MAGIC, 0)
        at = sent.pop(cookie)
        assert client.receive(4096) == served.content[at : at + 4096]
    assert not sent
    asking.join()
    client.close()


def test_a_client_that_does_not_read_answers_holds_up_nobody(served: Content, path: Path) -> None:
    idle, other = Client(path), Client(path)
    for client in (idle, other):
        client.choose_old("scsi-0-0")
    for _ in range(32):
        idle.request(protocol.Command.READ, 0, MIB)
    for number in range(100):
        assert other.read(number * 4096, 4096) == served.content[number * 4096 :][:4096]
    for client in (idle, other):
        client.close()


def test_room_is_given_in_the_order_of_those_who_ask() -> None:
    room, order = Room(2, 100), list[int]()
    room.enter(60)

    def ask(number: int, held: int) -> None:
        room.enter(held)
        order.append(number)

    large = threading.Thread(target=ask, args=(1, 50))
    large.start()
    wait_until(lambda: len(room._waiting) == 1)
    small = threading.Thread(target=ask, args=(2, 10))
    small.start()
    wait_until(lambda: len(room._waiting) == 2)
    assert not order  # the small one would fit
    room.leave(60)
    wait_until(lambda: sorted(order) == [1, 2])
    room.leave(50)
    room.leave(10)
    room.wait_empty()
    for thread in (large, small):
        thread.join()


def test_a_socket_that_exists_is_not_taken(path: Path, tmp_path: Path) -> None:
    path.write_text("something else")
    with pytest.raises(ConfigurationError, match="exists already"):
        unix_socket(path)
    assert path.read_text() == "something else"
    with pytest.raises(ConfigurationError):
        unix_socket(tmp_path / ("x" * 200))


def test_tls_needs_the_certificate_of_this_run_and_the_name(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "others").mkdir()
    disk = Content()
    tls = make_certificates(tmp_path / "ours", "127.0.0.1")
    make_certificates(tmp_path / "others", "127.0.0.1")
    assert {file.name for file in (tmp_path / "ours").iterdir()} == {CA_NAME, CLIENT_NAME, CLIENT_KEY_NAME}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in (tmp_path / "ours").iterdir())
    listening = tcp_socket("127.0.0.1", 0)
    port = listening.getsockname()[1]
    exports = {"secret": Export(name="secret", description="", disk=disk)}
    with Server(listening, exports, tls=tls, listed=False):
        there = f"://127.0.0.1:{port}/secret"
        good = f"nbds{there}?tls-certificates={tmp_path}/ours"
        done = run("nbdcopy", good, tmp_path / "copy")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "copy").read_bytes() == disk.content
        assert run("nbdinfo", f"nbds{there}?tls-certificates={tmp_path}/others").returncode != 0
        assert run("nbdinfo", f"nbd{there}").returncode != 0
        assert run("nbdinfo", f"nbds://127.0.0.1:{port}/?tls-certificates={tmp_path}/ours").returncode != 0
        listed = run("nbdinfo", "--list", f"nbds://127.0.0.1:{port}/?tls-certificates={tmp_path}/ours")
        assert "secret" not in listed.stdout


def test_a_client_that_never_chooses_is_disconnected(
    served: Content, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.2)
    client = Client(path)
    client.greet()
    client.socket.sendall(protocol.OPTION_MAGIC[:3])  # and never the rest
    assert client.is_closed()
    client.close()


def test_the_server_stops_while_a_client_is_within_tls(tmp_path: Path) -> None:
    tls = make_certificates(tmp_path, "127.0.0.1")
    listening = tcp_socket("127.0.0.1", 0)
    exports = {"secret": Export(name="secret", description="", disk=Content())}
    with (
        Server(listening, exports, tls=tls, listed=False),
        socket.create_connection(listening.getsockname()) as client,
    ):
        client.settimeout(20)
        client.sendall((3).to_bytes(4))
        client.sendall(protocol.OPTION_HEAD.pack(protocol.OPTION_MAGIC, protocol.OptionKind.STARTTLS, 0))
        with client.makefile("rb") as answers:
            assert len(answers.read(18 + 20)) == 18 + 20
        started = time.monotonic()
    # Far less than the time that a client has for its answer.
    assert time.monotonic() - started < PATIENCE_SECONDS / 2


def test_writes_go_to_an_overlay_that_all_connections_see(path: Path, tmp_path: Path) -> None:
    disk = Content()
    overlay = Overlay(disk)
    exports = {"w": Export(name="w", description="", disk=overlay, writable=overlay)}
    with Server(unix_socket(path), exports):
        pattern = ["write -P 7 100k 300k", "write -P 9 512 1k", "write -z 0 1k", "discard 20M 64k", "flush"]
        options = [part for command in pattern for part in ("-c", command)]
        done = run("qemu-io", "-f", "raw", *options, uri(path, "w"))
        assert done.returncode == 0, done.stderr + done.stdout
        expected = bytearray(disk.content)
        expected[100 * KIB : 400 * KIB] = bytes([7]) * 300 * KIB
        expected[512 : 512 + KIB] = bytes([9]) * KIB
        expected[0:KIB] = bytes(KIB)
        expected[20 * MIB : 20 * MIB + 64 * KIB] = bytes(64 * KIB)
        done = run("nbdcopy", uri(path, "w"), tmp_path / "copy")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "copy").read_bytes() == bytes(expected)
    assert disk.content == Content().content


@settings(deadline=None, max_examples=12)
@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 300_000), st.binary(min_size=1, max_size=3)))
)
def test_an_overlay_is_a_disk(writes: list[tuple[int, int, bytes]]) -> None:
    disk = Content()
    overlay, expected = Overlay(disk), bytearray(disk.content)
    for offset, length, pattern in writes:
        data = (pattern * length)[: min(length, SIZE - offset)]
        overlay.pwrite(offset, data)
        expected[offset : offset + len(data)] = data
    assert overlay.pread(0, SIZE) == bytes(expected)
    outside = bytearray(expected)
    for extent in overlay.extents():
        outside[extent.offset : extent.end] = bytes(extent.length)
    assert not any(outside)
    overlay.close()
