"""How a host is reached: address, account and limits, checked before anything is sent."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.options import Option, Unit
from hvpsbridge.secret import Secret

HTTP_PORT = 5985
HTTPS_PORT = 5986


class Authentication(StrEnum):
    """How WinRM authenticates a user."""

    BASIC = "basic"
    NTLM = "ntlm"
    NEGOTIATE = "negotiate"
    KERBEROS = "kerberos"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a WSMan listener is."""

    tls: bool
    server: str
    port: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """How to reach a Hyper-V host.

    Attributes:
        password: a secret, or where it is, as subclasses say. Without user and password the Kerberos
            credential cache is used.
    """

    address: Annotated[str, Option("URL of the WinRM listener, or a host name for HTTPS on port 5986")]
    user: Annotated[str | None, Option("user name; must be an administrator on the host")] = None
    auth: Annotated[Authentication, Option("authentication method")] = Authentication.NEGOTIATE
    password: object | None = None
    ca: Annotated[Path | None, Option("CA certificates to trust for the host, PEM")] = None
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
        parts = urlsplit(self.address if "://" in self.address else f"https://{self.address}")
        server, port = parts.hostname, parts.port
        if parts.scheme not in ("http", "https") or not server:
            raise ValueError("use https://host:5986, or a host name")
        tls = parts.scheme == "https"
        port = port or (HTTPS_PORT if tls else HTTP_PORT)
        return Endpoint(tls, server, port, parts.path.strip("/") or "wsman")

    def problems(self) -> Iterator[tuple[str, str]]:
        """What cannot or must not be used: pairs of a field and a text."""
        if "@" in self.address:  # not quoted, since it may contain a password
            yield "address", "must not contain a user; use user and password"
            return
        try:
            endpoint = self.endpoint
        except ValueError as err:
            yield "address", f"{self.address!r} is not an address: {err}"
            return
        if self.auth not in tuple(Authentication):
            yield "auth", f"{self.auth!r} is not known; use one of {', '.join(Authentication)}"
        if self.auth == Authentication.BASIC and not endpoint.tls and not is_loopback(endpoint.server):
            yield "auth", "basic over plain http would expose the password; use https, ntlm or kerberos"
        if self.auth == Authentication.KERBEROS and self.user is not None and "\\" in self.user:
            yield "user", f"kerberos cannot use {self.user}; write user@REALM"
        needs_password = self.auth in (Authentication.BASIC, Authentication.NTLM)
        if needs_password and (self.user is None or self.password is None):
            yield "auth", f"{self.auth} needs user and password"
        if self.read_timeout <= self.operation_timeout:
            yield "read_timeout", "must be more than operation_timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConnection(HostOptions):
    """Everything needed to open a session on a host.

    Attributes:
        name: what the host is called in playbooks, logs and errors.

    Raises:
        ConfigurationError: something cannot or must not be used.
    """

    name: str
    password: Secret | None = None

    def __post_init__(self) -> None:
        for field, text in self.problems():
            raise ConfigurationError(f"host {self.name}", f"{field}: {text}")


def is_loopback(server: str) -> bool:
    """Whether ``server`` names this machine without asking a resolver."""
    if server.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return False
