"""NTLM with message sealing for the canned host, as WinRM speaks it over plain HTTP."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import spnego

from hvpsbridge.sim.wsman.auth import Denied

PROTOCOL = "application/HTTP-SPNEGO-session-encrypted"
BOUNDARY = b"--Encrypted Boundary"
_OCTETS = b"\tContent-Type: application/octet-stream\r\n"


def user_file(path: Path, user: str, password: str) -> dict[str, str]:
    """Environment that makes ``user`` known to the acceptor."""
    path.write_text(f"HV01:{user}:{password}\n")
    return {"NTLM_USER_FILE": str(path)}


class NtlmAuthenticator:
    """Authenticates one connection by NTLM and seals its messages."""

    def __init__(self) -> None:
        self._context = spnego.server(protocol="ntlm", options=spnego.NegotiateOptions.wrapping_winrm)
        self._user: str | None = None

    def check(self, headers: Mapping[str, str]) -> str | Denied:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("ntlm", "negotiate"):
            return self._user or Denied(("NTLM",))
        answer = self._context.step(base64.b64decode(token))
        if not self._context.complete:
            return Denied((f"{scheme} {base64.b64encode(answer or b'').decode()}",))
        self._user = str(self._context.client_principal).rpartition("\\")[2]
        return self._user

    def open(self, content_type: str, body: bytes) -> bytes:
        assert content_type.startswith("multipart/encrypted"), "a message that is not sealed"
        sealed = body[body.index(_OCTETS) + len(_OCTETS) : body.rindex(BOUNDARY)]
        (header_bytes,) = struct.unpack_from("<i", sealed)
        plain: bytes = self._context.unwrap_winrm(sealed[4 : 4 + header_bytes], sealed[4 + header_bytes :])
        length = re.search(rb"Length=(\d+)", body)
        assert length
        assert int(length[1]) == len(plain)
        return plain

    def seal(self, body: bytes) -> tuple[str, bytes]:
        header, data, padding = self._context.wrap_winrm(body)
        original = f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(body) + padding}"
        lines = [BOUNDARY, f"\tContent-Type: {PROTOCOL}".encode(), original.encode(), BOUNDARY]
        sealed = b"\r\n".join(lines) + b"\r\n" + _OCTETS + struct.pack("<i", len(header)) + header + data
        kind = f'multipart/encrypted;protocol="{PROTOCOL}";boundary="Encrypted Boundary"'
        return kind, sealed + BOUNDARY + b"--\r\n"
