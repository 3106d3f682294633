"""A WSMan host that answers every Receive with prepared bytes, in a separate process.

It exists to measure clients: it does as little as a host can, and gives every client the same bytes. Run
as a program it prints one JSON line with its port and serves until its standard input closes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks._sealing import SealingAuthenticator, user_file
from hvpsbridge.formats.extents import Extent
from hvpsbridge.formats.wire import encode_block
from hvpsbridge.receiver.settings import BLOCK_BYTES, WINDOW_BYTES
from hvpsbridge.units import MIB
from tests.host.replies import OUTPUT, STATE, block_clixml, fragments, message, reply, state_clixml
from tests.host.test_session import self_signed

USER, PASSWORD = "backup", "backup"
RELATES = "uuid:" + "A" * 8 + "-" + "-".join(["A" * 4] * 3) + "-" + "A" * 12
# Fragments of 32 KiB per reply: 4 in recordings of Windows; 11 fill the default envelope of 500 KB.
SHAPES = {"windows": 4, "full": 11}

_SESSION_CAPABILITY, _POOL_STATE = 0x00010002, 0x00021005
_CAPABILITY = (
    b'<Obj RefId="0"><MS><Version N="protocolversion">2.3</Version><Version N="PSVersion">2.0</Version>'
    b'<Version N="SerializationVersion">1.1.0.1</Version></MS></Obj>'
)
_OPENED = b'<Obj RefId="0"><MS><I32 N="RunspaceState">2</I32></MS></Obj>'
_ENVELOPE = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    ' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"'
    ' xmlns:x="http://schemas.xmlsoap.org/ws/2004/09/transfer"'
    ' xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell">'
    "<s:Header><a:RelatesTo>{relates}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
)
_CREATED = (
    '<x:ResourceCreated><a:ReferenceParameters><w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector>'
    "</w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>"
)


def blocks(
    total_bytes: int = 8 * MIB, block_bytes: int = BLOCK_BYTES, window_bytes: int | None = None
) -> list[bytes]:
    """Blocks of random bytes as a reader would send them, with correct digests.

    With ``window_bytes`` they answer consecutive requests of that size; without, one endless request.
    """
    chance = random.Random(1)
    per_request = sys.maxsize if window_bytes is None else window_bytes // block_bytes
    return [
        encode_block(
            n // per_request,
            n,
            [(Extent(n * block_bytes, block_bytes), chance.randbytes(block_bytes))],
            last=(n + 1) % per_request == 0,
        )
        for n in range(total_bytes // block_bytes)
    ]


def replies(shape: str) -> list[bytes]:
    """Replies with blocks of the default size.

    ``disk32`` is a disk of 32 MiB as a pump requests it, ``blocks32`` the same with one reply per block,
    ``fetch64`` a file as ``Client.fetch`` expects it.
    """
    if shape.startswith("fetch"):
        content = random.Random(2).randbytes(int(shape.removeprefix("fetch")) * MIB)
        parts = [
            b"<S>" + base64.b64encode(content) + b"</S>",
            b"<S>" + hashlib.sha1(content).hexdigest().encode() + b"</S>",
        ]
        messages = [message(OUTPUT, part) for part in parts] + [message(STATE, state_clixml(4))]
        per_reply = SHAPES["full"]
    elif shape.startswith(("disk", "blocks")):
        size = int(shape.removeprefix("disk").removeprefix("blocks")) * MIB
        messages = [message(OUTPUT, block_clixml(block)) for block in blocks(size, window_bytes=WINDOW_BYTES)]
        if shape.startswith("blocks"):
            return [
                reply(list(fragments(n, data)), RELATES, done=False) for n, data in enumerate(messages, 1)
            ]
        per_reply = SHAPES["full"]
    else:
        messages = [message(OUTPUT, block_clixml(block)) for block in blocks()]
        per_reply = SHAPES[shape]
    cut = [piece for number, data in enumerate(messages, 1) for piece in fragments(number, data)]
    groups = [cut[at : at + per_reply] for at in range(0, len(cut), per_reply)]
    ends = shape.startswith("fetch")
    return [reply(group, RELATES, done=ends and group is groups[-1]) for group in groups]


class CannedHost:
    """The server; one thread per connection."""

    def __init__(self, shape: str, delay: float, tls: ssl.SSLContext | None, scheme: str) -> None:
        self._replies = [(*body.split(RELATES.encode(), 1),) for body in replies(shape)]
        self._delay = delay
        self._tls = tls
        self._scheme = scheme
        self._positions: dict[bytes, int] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            accepted, _ = self._listener.accept()
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            sealing = SealingAuthenticator(self._scheme) if self._scheme else None
            Connection(sock, sealing, self._answer).serve()
        except OSError:
            sock.close()

    def _answer(self, request: bytes) -> list[bytes]:
        relates = re.search(rb"MessageID>(uuid:[0-9A-Fa-f-]+)<", request)
        assert relates
        name = relates[1].decode()
        if request.startswith(b"GET "):
            return [b"".join(self._replies[0])]
        if b"shell/Receive<" in request:
            command = re.search(rb'CommandId="([0-9A-Fa-f-]+)"', request)
            if command is None:
                handshake = [message(_SESSION_CAPABILITY, _CAPABILITY), message(_POOL_STATE, _OPENED)]
                cut = [piece for n, data in enumerate(handshake, 1) for piece in fragments(n, data)]
                return [reply(cut, name)]
            position = self._positions.get(command[1], 0)
            self._positions[command[1]] = position + 1
            if self._delay:
                time.sleep(self._delay)
            before, after = self._replies[position % len(self._replies)]
            return [before, relates[1], after]
        body = ""
        if b"transfer/Create<" in request:
            shell = re.search(rb'ShellId="([0-9A-Fa-f-]+)"', request)
            assert shell
            body = _CREATED.format(shell=shell[1].decode())
        elif b"shell/Command<" in request:
            command = re.search(rb'CommandId="([0-9A-Fa-f-]+)"', request)
            assert command
            name_of = command[1].decode()
            body = f"<rsp:CommandResponse><rsp:CommandId>{name_of}</rsp:CommandId></rsp:CommandResponse>"
        return [_ENVELOPE.format(relates=name, body=body).encode()]


class Connection:
    """HTTP/1.1 with lengths on one socket; a GET returns the bytes of one reply."""

    def __init__(
        self,
        sock: socket.socket,
        sealing: SealingAuthenticator | None,
        answer: Callable[[bytes], list[bytes]],
    ) -> None:
        self._socket = sock
        self._sealing = sealing
        self._answer = answer
        self._buffer = bytearray()

    def serve(self) -> None:
        while True:
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                if not self._fill():
                    return
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            length = int(found[1]) if found else 0
            while len(self._buffer) < length:
                if not self._fill():
                    return
            body = bytes(self._buffer[:length])
            del self._buffer[:length]
            self._exchange(head, body)

    def _fill(self) -> bool:
        data = self._socket.recv(1 << 18)
        self._buffer += data
        return bool(data)

    def _exchange(self, head: bytes, body: bytes) -> None:
        kind = "application/soap+xml;charset=UTF-8"
        if head.startswith(b"GET "):
            self._send("200 OK", kind, self._answer(b"GET MessageID>uuid:0<"))
            return
        if self._sealing is not None:
            token = re.search(rb"(?i)\r\nauthorization: *([^\r]+)", head)
            user = self._sealing.check({"authorization": token[1].decode()} if token else {})
            if not isinstance(user, str):
                self._send("401 Unauthorized", kind, [], f"WWW-Authenticate: {user.challenges[0]}\r\n")
                return
            if not body:
                self._send("200 OK", kind, [], self._sealing.header)
                return
            content_type = re.search(rb"(?i)\r\ncontent-type: *([^\r]+)", head)
            assert content_type
            opened = self._sealing.open(content_type[1].decode(), body)
            kind, encrypted = self._sealing.seal(b"".join(self._answer(opened)))
            self._send("200 OK", kind, [encrypted])
            return
        self._send("200 OK", kind, self._answer(body))

    def _send(self, status: str, kind: str, parts: list[bytes], extra: str = "") -> None:
        length = sum(map(len, parts))
        head = f"HTTP/1.1 {status}\r\n{extra}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        self._socket.sendall(b"".join([head.encode(), *parts]))


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="full")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--scheme", choices=("ntlm", "kerberos"), default="", help="encrypt messages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        context, ready = None, {"ca": None}
        if options.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self_signed(folder))
            ready["ca"] = str(folder / "ca.pem")
        if options.scheme == "ntlm":
            os.environ.update(user_file(folder / "users", USER, PASSWORD))
        # Tickets are for names; the realm of the benchmark has this one.
        server = "localhost" if options.scheme == "kerberos" else "127.0.0.1"
        host = CannedHost(options.shape, options.delay_ms / 1000, context, options.scheme)
        line: dict[str, Any] = {
            "url": f"{'https' if options.tls else 'http'}://{server}:{host.port}",
            "payload_per_reply": _payload_per_reply(options.shape),
            **ready,
        }
        print(json.dumps(line), flush=True)
        sys.stdin.read()


def _payload_per_reply(shape: str) -> float:
    if shape.startswith(("fetch", "disk", "blocks")):
        return 0.0
    made = blocks()
    return sum(map(len, made)) / len(replies(shape))


if __name__ == "__main__":
    main()
