"""NTLM and Kerberos, with messages encrypted as WinRM does on plain HTTP (MS-WSMV 2.2.9.1).

The only module of the simulator that uses pyspnego. A security context belongs to a connection: once it is
established, requests need no ``Authorization``. As on Windows, ``Negotiate`` covers both schemes and
``Kerberos`` raw Kerberos tokens.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock

import spnego
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import Secret
from hvpsbridge.sim.wsman.auth import SOAP_TYPE, Allowed, Denied, Unreadable
from hvpsbridge.sim.wsman.envelope import Parts

logger = logging.getLogger(__name__)

_BOUNDARY = "Encrypted Boundary"
SPNEGO = "application/HTTP-SPNEGO-session-encrypted"
KERBEROS = "application/HTTP-Kerberos-session-encrypted"
_PAYLOAD = b"\tContent-Type: application/octet-stream\r\n"
_END = f"--{_BOUNDARY}--".encode()
_SIGNATURE_LENGTH = struct.Struct("<i")
# The libraries read these variables of the process whenever a context starts or takes a step.
_USERS_VARIABLE = "NTLM_USER_FILE"
_KEYTAB_VARIABLE = "KRB5_KTNAME"
_variables_lock = Lock()


class Accounts:
    """Accounts in the form that pyspnego reads: a private file, deleted by :meth:`close`.

    Args:
        users: accounts that may log on.
        ntlm: whether to accept NTLM.
        keytab: keys of this host's service, to accept Kerberos.

    Raises:
        ConfigurationError: a name or password contains a character that the file format cannot hold.
    """

    def __init__(self, users: Mapping[str, Secret], *, ntlm: bool = True, keytab: Path | None = None) -> None:
        self.users = frozenset(name.lower() for name in users)
        self._path: Path | None = None
        self._variables: dict[str, str] = {}
        if ntlm:
            self._path = self._written(users)
            self._variables[_USERS_VARIABLE] = str(self._path)
        # A file that does not exist keeps the keytab of this machine out.
        self._variables[_KEYTAB_VARIABLE] = f"FILE:{keytab or '/nonexistent'}"

    @staticmethod
    def _written(users: Mapping[str, Secret]) -> Path:
        lines = []
        for name, password in users.items():
            domain, _, user = name.rpartition("\\")
            if any(mark in text for text in (name, password.reveal()) for mark in ":\r\n"):
                raise ConfigurationError(
                    "users",
                    f"user {name!r}: for NTLM, name and password must not contain a colon or a line break",
                )
            lines.append(f"{domain}:{user}:{password.reveal()}\n")
        descriptor, path = tempfile.mkstemp(prefix="hvps-sim-users-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(lines)
        return Path(path)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Let the libraries use these accounts. One thread at a time can enter."""
        with _variables_lock:
            before = {name: os.environ.get(name) for name in (_USERS_VARIABLE, _KEYTAB_VARIABLE)}
            try:
                for name in before:
                    _set(name, self._variables.get(name))
                yield
            finally:
                for name, value in before.items():
                    _set(name, value)

    def close(self) -> None:
        """Remove the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


class NegotiateAuthenticator:
    """The security context of one connection.

    Args:
        accounts: accounts that may log on.
        tls: whether the connection uses TLS. Without it messages must be encrypted.
        challenge: the scheme, ``Negotiate`` or ``Kerberos``.
        binding: what a login must be bound to, as with ``CbtHardeningLevel`` ``Strict``; None for no matter.
    """

    def __init__(
        self,
        accounts: Accounts,
        *,
        tls: bool,
        challenge: str = "Negotiate",
        binding: bytes | None = None,
    ) -> None:
        self.challenge = challenge
        self._binding = None if binding is None else GssChannelBindings(application_data=binding)
        self._accounts = accounts
        self._tls = tls
        self._context: spnego.ContextProxy | None = None
        self._sealing = ""

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
            with self._accounts.current():
                if self._context is None or self._context.complete:
                    self._context = spnego.server(
                        protocol=self.challenge.lower(),
                        options=spnego.NegotiateOptions.wrapping_winrm,
                        channel_bindings=self._binding,
                    )
                answer = self._context.step(token)
        except (SpnegoError, AttributeError) as err:
            # pyspnego raises AttributeError if GSSAPI refuses a ticket with a token of its own.
            logger.debug("no security context: %s", err)
            self._context = None
            return Denied((self.challenge,))
        reply = f"{scheme} {base64.b64encode(answer).decode()}" if answer else ""
        if not self._context.complete:
            return Denied((reply or self.challenge,))
        if not self._known(self._context):
            self._context = None
            return Denied((self.challenge,))
        return Allowed(self._user(self._context), (("WWW-Authenticate", reply),) if reply else ())

    @staticmethod
    def _user(context: spnego.ContextProxy) -> str:
        return str(context.client_principal or "").lower()

    def _known(self, context: spnego.ContextProxy) -> bool:
        """Whether the account may log on. The realm may have others; NTLM has none."""
        return context.negotiated_protocol != "kerberos" or (
            self._user(context).partition("@")[0] in self._accounts.users
        )

    def open(self, content_type: str, body: bytes) -> bytes:
        """Decrypt the envelope of a request.

        Raises:
            Unreadable: it is not encrypted but must be, or it was altered.
        """
        self._sealing = ""
        if content_type.lower().startswith("multipart/encrypted"):
            self._sealing = KERBEROS if KERBEROS.lower() in content_type.lower() else SPNEGO
        if not self._sealing:
            if self._tls:
                return body
            raise Unreadable("the message is not encrypted")
        start = body.find(_PAYLOAD)
        end = body.rfind(_END)
        if start < 0 or end < 0 or self._context is None:
            raise Unreadable("the encrypted message is incomplete")
        data = body[start + len(_PAYLOAD) : end]
        (length,) = _SIGNATURE_LENGTH.unpack_from(data)
        signature, sealed = data[4 : 4 + length], data[4 + length :]
        try:
            return self._context.unwrap_winrm(signature, sealed)
        except SpnegoError as err:
            raise Unreadable(f"the message cannot be decrypted: {err}") from err

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """Encrypt a reply if the request was encrypted."""
        if not self._sealing or self._context is None:
            return SOAP_TYPE, body
        plain = b"".join(body)
        wrapped = self._context.wrap_winrm(plain)
        head = (
            f"--{_BOUNDARY}\r\n\tContent-Type: {self._sealing}\r\n"
            f"\tOriginalContent: type={SOAP_TYPE};Length={len(plain) + wrapped.padding_length}\r\n"
            f"--{_BOUNDARY}\r\n"
        ).encode()
        signature = _SIGNATURE_LENGTH.pack(len(wrapped.header)) + wrapped.header
        sealed_type = f'multipart/encrypted;protocol="{self._sealing}";boundary="{_BOUNDARY}"'
        return sealed_type, (head, _PAYLOAD, signature, wrapped.data, _END, b"\r\n")
