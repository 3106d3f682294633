"""NTLM under ``Negotiate``, with messages sealed as WinRM seals them on plain HTTP (MS-WSMV 2.2.9.1).

The simulator's door to pyspnego. A security context belongs to a connection: once established, requests
on it need no further ``Authorization``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock

import spnego
from spnego.exceptions import SpnegoError

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import Secret
from hvpsbridge.sim.wsman.auth import SOAP_TYPE, Allowed, Denied, Unreadable
from hvpsbridge.sim.wsman.envelope import Parts

_BOUNDARY = "Encrypted Boundary"
_PROTOCOL = "application/HTTP-SPNEGO-session-encrypted"
_SEALED_TYPE = f'multipart/encrypted;protocol="{_PROTOCOL}";boundary="{_BOUNDARY}"'
_PAYLOAD = b"\tContent-Type: application/octet-stream\r\n"
_END = f"--{_BOUNDARY}--".encode()
_SIGNATURE_LENGTH = struct.Struct("<i")
# The variable is the process's, and pyspnego looks at it whenever a context starts or takes a step.
_STORE_VARIABLE = "NTLM_USER_FILE"
_store_lock = Lock()


class NtlmUsers:
    """Accounts in the form pyspnego reads them: a private file that goes with this object.

    Raises:
        ConfigurationError: a name or password holds a character that the file's format has not.
    """

    def __init__(self, users: Mapping[str, Secret]) -> None:
        lines = []
        for name, password in users.items():
            domain, _, user = name.rpartition("\\")
            if any(mark in text for text in (name, password.reveal()) for mark in ":\r\n"):
                raise ConfigurationError("users", f"user {name!r}: NTLM here takes no colon or line end")
            lines.append(f"{domain}:{user}:{password.reveal()}\n")
        descriptor, path = tempfile.mkstemp(prefix="hvps-sim-users-")
        self._path = Path(path)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """pyspnego looks these accounts up, on this thread alone, while entered."""
        with _store_lock:
            before = os.environ.get(_STORE_VARIABLE)
            os.environ[_STORE_VARIABLE] = str(self._path)
            try:
                yield
            finally:
                if before is None:
                    del os.environ[_STORE_VARIABLE]
                else:
                    os.environ[_STORE_VARIABLE] = before

    def close(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


class NtlmAuthenticator:
    """One connection's security context.

    Args:
        users: who may log on.
        tls: whether the connection is under TLS already; without it messages must be sealed.
    """

    challenge = "Negotiate"

    def __init__(self, users: NtlmUsers, *, tls: bool) -> None:
        self._users = users
        self._tls = tls
        self._context: spnego.ContextProxy | None = None
        self._sealing = False

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """The user of the established context, or the next step of establishing it."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if not value:
            if self._context is not None and self._context.complete:
                return Allowed(self._user(self._context))
            return Denied((self.challenge,))
        try:
            token = base64.b64decode(value.strip(), validate=True)
        except binascii.Error:
            return Denied((self.challenge,))
        return self._step(scheme, token)

    def _step(self, scheme: str, token: bytes) -> Allowed | Denied:
        try:
            with self._users.current():
                if self._context is None or self._context.complete:
                    self._context = spnego.server(
                        protocol="negotiate", options=spnego.NegotiateOptions.wrapping_winrm
                    )
                answer = self._context.step(token)
        except SpnegoError:
            self._context = None
            return Denied((self.challenge,))
        reply = f"{scheme} {base64.b64encode(answer).decode()}" if answer else ""
        if not self._context.complete:
            return Denied((reply or self.challenge,))
        return Allowed(self._user(self._context), (("WWW-Authenticate", reply),) if reply else ())

    @staticmethod
    def _user(context: spnego.ContextProxy) -> str:
        return str(context.client_principal or "").lower()

    def open(self, content_type: str, body: bytes) -> bytes:
        """The plain envelope of a sealed one.

        Raises:
            Unreadable: it is not sealed and had to be, or its seal is broken.
        """
        self._sealing = content_type.lower().startswith("multipart/encrypted")
        if not self._sealing:
            if self._tls:
                return body
            raise Unreadable("a message that is not sealed")
        start = body.find(_PAYLOAD)
        end = body.rfind(_END)
        if start < 0 or end < 0 or self._context is None:
            raise Unreadable("a sealed message without its parts")
        data = body[start + len(_PAYLOAD) : end]
        (length,) = _SIGNATURE_LENGTH.unpack_from(data)
        signature, sealed = data[4 : 4 + length], data[4 + length :]
        try:
            return self._context.unwrap_winrm(signature, sealed)
        except SpnegoError as err:
            raise Unreadable(f"seal broken: {err}") from err

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """A sealed answer when the request was sealed."""
        if not self._sealing or self._context is None:
            return SOAP_TYPE, body
        plain = b"".join(body)
        wrapped = self._context.wrap_winrm(plain)
        head = (
            f"--{_BOUNDARY}\r\n\tContent-Type: {_PROTOCOL}\r\n"
            f"\tOriginalContent: type={SOAP_TYPE};Length={len(plain) + wrapped.padding_length}\r\n"
            f"--{_BOUNDARY}\r\n"
        ).encode()
        signature = _SIGNATURE_LENGTH.pack(len(wrapped.header)) + wrapped.header
        return _SEALED_TYPE, (head, _PAYLOAD, signature, wrapped.data, _END, b"\r\n")
