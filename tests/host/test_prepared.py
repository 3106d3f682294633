"""Requests that are built once for each command."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pypsrp.exceptions import WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.shell import WinRS
from pypsrp.wsman import WSMan

from hvpsbridge.host.psrp.client import WSManClient
from hvpsbridge.host.psrp.prepared import SendRequest

COMMAND = "5F4A2A3E-0000-4000-8000-000000000001"
FRAGMENT = bytes(range(256)) * 40
_ID = re.compile(rb"uuid:[0-9A-Fa-f-]{36}")
_FAULT = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><s:Fault><s:Reason><s:Text>'
    "too much</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>"
)


class Wire:
    """Takes messages instead of a host, and answers them."""

    endpoint = "http://hv01:5985/wsman"

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.relates_to: bytes | None = None
        self.error: Exception | None = None

    def send(self, message: bytes, **_: object) -> bytes:
        self.sent.append(message)
        if self.error is not None:
            raise self.error
        found = _ID.findall(message)
        return (
            b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a='
            b'"http://schemas.xmlsoap.org/ws/2004/08/addressing"><s:Header><a:RelatesTo>'
            + (self.relates_to or found[0])
            + b"</a:RelatesTo></s:Header><s:Body/></s:Envelope>"
        )


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def client(wire: Wire) -> WSManClient:
    wsman = WSMan("hv01", username="backup", password="x", auth="basic", ssl=False, encryption="never")
    wsman.transport = cast(Any, wire)
    shell = WinRS(wsman, id="SHELL")
    return cast(WSManClient, SimpleNamespace(wsman=wsman, pool=SimpleNamespace(shell=shell)))


def test_a_send_is_that_of_pypsrp_but_for_its_id(client: WSManClient, wire: Wire) -> None:
    client.pool.shell.send("stdin", FRAGMENT, command_id=COMMAND)
    request = SendRequest(client, COMMAND)
    request.send(FRAGMENT)
    request.send(FRAGMENT)
    theirs, ours, again = (_ID.sub(b"uuid:", message) for message in wire.sent)
    assert ours == theirs == again
    assert len({_ID.findall(message)[0] for message in wire.sent}) == 3


def test_a_reply_to_another_request_is_refused(client: WSManClient, wire: Wire) -> None:
    wire.relates_to = b"uuid:00000000-0000-0000-0000-000000000000"
    with pytest.raises(WinRMError, match="another request"):
        SendRequest(client, COMMAND).send(FRAGMENT)


def test_a_fault_is_raised_as_one(client: WSManClient, wire: Wire) -> None:
    wire.error = WinRMTransportError("http", 500, _FAULT)
    with pytest.raises(WSManFaultError, match="too much"):
        SendRequest(client, COMMAND).send(FRAGMENT)


def test_an_error_without_a_fault_is_raised_as_it_is(client: WSManClient, wire: Wire) -> None:
    wire.error = WinRMTransportError("http", 503, "unavailable")
    with pytest.raises(WinRMTransportError):
        SendRequest(client, COMMAND).send(FRAGMENT)
