"""Messages of a client on the connection that pypsrp opened, and what happens when it fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
from pypsrp.exceptions import WSManFaultError
from pypsrp.wsman import SelectorSet

from hvpsbridge.errors import SessionLost
from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.psrp import raw_connection
from hvpsbridge.host.psrp.client import WSManClient
from hvpsbridge.host.psrp.http import Body, HttpReply
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import PowerShellHost
from tests.host.conftest import PASSWORD, USER
from tests.host.test_session import run


@pytest.fixture(params=["basic", "ntlm"])
def auth(request: pytest.FixtureRequest) -> Authentication:
    scheme: Authentication = request.param
    return scheme


@pytest.fixture
def session(pwsh: Path, connection: HostConnection, auth: Authentication) -> Iterator[Session]:
    with PowerShellHost(users={USER: Secret(PASSWORD)}, auth=(auth,)) as host:
        opened = Session.open(replace(connection, address=host.url, auth=auth))
        yield opened
        opened.close()


@pytest.fixture
def by_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each message that goes through requests."""
    made: list[str] = []
    send = requests.Session.send

    def counting(self: requests.Session, request: requests.PreparedRequest, **options: object) -> object:
        made.append(str(request.method))
        return send(self, request, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(requests.Session, "send", counting)
    return made


def works(session: Session, value: int) -> None:
    assert run(session, "param([int] $N) [pscustomobject]@{ N = $N }", N=value) == [{"N": value}]


def raw_of(client: WSManClient) -> raw_connection.RawConnection:
    raw = client._raw
    assert raw is not None
    return raw


def test_only_the_first_message_of_a_connection_takes_requests(
    session: Session, by_requests: list[str]
) -> None:
    works(session, 1)
    by_requests.clear()
    for value in range(5):
        works(session, value)
    assert by_requests == []
    assert raw_of(session.client()).replies > 10


def test_a_host_that_hung_up_meanwhile_gets_a_new_connection(
    session: Session, by_requests: list[str]
) -> None:
    works(session, 1)
    raw_of(session.client())._connection.sock.shutdown(socket.SHUT_RDWR)
    by_requests.clear()
    works(session, 2)
    assert len(by_requests) in (1, 2)  # sealed messages need one that only authenticates
    by_requests.clear()
    works(session, 3)
    assert by_requests == []


def test_a_connection_that_ends_within_an_exchange_is_a_lost_session_and_the_client_goes_on(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    works(session, 1)
    raw = raw_of(session.client())
    send = raw.send

    def cut(text: bytes) -> None:
        send(text)
        raw._connection.sock.close()

    monkeypatch.setattr(raw, "send", cut)
    with pytest.raises(SessionLost):
        works(session, 2)
    works(session, 3)


def test_a_message_that_went_out_in_part_is_the_last_on_its_connection(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    works(session, 1)
    raw = raw_of(session.client())

    def stuck(text: bytes) -> None:
        raw._connection.sock.sendall(b"POST /wsman HTTP/1.1\r\nContent-")
        raise TimeoutError("timed out")

    monkeypatch.setattr(raw, "send", stuck)
    with pytest.raises(SessionLost):
        works(session, 2)
    works(session, 3)
    assert raw_of(session.client()) is not raw


def test_a_fault_is_what_pypsrp_makes_of_it(session: Session) -> None:
    works(session, 1)
    wsman = session.client().wsman
    selectors = SelectorSet()
    selectors.add_option("ShellId", "00000000-0000-0000-0000-000000000000")
    with pytest.raises(WSManFaultError) as caught:
        wsman.delete("http://schemas.microsoft.com/powershell/Microsoft.PowerShell", selector_set=selectors)
    assert caught.value.code == 0x8033805B
    assert session.end_shell("00000000-0000-0000-0000-000000000000") is False
    works(session, 2)


@pytest.mark.parametrize("times", ["once", "always"])
def test_a_host_that_asks_who_we_are_is_answered_by_pypsrp(
    session: Session, monkeypatch: pytest.MonkeyPatch, by_requests: list[str], times: str
) -> None:
    works(session, 1)
    receive = raw_connection.RawConnection.receive
    refused: list[int] = []

    def refusing(self: raw_connection.RawConnection, timeout_seconds: float) -> HttpReply | None:
        given = receive(self, timeout_seconds)
        if given is None or (times == "once" and refused):
            return given
        refused.append(self.replies)
        return HttpReply(401, {}, Body(b""), body_bytes=0, keeps_alive=True)

    # Listing shells may be repeated: messages that were answered are sent again.
    monkeypatch.setattr(raw_connection.RawConnection, "receive", refusing)
    client = session.client()
    for _ in range(3):
        assert session.shells()
    by_requests.clear()
    for _ in range(3):
        assert session.shells()
    if times == "once":
        assert by_requests == []
        raw_of(client)
    else:
        # No longer used after the first message on a new connection was refused.
        assert len(refused) == 2
        assert len(by_requests) >= 3
        assert client._raw is None


def test_a_host_that_does_not_answer_in_time_is_a_lost_session(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    works(session, 1)
    monkeypatch.setattr(raw_of(session.client()), "receive", lambda timeout_seconds: None)
    with pytest.raises(SessionLost, match="no reply in time"):
        works(session, 2)


def test_closing_twice_and_after_use_raises_nothing(session: Session) -> None:
    works(session, 1)
    client = session.new_client()
    session.drop_client(client)
    session.drop_client(client)
    works(session, 2)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("auth", ["ntlm"], indirect=True)
def test_an_answer_in_clear_is_not_read_where_messages_are_encrypted(
    session: Session, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    works(session, 1)
    raw = raw_of(session.client())
    fault = b"<a>somebody on the way</a>"

    def in_clear(timeout_seconds: float) -> HttpReply:
        raw._http.waiting = False
        headers = {b"content-type": b"application/soap+xml"}
        return HttpReply(status, headers, Body(fault), body_bytes=len(fault), keeps_alive=True)

    monkeypatch.setattr(raw._http, "receive", in_clear)
    with pytest.raises(SessionLost, match="not encrypted" if status == 200 else "HTTP 500"):
        works(session, 2)
    monkeypatch.undo()
    works(session, 3)
