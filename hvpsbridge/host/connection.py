"""How a host is reached: address, account and limits, checked before anything is sent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Protocol

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.host.address import HAS_USER, Endpoint, parse_address, parse_proxy
from hvpsbridge.host.fingerprints import FINGERPRINT, parse_fingerprint
from hvpsbridge.options import Option, Unit
from hvpsbridge.secret import Secret


class Authentication(StrEnum):
    """How WinRM authenticates a user."""

    BASIC = "basic"
    NTLM = "ntlm"
    NEGOTIATE = "negotiate"
    KERBEROS = "kerberos"
    CERTIFICATE = "certificate"


# Part of a URL and of a file name.
_ENDPOINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def endpoint_name(text: str) -> str:
    """The name of a session configuration.

    Raises:
        ValueError: it cannot be one.
    """
    if _ENDPOINT.fullmatch(text):
        return text
    raise ValueError("an endpoint's name has up to 64 letters, digits, dots, hyphens and underscores")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How to reach a Hyper-V host.

    Attributes:
        password: a secret, or where it is, as subclasses say. Without user and password the Kerberos
            credential cache is used.
        certificate_key: likewise.
    """

    address: Annotated[str, Option("URL of the WinRM listener, or a host name for HTTPS on port 5986")]
    user: Annotated[str | None, Option("user name; must be an administrator on the host")] = None
    auth: Annotated[Authentication, Option("authentication method")] = Authentication.NEGOTIATE
    password: object | None = None
    certificate: Annotated[
        Path | None, Option("certificate to log in with, PEM; needs auth certificate and https")
    ] = None
    certificate_key: object | None = None
    jea: Annotated[
        str | None, Option("JEA endpoint to use instead of PowerShell's own; `hvps jea` makes it")
    ] = None
    ca: Annotated[Path | None, Option("CA certificates to trust for the host, PEM")] = None
    fingerprint: Annotated[
        str | None,
        Option(
            "the only certificate to accept, whatever its CA, name and dates; with ca, both are checked",
            form=FINGERPRINT,
        ),
    ] = None
    insecure: Annotated[
        bool, Option("accept any certificate; anyone on the way can read and alter everything")
    ] = False
    proxy: Annotated[
        str | None, Option("HTTP proxy to connect through, `http://HOST:PORT`; none is used otherwise")
    ] = None
    operation_timeout: Annotated[
        float, Option("how long the host may hold back one reply", unit=Unit.SECONDS, more_than=0)
    ] = 20.0
    read_timeout: Annotated[
        float,
        Option("how long to wait for a reply; more than operation_timeout", unit=Unit.SECONDS, more_than=0),
    ] = 30.0
    connect_timeout: Annotated[
        float, Option("how long to wait for a connection", unit=Unit.SECONDS, more_than=0)
    ] = 10.0

    @property
    def endpoint(self) -> Endpoint:
        """The address in parts.

        Raises:
            ValueError: it is not an address.
        """
        return parse_address(self.address)

    @property
    def checks_authority(self) -> bool:
        """Whether a CA must vouch for the host's certificate."""
        return self.endpoint.tls and not self.insecure and (self.fingerprint is None or self.ca is not None)

    def problems(self) -> Iterator[tuple[str, str]]:
        """What cannot or must not be used: pairs of a field and a text."""
        if "@" in self.address:  # not quoted, since it may contain a password
            yield "address", HAS_USER
            return
        try:
            endpoint = self.endpoint
        except ValueError as err:
            yield "address", f"is not an address: {err}"  # not quoted either: it may contain a password
            return
        if self.proxy is not None:
            try:
                parse_proxy(self.proxy)
            except ValueError as err:
                yield "proxy", f"is not the URL of a proxy: {err}"
        if self.jea is not None:
            try:
                endpoint_name(self.jea)
            except ValueError as err:
                yield "jea", str(err)
        yield from self._login_problems(endpoint)
        yield from self._trust_problems(endpoint)
        if self.read_timeout <= self.operation_timeout:
            yield "read_timeout", "must be more than operation_timeout"

    def _login_problems(self, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
        if self.auth not in tuple(Authentication):
            yield "auth", f"{self.auth!r} is not known; use one of {', '.join(Authentication)}"
        if self.auth == Authentication.KERBEROS and self.user is not None and "\\" in self.user:
            yield "user", f"kerberos cannot use {self.user}; write user@REALM"
        needs_password = self.auth in (Authentication.BASIC, Authentication.NTLM)
        if needs_password and (self.user is None or self.password is None):
            yield "auth", f"{self.auth} needs user and password"
        if self.auth == Authentication.BASIC:
            yield from self._basic_problems(endpoint)
        if self.auth == Authentication.CERTIFICATE:
            if not endpoint.tls:
                yield "auth", "certificate needs https"
            if self.certificate is None:
                yield "auth", "certificate needs a certificate to log in with; set certificate"
            if self.user is not None:
                yield (
                    "user",
                    "auth certificate uses the account that the host maps the certificate to; remove user",
                )
        elif self.certificate is not None or self.certificate_key is not None:
            yield "certificate", "is only used with auth certificate"

    def _basic_problems(self, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
        if not endpoint.tls and not is_loopback(endpoint.server):
            yield "auth", "basic over plain http would expose the password; use https, ntlm or kerberos"
        if self.insecure and not is_loopback(endpoint.server):
            yield "auth", "basic with insecure would expose the password; use fingerprint instead of insecure"
        if self.user is not None and (":" in self.user or not _is_latin_1(self.user)):
            yield "user", f"basic cannot carry a colon or letters beyond Latin-1; {_NOT_BASIC}"
        if isinstance(self.password, Secret) and not _is_latin_1(self.password.reveal()):
            yield "password", f"basic cannot carry letters beyond Latin-1; {_NOT_BASIC}"

    def _trust_problems(self, endpoint: Endpoint) -> Iterator[tuple[str, str]]:
        if self.fingerprint is not None:
            try:
                parse_fingerprint(self.fingerprint)
            except ValueError as err:
                yield "fingerprint", str(err)
        for field, given in (("fingerprint", self.fingerprint is not None), ("insecure", self.insecure)):
            if given and not endpoint.tls:
                yield field, "is for https; a host shows no certificate over http"
        if self.insecure and (self.fingerprint is not None or self.ca is not None):
            yield "insecure", "accepts any certificate, so fingerprint and ca would not be checked; remove it"


class Recorder(Protocol):
    """Takes exchanges with a host, in the clear."""

    def exchange(self, request: bytes, reply: bytes, seconds: float, status: int) -> None:
        """Called after each exchange; never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConnection(HostOptions):
    """Everything needed to open a session on a host.

    Attributes:
        name: what the host is called in playbooks, logs and errors.
        recorder: takes every exchange; None to record nothing.

    Raises:
        ConfigurationError: something cannot or must not be used.
    """

    name: str
    password: Secret | None = None
    certificate_key: Secret | None = None
    recorder: Recorder | None = None

    def __post_init__(self) -> None:
        for field, text in self.problems():
            raise ConfigurationError(f"host {self.name}", f"{field}: {text}")


_NOT_BASIC = "use ntlm, negotiate or kerberos, which carry all letters"


def _is_latin_1(text: str) -> bool:
    return all(ord(letter) < 256 for letter in text)


def is_loopback(server: str) -> bool:
    """Whether ``server`` names this machine without asking a resolver."""
    if server.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return False
