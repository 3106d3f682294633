"""NTLM and Kerberos with encrypted messages for the canned host, as WinRM uses them over plain HTTP."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import spnego

from hvpsbridge.sim.wsman.auth import Denied

PROTOCOLS = {
    "ntlm": "application/HTTP-SPNEGO-session-encrypted",
    "kerberos": "application/HTTP-Kerberos-session-encrypted",
}
BOUNDARY = b"--Encrypted Boundary"
_OCTETS = b"\tContent-Type: application/octet-stream\r\n"


def user_file(path: Path, user: str, password: str) -> dict[str, str]:
    """Environment variables that tell the acceptor a user and password."""
    path.write_text(f"HV01:{user}:{password}\n")
    return {"NTLM_USER_FILE": str(path)}


class SealingAuthenticator:
    """Authenticates one connection by a scheme and encrypts its messages."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._context = spnego.server(protocol=scheme, options=spnego.NegotiateOptions.wrapping_winrm)
        self._user: str | None = None
        # Kerberos answers the client once more; NTLM is complete by then.
        self.header = ""

    def check(self, headers: Mapping[str, str]) -> str | Denied:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() not in (self._scheme, "negotiate"):
            return self._user or Denied((self._scheme,))
        answer = self._context.step(base64.b64decode(token))
        if not self._context.complete:
            return Denied((f"{scheme} {base64.b64encode(answer or b'').decode()}",))
        if answer:
            self.header = f"WWW-Authenticate: {scheme} {base64.b64encode(answer).decode()}\r\n"
        self._user = str(self._context.client_principal).rpartition("\\")[2]
        return self._user

    def open(self, content_type: str, body: bytes) -> bytes:
        assert content_type.startswith("multipart/encrypted"), "a message is not encrypted"
        encrypted = body[body.index(_OCTETS) + len(_OCTETS) : body.rindex(BOUNDARY)]
        (header_bytes,) = struct.unpack_from("<i", encrypted)
        plain: bytes = self._context.unwrap_winrm(
            encrypted[4 : 4 + header_bytes], encrypted[4 + header_bytes :]
        )
        length = re.search(rb"Length=(\d+)", body)
        assert length
        assert int(length[1]) == len(plain)
        return plain

    def seal(self, body: bytes) -> tuple[str, bytes]:
        header, data, padding = self._context.wrap_winrm(body)
        original = f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(body) + padding}"
        lines = [BOUNDARY, f"\tContent-Type: {PROTOCOLS[self._scheme]}".encode(), original.encode(), BOUNDARY]
        encrypted = b"\r\n".join(lines) + b"\r\n" + _OCTETS + struct.pack("<i", len(header)) + header + data
        kind = f'multipart/encrypted;protocol="{PROTOCOLS[self._scheme]}";boundary="Encrypted Boundary"'
        return kind, encrypted + BOUNDARY + b"--\r\n"
