"""Who is asking: one authenticator per connection, and the sealing of messages where a scheme has it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.secret import Secret

SOAP_TYPE = "application/soap+xml;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Denied:
    """Not (yet) authenticated: what the 401 says in ``WWW-Authenticate``."""

    challenges: tuple[str, ...]


class Authenticator(Protocol):
    """Authentication of one connection."""

    def check(self, headers: Mapping[str, str]) -> str | Denied:
        """The user that a request's headers (lower-case names) prove, or what to answer instead."""
        ...

    def open(self, content_type: str, body: bytes) -> bytes:
        """The plain envelope in a request's body."""
        ...

    def seal(self, body: bytes) -> tuple[str, bytes]:
        """Content type and body for an answering envelope."""
        ...


class BasicAuthenticator:
    """HTTP Basic against a table of users; user names compare without regard to case, as on Windows."""

    challenge = 'Basic realm="WSMAN"'

    def __init__(self, users: Mapping[str, Secret]) -> None:
        self._users = {name.lower(): (name, password) for name, password in users.items()}

    def check(self, headers: Mapping[str, str]) -> str | Denied:
        """The user named by the ``Authorization`` header when the password is right."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return Denied((self.challenge,))
            name, expected = self._users.get(user.lower(), ("", None))
            if expected is not None and Secret(password) == expected:
                return name
        return Denied((self.challenge,))

    def open(self, content_type: str, body: bytes) -> bytes:
        """The body as it is."""
        return body

    def seal(self, body: bytes) -> tuple[str, bytes]:
        """The body as it is."""
        return SOAP_TYPE, body
