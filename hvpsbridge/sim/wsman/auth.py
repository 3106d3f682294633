"""Who is asking: one authenticator per connection, and the sealing of messages where a scheme has it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hvpsbridge.secret import Secret
from hvpsbridge.sim.wsman.envelope import Parts

SOAP_TYPE = "application/soap+xml;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Denied:
    """Not (yet) authenticated: what the 401 says in ``WWW-Authenticate``."""

    challenges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Allowed:
    """Authenticated as ``user``; ``headers`` go with the answer."""

    user: str
    headers: tuple[tuple[str, str], ...] = ()


class Unreadable(Exception):
    """A message is not sealed as it had to be."""


class Authenticator(Protocol):
    """Authentication of one connection."""

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """The user that a request's headers (lower-case names) prove, or what to answer instead."""
        ...

    def open(self, content_type: str, body: bytes) -> bytes:
        """The plain envelope in a request's body.

        Raises:
            Unreadable: there is none.
        """
        ...

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """Content type and body for an answering envelope."""
        ...


class BasicAuthenticator:
    """HTTP Basic against a table of users; user names compare without regard to case, as on Windows."""

    challenge = 'Basic realm="WSMAN"'

    def __init__(self, users: Mapping[str, Secret]) -> None:
        self._users = {name.lower(): password for name, password in users.items()}

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """The user named by the ``Authorization`` header when the password is right."""
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                proof = base64.b64decode(value.strip(), validate=True)
            except binascii.Error:
                return Denied((self.challenge,))
            user, _, password = _text(proof).partition(":")
            expected = self._users.get(user.lower())
            if expected is not None and Secret(password) == expected:
                return Allowed(user.lower())
        return Denied((self.challenge,))

    def open(self, content_type: str, body: bytes) -> bytes:
        """The body as it is."""
        return body

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """The body as it is."""
        return SOAP_TYPE, body


def _text(proof: bytes) -> str:
    """Clients differ in the encoding of what is not ASCII, and nothing tells it (RFC 7617)."""
    try:
        return proof.decode()
    except UnicodeDecodeError:
        return proof.decode("latin-1")


class AnyAuthenticator:
    """Several schemes on one connection: the one whose word the client uses, else all are offered.

    Args:
        schemes: authenticators by the words of ``Authorization`` that belong to them, in lower case.
    """

    def __init__(self, schemes: Mapping[str, Authenticator]) -> None:
        self._schemes = schemes
        self._used: Authenticator | None = None

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """What the scheme in use says."""
        word = headers.get("authorization", "").partition(" ")[0].lower()
        if word in self._schemes:
            self._used = self._schemes[word]
        if self._used is not None:
            verdict = self._used.check(headers)
            if isinstance(verdict, Allowed) or word:
                return verdict
        offers = [scheme.check({}) for scheme in dict.fromkeys(self._schemes.values())]
        return Denied(
            tuple(text for offer in offers if isinstance(offer, Denied) for text in offer.challenges)
        )

    def open(self, content_type: str, body: bytes) -> bytes:
        """The plain envelope."""
        return body if self._used is None else self._used.open(content_type, body)

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """The answer as the scheme in use sends it."""
        return (SOAP_TYPE, body) if self._used is None else self._used.seal(body)
