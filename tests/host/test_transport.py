"""Before a host has proved who it is, it gets one POST at a time, and its answers are bounded."""

from __future__ import annotations

import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from hvpsbridge.errors import HostError, HostRefused, HostUnreachable, HvpsError
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.psrp.safe_xml import UnusableReply, check_clixml, check_xml, fault_text
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.secret import Secret
from hvpsbridge.units import MIB

Answer = Callable[[bytes], Iterator[bytes]]


class Impostor:
    """Answers every request on a loopback port; ``requests`` are their first lines."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while request := client.recv(65536):
                    self.requests.append(request.split(b"\r\n")[0])
                    for part in self._answer(request):
                        client.sendall(part)
            except OSError:
                return

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def impostor() -> Iterator[Callable[[Answer], Impostor]]:
    made: list[Impostor] = []

    def start(answer: Answer) -> Impostor:
        made.append(Impostor(answer))
        return made[-1]

    yield start
    for each in made:
        each.close()


def connect(url: str, **changes: object) -> None:
    known = HostConnection(
        name="hv",
        address=url,
        user="u",
        password=Secret("p"),
        auth="ntlm",  # type: ignore[arg-type]
        operation_timeout=1,
        read_timeout=2,
    )
    Session.open(replace(known, **changes))  # type: ignore[arg-type]


def failure(url: str) -> HvpsError:
    with pytest.raises(HostError) as caught:
        connect(url)
    return caught.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(impostor: Callable[[Answer], Impostor], status: int) -> None:
    elsewhere = impostor(lambda request: iter([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]))

    def redirect(request: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 %d X\r\nLocation: %s/x\r\nContent-Length: 0\r\n\r\n" % (
            status,
            elsewhere.url.encode(),
        )

    host = impostor(redirect)
    error = failure(host.url)
    assert isinstance(error, HostUnreachable)
    assert f"HTTP {status}" in str(error)
    assert elsewhere.requests == []
    assert all(line.startswith(b"POST /wsman ") for line in host.requests)


def compressed(request: bytes) -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(16 * MIB)) for _ in range(16)) + packer.flush()
    yield b"HTTP/1.1 401 X\r\nWWW-Authenticate: Negotiate\r\nContent-Encoding: gzip\r\n"
    yield b"Content-Length: %d\r\n\r\n" % len(bomb) + bomb


def endless_chunks(request: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 401 X\r\nWWW-Authenticate: Negotiate\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"10000\r\n" + bytes(65536) + b"\r\n"


def endless_chunk_line(request: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 401 X\r\nWWW-Authenticate: Negotiate\r\nTransfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"0" * 65536


def endless_headers(request: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 401 X\r\n"
    while True:
        yield b"X: y\r\n" * 1000


def a_length_without_end(request: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 401 X\r\nContent-Length: 99999999\r\n\r\n"
    while True:
        yield bytes(65536)


def one_byte_a_second(request: bytes) -> Iterator[bytes]:
    yield b"HTTP/1.1 401 X\r\nX: "
    while True:
        time.sleep(0.5)
        yield b"y"


@pytest.mark.parametrize(
    "answer",
    [
        compressed,
        endless_chunks,
        endless_chunk_line,
        endless_headers,
        a_length_without_end,
        one_byte_a_second,
    ],
)
def test_nobody_fills_memory_or_time_before_authentication(
    impostor: Callable[[Answer], Impostor], answer: Answer
) -> None:
    host = impostor(answer)
    tracemalloc.start()
    started = time.monotonic()
    try:
        error = failure(host.url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, HostUnreachable)
    assert peak < 40 * MIB
    assert time.monotonic() - started < 20


def test_a_host_that_asks_for_authentication_for_ever_is_left(
    impostor: Callable[[Answer], Impostor],
) -> None:
    def ask(request: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 401 X\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"

    host = impostor(ask)
    assert isinstance(failure(host.url), HostRefused)
    assert len(host.requests) < 30


@pytest.mark.parametrize("header", [b"NTLM !!!", b"Negotiate AAAA", b"Kerberos AAAA", b"Basic x", b""])
def test_a_token_of_garbage_is_an_error_of_that_host(
    impostor: Callable[[Answer], Impostor], header: bytes
) -> None:
    def answer(request: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 401 X\r\nWWW-Authenticate: " + header + b"\r\nContent-Length: 0\r\n\r\n"

    failure(impostor(answer).url)


def test_a_host_that_asks_for_no_login_is_named_as_such(impostor: Callable[[Answer], Impostor]) -> None:
    """Another service on the port, for example; the error was the name of the host alone."""
    host = impostor(lambda request: [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    with pytest.raises(HostUnreachable, match="it answered without a login by ntlm"):
        connect(host.url)


def test_neither_netrc_nor_a_proxy_of_the_environment_is_used(
    impostor: Callable[[Answer], Impostor], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = impostor(lambda request: iter([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]))
    host = impostor(lambda request: iter([b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"]))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    failure(host.url)
    assert proxy.requests == []
    assert host.requests


@pytest.mark.parametrize(
    "document",
    [
        b"<a>" * 65,
        b"<a>" + b"<b/>" * 100_000 + b"</a>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "<!DOCTYPE a><a/>".encode("utf-16"),
        "<a/>".encode("utf-16-le"),
        # A parser of text ignores these, and one of bytes does not.
        b'<?xml version="1.0" encoding="utf-16"?>' + b"<a>" * 65,
        b'<?xml version="1.0" encoding="cp037"?>' + b"<a>" * 65,
        b'<?xml version="1.0" encoding="punycode"?><a/>',
        b'<?xml version="1.0" encoding="nothing"?><a/>',
    ],
)
def test_xml_that_costs_more_than_its_bytes_is_refused(document: bytes) -> None:
    with pytest.raises(UnusableReply):
        check_xml(document)


@pytest.mark.parametrize(
    "document",
    [b"", b"no XML", b"<a>" * 60, b"<a><b/></a>", b'<?xml version="1.0" encoding="UTF-8"?><a/>', b"<a>\xff"],
)
def test_other_xml_is_left_to_the_parser(document: bytes) -> None:
    check_xml(document)


def test_a_fault_is_checked_as_it_is_parsed() -> None:
    assert fault_text(b"<a>\xff</a>") == "<a>\ufffd</a>"
    # Without the letter that is replaced, the rest would be XML to the parser only.
    with pytest.raises(UnusableReply):
        fault_text(b"<a>\xff" + b"<a>" * 65)


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b'<?xml version="1.0" encoding="utf-16"?>'])
def test_a_message_is_checked_as_pypsrp_parses_it(before: bytes) -> None:
    with pytest.raises(ValueError, match="reply"):
        check_clixml(before + b"<Obj>" * 40 + b"</Obj>" * 40)
