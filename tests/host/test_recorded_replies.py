"""The client reads what real hosts were recorded to send: every layout of ``windows/``, over HTTP."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from hvpsbridge.errors import (
    HostRefused,
    HostUnreachable,
    OperationFailed,
    ScriptsRefused,
    SessionLost,
    VmNotFound,
)
from hvpsbridge.host.psrp.errors import is_operation_timeout
from hvpsbridge.host.psrp.http import Body
from hvpsbridge.host.psrp.replies import Assembler, Message, ends_command, read_reply
from hvpsbridge.host.psrp.session import Session
from tests.connections import basic
from tests.host.layouts import FOLDER, filled, fragments, message, recorded, streams
from tests.host.replies import block_clixml

OUTPUT, ERROR, STATE = 0x00041004, 0x00041005, 0x00041006
NOISE = {
    "clixml_progress": 0x00041010,
    "clixml_debug": 0x00041007,
    "clixml_verbose": 0x00041008,
    "clixml_warning": 0x00041009,
    "clixml_information": 0x00041011,
    "clixml_host_call": 0x00041100,
}


@dataclass
class Windows:
    """Answers with recorded layouts, on one connection at a time or several.

    Attributes:
        answers: for commands, in order: layout and messages, each a type and CLIXML. A fault is sent with
            HTTP status 500. When they are used up, the command has nothing to send.
        create: layout of the reply to Create.
        actions: last words of the actions that were asked for.
    """

    answers: deque[tuple[str, list[tuple[int, str]]]] = field(default_factory=deque)
    create: str = "create"
    opening: str = "clixml_opened"
    listing: str = "enumerate_shells"
    actions: list[str] = field(default_factory=list)
    _number: int = 1

    def __post_init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            reader = client.makefile("rb")
            while reader.readline():
                length = 0
                while (line := reader.readline().strip().lower()) != b"":
                    name, _, value = line.partition(b":")
                    length = int(value) if name == b"content-length" else length
                reply = self._reply(reader.read(length).decode())
                status = b"500 " if b"<s:Fault>" in reply else b"200 "
                client.sendall(
                    b"HTTP/1.1 " + status + b"\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n"
                    b"Server: Microsoft-HTTPAPI/2.0\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(reply) + reply
                )

    def _reply(self, request: str) -> bytes:
        def found(pattern: str) -> str:
            match = re.search(pattern, request)
            return match[1] if match else ""

        action = found("Action[^>]*>[^<]*/([A-Za-z]+)<")
        self.actions.append(action)
        shell = found('Name="ShellId">([^<]+)') or found('ShellId="([^"]+)')
        command = found('CommandId="([^"]+)')
        layout, messages = self._next(action, command)
        cut = [
            part
            for kind, clixml in messages
            for part in self._fragments(message(kind, clixml, shell, command))
        ]
        return filled(
            layout,
            streams=streams(cut, command),
            message=found("MessageID>([^<]+)"),
            to=found(":To>([^<]+)"),
            shell=shell,
            command=command,
        )

    def _fragments(self, whole: bytes) -> list[bytes]:
        self._number += 1
        return fragments(self._number, whole)

    def _next(self, action: str, command: str) -> tuple[str, list[tuple[int, str]]]:
        if action == "Receive" and command:
            return self.answers.popleft() if self.answers else ("fault_timeout", [])
        if action == "Receive" and self._number == 1:
            kinds = ((0x00010002, "clixml_capability"), (0x00021009, "clixml_private_data"))
            return "receive", [(kind, recorded(name)) for kind, name in kinds]
        if action == "Receive":
            return "receive", [(0x00021005, recorded(self.opening))]
        return {"Create": self.create, "Enumerate": self.listing}.get(action, action.lower()), []


@pytest.fixture
def windows() -> Iterator[Windows]:
    host = Windows()
    yield host
    host.close()


def opened(host: Windows) -> Session:
    return Session.open(basic(host.url, password="p", operation_timeout=1, read_timeout=5))


def run(host: Windows) -> list[object]:
    session = opened(host)
    try:
        return [dict(item.properties) for item in session.run("Get-HvpsThing", "text", {}, 20)]
    finally:
        session.close()


def output(name: str) -> tuple[int, str]:
    return OUTPUT, recorded(name)


DONE = ("receive_done", [(STATE, recorded("clixml_completed"))])


def test_a_session_is_opened_used_and_closed(windows: Windows) -> None:
    windows.answers += [
        ("receive", [(kind, recorded(name)) for name, kind in NOISE.items()]),
        ("receive_nothing", []),
        ("fault_timeout", []),
        ("receive_pending", [output("clixml_object")]),
        ("receive_running", [output("clixml_live_object")]),
        DONE,
    ]
    made, live = run(windows)
    assert isinstance(made, dict)
    assert made["Name"] == "a_x000A_b\r\nc \U0001f3b5 _x"
    assert (made["Size"], made["On"], made["Nothing"]) == (2**64 - 1, True, None)
    assert made["Time"] == "2026-01-02T03:04:05.0600708+01:00"
    assert (made["Names"], made["None"], made["Data"]) == (["one", "two"], [], b"\x00\x01\x02")
    assert isinstance(live, dict)
    assert live["ServicesDependedOn"] == ["RPCSS", "WINMGMT"]
    assert windows.actions[:4] == ["Create", "Receive", "Receive", "Command"]
    assert windows.actions[-1] == "Delete"


def test_a_reply_to_create_may_lack_the_shell(windows: Windows) -> None:
    windows.create = "create_without_shell"
    windows.answers += [DONE]
    assert run(windows) == []


@pytest.mark.parametrize(
    ("kind", "name"), [(ERROR, "clixml_error"), (STATE, "clixml_failed")], ids=["stream", "state"]
)
def test_an_error_record_is_read_from_either_place(windows: Windows, kind: int, name: str) -> None:
    windows.answers += [("receive", [(kind, recorded(name))]), DONE]
    with pytest.raises(VmNotFound) as caught:
        run(windows)
    error = caught.value
    assert (error.error_id, error.category, error.native) == (
        "Hvps.VmNotFound",
        "ObjectNotFound",
        0x80041002,
    )
    assert error.message == "first line second line"


def test_an_error_whose_id_is_its_text_is_shown_in_one_line(windows: Windows) -> None:
    windows.answers += [("receive_done", [(STATE, recorded("clixml_failed_text_as_id"))])]
    with pytest.raises(OperationFailed) as caught:
        run(windows)
    assert "\n" not in str(caught.value)
    assert caught.value.category == "OperationStopped"


def test_an_endpoint_without_a_language_is_named_as_such(windows: Windows) -> None:
    windows.answers += [("receive_done", [(STATE, recorded("clixml_scripts_not_allowed"))])]
    with pytest.raises(ScriptsRefused, match="no language here"):
        run(windows)


def test_a_secure_string_stays_encrypted(windows: Windows) -> None:
    windows.answers += [("receive", [output("clixml_secure_string")]), DONE]
    assert run(windows) == [{}]


@pytest.mark.parametrize(
    ("layout", "says"),
    [
        ("fault_no_shell", "WSMan fault 0x8033805B No such shell."),
        ("fault_no_command", "WSMan fault 0x8033805B No such command."),
        ("fault_bad_header", "WSMan fault 0x8033800F A header is wrong."),
        ("fault_bad_parameter", "WSMan fault 0x00000057 A parameter is wrong."),
        ("fault_internal", "WSMan fault 0x80070002 A file was not found."),
    ],
)
def test_a_fault_ends_a_script_and_is_shown(windows: Windows, layout: str, says: str) -> None:
    windows.answers += [(layout, [])]
    with pytest.raises(SessionLost, match=re.escape(says)):
        run(windows)


@pytest.mark.parametrize("layout", ["fault_internal", "fault_bad_header", "fault_bad_parameter"])
def test_a_fault_instead_of_a_shell_is_a_refusal(windows: Windows, layout: str) -> None:
    windows.create = layout
    with pytest.raises((HostRefused, HostUnreachable), match="WSMan fault 0x"):
        opened(windows)


def test_shells_are_listed_and_there_may_be_none(windows: Windows) -> None:
    session = opened(windows)
    (shell,) = session.shells()
    assert (shell.owner, shell.idle_seconds) == (r"HV01\backup", 62)
    windows.listing = "enumerate_none"
    assert session.shells() == ()
    session.close()


def test_blocks_are_read_from_replies_of_four_fragments() -> None:
    content = bytes(range(256)) * 1024
    small = fragments(4, message(NOISE["clixml_progress"], recorded("clixml_progress"), *IDS))
    large = fragments(5, message(OUTPUT, block_clixml(content).decode(), *IDS))
    assert len(large) == 11
    assert {len(one) for one in large[:-1]} == {32768}
    ending = fragments(6, message(STATE, recorded("clixml_completed"), *IDS))
    replies = [
        ("receive", [*small, *large[:4]]),
        ("receive", large[4:8]),
        ("receive_done", [*large[8:], *ending]),
    ]
    assembler = Assembler()
    read = []
    for name, parts in replies:
        text = filled(name, streams=streams(parts, "6BE0"), message="uuid:A", command="6BE0")
        read += assembler.read(Body(text))
        assert ends_command(Body(text), b"uuid:A") is (name == "receive_done")
    assert [item for item in read if isinstance(item, bytes)] == [content]
    assert sum(isinstance(item, Message) for item in read) == 2


IDS = ("6be0a50f-0000-0000-0000-000000000001", "6be0a50f-0000-0000-0000-000000000002")


def test_a_reply_without_anything_holds_nothing() -> None:
    assert read_reply(Body(filled("receive_nothing", message="uuid:A"))) == []
    assert is_operation_timeout(filled("fault_timeout", message="uuid:A"))


def test_every_layout_says_which_recording_it_is_from() -> None:
    for path in FOLDER.glob("*.xml"):
        first = path.read_text().partition("\n")[0]
        assert re.fullmatch(r"<!-- layout: \S+/\S+ [0-9a-f]{7}, \S+\.yml -->", first), path.name
