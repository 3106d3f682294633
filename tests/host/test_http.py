"""HTTP replies are read whole however they are split; a timeout loses nothing; garbage is an error."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from hvpsbridge.host.psrp import http
from hvpsbridge.host.psrp.http import HttpBroken, HttpConnection, HttpReply
from tests.waiting import DEADLINE_SECONDS

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/soap+xml\r\n"


@pytest.fixture
def ends() -> Iterator[tuple[HttpConnection, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield HttpConnection(ours, DEADLINE_SECONDS), theirs


def feed(peer: socket.socket, data: bytes, step: int) -> threading.Thread:
    def run() -> None:
        for at in range(0, len(data), step):
            peer.sendall(data[at : at + step])
            if step < 100:
                time.sleep(0.0002)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def whole(exchange: HttpConnection) -> HttpReply:
    reply = exchange.receive(DEADLINE_SECONDS)
    assert reply is not None
    return reply


@pytest.mark.parametrize("step", [1, 7, 100_000_000])
@pytest.mark.parametrize("size", [0, 1, 300])
def test_a_reply_is_read_whole_however_it_is_cut(
    ends: tuple[HttpConnection, socket.socket], step: int, size: int
) -> None:
    exchange, peer = ends
    exchange.send(b"POST / HTTP/1.1\r\n", b"question")
    assert exchange.waiting
    sent = HEAD + b"content-length: %d\r\n\r\n" % size + b"x" * size
    thread = feed(peer, sent, step)
    reply = whole(exchange)
    thread.join()
    assert (reply.status, bytes(reply.body), reply.keeps_alive) == (200, b"x" * size, True)
    assert not exchange.waiting
    assert peer.recv(1000) == b"POST / HTTP/1.1\r\nContent-Length: 8\r\n\r\nquestion"


def test_a_large_body_arrives(ends: tuple[HttpConnection, socket.socket]) -> None:
    exchange, peer = ends
    body = bytes(range(256)) * 8192
    exchange.send(b"POST / HTTP/1.1\r\n", b"")
    thread = feed(peer, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body, 100_000)
    assert bytes(whole(exchange).body) == body
    thread.join()


def test_replies_of_any_size_follow_each_other(ends: tuple[HttpConnection, socket.socket]) -> None:
    exchange, peer = ends
    for size in (700_000, 3, 0, 700_001, 90_000):
        body = random.Random(size).randbytes(size)
        exchange.send(b"POST / HTTP/1.1\r\n", b"")
        thread = feed(peer, HEAD + b"Content-Length: %d\r\n\r\n" % size + body, 100_000)
        reply = whole(exchange)
        thread.join()
        assert (len(reply.body), bytes(reply.body)) == (size, body)
        assert b"HTTP/1.1" not in reply.body


@pytest.mark.parametrize("step", [1, 100_000])
def test_a_body_in_chunks_is_joined(ends: tuple[HttpConnection, socket.socket], step: int) -> None:
    exchange, peer = ends
    exchange.send(b"POST / HTTP/1.1\r\n", b"")
    chunks = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n"
    thread = feed(peer, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, step)
    assert bytes(whole(exchange).body) == b"hello world"
    thread.join()


def test_a_pause_gives_nothing_and_loses_nothing(ends: tuple[HttpConnection, socket.socket]) -> None:
    exchange, peer = ends
    exchange.send(b"POST / HTTP/1.1\r\n", b"")
    assert exchange.receive(0.05) is None
    assert exchange.waiting
    peer.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")
    assert bytes(whole(exchange).body) == b"ok"


def test_a_reply_that_never_comes_is_overdue() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        exchange = HttpConnection(ours, DEADLINE_SECONDS)
        exchange.send(b"POST / HTTP/1.1\r\n", b"")
        assert exchange.receive(0.05) is None
        exchange._sent_at -= DEADLINE_SECONDS
        with pytest.raises(TimeoutError):
            exchange.receive(0.05)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        HEAD + b"\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 5\r\n\r\nfour",
        HEAD + b"Content-Length: 2\r\n\r\nthree",
        HEAD + b"Content-Length: 99999999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 2000,
        HEAD + b"Content-Length: 5000001\r\n\r\n",
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\nContent-Length: 0\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_no_whole_reply_is_refused(ends: tuple[HttpConnection, socket.socket], sent: bytes) -> None:
    exchange, peer = ends
    exchange.send(b"POST / HTTP/1.1\r\n", b"")
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(HttpBroken):
        exchange.receive(DEADLINE_SECONDS)


def test_a_peer_that_will_close_says_so(ends: tuple[HttpConnection, socket.socket]) -> None:
    exchange, peer = ends
    exchange.send(b"POST / HTTP/1.1\r\n", b"")
    peer.sendall(b"HTTP/1.1 503 Busy\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n")
    reply = whole(exchange)
    assert (reply.status, reply.keeps_alive) == (503, False)


def test_a_reply_that_comes_too_slowly_is_given_up() -> None:
    ours, theirs = socket.socketpair()

    def dribble() -> None:
        with contextlib.suppress(OSError):
            for _ in range(10_000):
                theirs.sendall(b"X")
                time.sleep(0.001)

    with ours, theirs:
        exchange = HttpConnection(ours, 0.2)
        exchange.send(b"POST / HTTP/1.1\r\n", b"")
        thread = threading.Thread(target=dribble)
        thread.start()
        with pytest.raises(HttpBroken, match="too slowly"):
            exchange.receive(DEADLINE_SECONDS)
        ours.close()
        thread.join()


@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 4000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3d0900\r\n"],
    ids=["length", "chunked"],
)
def test_the_longest_reply_ends_within_the_time_of_an_undo(
    ends: tuple[HttpConnection, socket.socket], monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    """It cannot be interrupted, so a host that dribbles must not hold an undo past its deadline."""
    exchange, peer = HttpConnection(ends[0]._socket, 30.0), ends[1]
    exchange.send(b"POST / HTTP/1.1\r\n", b"")
    peer.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"X" * 1000)
    began = time.monotonic()
    # Once the reply has begun, each look at the clock is a minute later.
    monkeypatch.setattr(
        http, "time", SimpleNamespace(monotonic=itertools.count(began, 60).__next__, sleep=time.sleep)
    )
    received: list[int] = []
    receive = HttpConnection._receive_into

    def dribble(self: HttpConnection, view: memoryview) -> int:
        peer.sendall(b"X")
        received.append(1)
        return receive(self, view)

    monkeypatch.setattr(HttpConnection, "_receive_into", dribble)
    with pytest.raises(HttpBroken, match="too slowly"):
        exchange.receive(DEADLINE_SECONDS)
    assert len(received) < 6


def test_several_headers_of_one_name_are_joined(ends: tuple[HttpConnection, socket.socket]) -> None:
    exchange, peer = ends
    exchange.send(b"POST / HTTP/1.1\r\n", b"")
    schemes = b"WWW-Authenticate: Negotiate\r\nWWW-Authenticate: Kerberos\r\n"
    peer.sendall(b"HTTP/1.1 401 X\r\n" + schemes + b"Content-Length: 0\r\n\r\n")
    assert whole(exchange).headers[b"www-authenticate"] == b"Negotiate, Kerberos"
