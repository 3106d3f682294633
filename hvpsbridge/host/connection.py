"""How a host is reached: address, account and limits, checked before anything is sent."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import Secret

HTTP_PORT = 5985
HTTPS_PORT = 5986

Auth = Literal["basic", "ntlm", "negotiate", "kerberos"]
AUTHS: tuple[Auth, ...] = ("basic", "ntlm", "negotiate", "kerberos")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a WSMan listener is."""

    tls: bool
    server: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class HostConnection:
    """Everything needed to open a session on a host.

    Attributes:
        name: what the host is called in playbooks, logs and errors.
        address: ``https://host:5986``, ``http://127.0.0.1:5985``, or a bare name, which means HTTPS.
        user: account; None leaves it to Kerberos' credential cache.
        password: None leaves it to Kerberos' credential cache.
        auth: how the account is proved. Basic over plain HTTP is refused except on loopback.
        ca: certificates to trust instead of the system's.
        operation_timeout_seconds: how long the host may hold a request that has nothing to say yet.
        read_timeout_seconds: how long no answer at all is waited for; longer than the former.
        connect_timeout_seconds: how long a TCP connection may take.

    Raises:
        ConfigurationError: the address, the account or the limits cannot be used.
    """

    name: str
    address: str
    user: str | None = None
    password: Secret | None = None
    auth: Auth = "negotiate"
    ca: Path | None = None
    operation_timeout_seconds: int = 20
    read_timeout_seconds: int = 30
    connect_timeout_seconds: int = 10

    def __post_init__(self) -> None:
        endpoint = self.endpoint
        if self.auth not in AUTHS:
            raise self._wrong(f"auth {self.auth!r} is none of {', '.join(AUTHS)}")
        if self.auth == "basic" and not endpoint.tls and not is_loopback(endpoint.server):
            raise self._wrong("basic authentication needs https: over http it would show the password")
        if self.auth in ("basic", "ntlm") and (self.user is None or self.password is None):
            raise self._wrong(f"{self.auth} authentication needs a user and a password")
        if self.auth == "kerberos" and self.user is not None and "\\" in self.user:
            raise self._wrong(f"kerberos knows no {self.user}; write user@REALM")
        if self.read_timeout_seconds <= self.operation_timeout_seconds:
            raise self._wrong("the read timeout must be longer than the operation timeout")

    @property
    def endpoint(self) -> Endpoint:
        """The address in parts."""
        text = self.address if "://" in self.address else f"https://{self.address}"
        try:
            parts = urlsplit(text)
            server, port = parts.hostname, parts.port
        except ValueError as err:
            raise self._wrong(f"address {self.address!r}: {err}") from err
        if parts.scheme not in ("http", "https") or not server:
            raise self._wrong(f"address {self.address!r} is not an http or https address")
        if parts.username is not None or parts.password is not None:
            raise self._wrong("the address must not contain a user; use user and password")
        tls = parts.scheme == "https"
        return Endpoint(
            tls, server, port or (HTTPS_PORT if tls else HTTP_PORT), parts.path.strip("/") or "wsman"
        )

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"host {self.name}", what)


def is_loopback(server: str) -> bool:
    """Whether ``server`` names this machine without asking a resolver."""
    if server.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(server).is_loopback
    except ValueError:
        return False
