"""Authentication: one authenticator per connection, which also encrypts messages if its scheme does."""

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
    """Not authenticated, or not yet. ``challenges`` are the ``WWW-Authenticate`` headers of the reply."""

    challenges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Allowed:
    """Authenticated as ``user``. ``headers`` belong in the reply."""

    user: str
    headers: tuple[tuple[str, str], ...] = ()


class Unreadable(Exception):
    """A message is not encrypted as required."""


class Authenticator(Protocol):
    """Authentication of one connection."""

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """The user that a request's headers (with lower-case names) authenticate, or a challenge."""
        ...

    def open(self, content_type: str, body: bytes) -> bytes:
        """The envelope in a request's body, decrypted.

        Raises:
            Unreadable: the body is not encrypted as required, or was altered.
        """
        ...

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """Content type and body for an envelope of a reply."""
        ...


class BasicAuthenticator:
    """HTTP Basic. User names ignore case, as on Windows."""

    challenge = 'Basic realm="WSMAN"'

    def __init__(self, users: Mapping[str, Secret]) -> None:
        self._users = {name.lower(): password for name, password in users.items()}

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """The user in the ``Authorization`` header, if the password is right."""
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
    """Decode as UTF-8, else as Latin-1: clients do not declare which of them they use (RFC 7617)."""
    try:
        return proof.decode()
    except UnicodeDecodeError:
        return proof.decode("latin-1")


class AnyAuthenticator:
    """Several schemes on one connection: the one that the client uses; until then all are offered.

    Args:
        schemes: authenticators by scheme in ``Authorization``, in lower case.
    """

    def __init__(self, schemes: Mapping[str, Authenticator]) -> None:
        self._schemes = schemes
        self._used: Authenticator | None = None

    def check(self, headers: Mapping[str, str]) -> Allowed | Denied:
        """Check with the scheme in use."""
        word = headers.get("authorization", "").partition(" ")[0].lower()
        if word in self._schemes:
            self._used = self._schemes[word]
        if self._used is not None:
            result = self._used.check(headers)
            if isinstance(result, Allowed) or word:
                return result
        offers = [scheme.check({}) for scheme in dict.fromkeys(self._schemes.values())]
        return Denied(
            tuple(text for offer in offers if isinstance(offer, Denied) for text in offer.challenges)
        )

    def open(self, content_type: str, body: bytes) -> bytes:
        """Open with the scheme in use."""
        return body if self._used is None else self._used.open(content_type, body)

    def seal(self, body: Parts) -> tuple[str, Parts]:
        """Seal with the scheme in use."""
        return (SOAP_TYPE, body) if self._used is None else self._used.seal(body)
