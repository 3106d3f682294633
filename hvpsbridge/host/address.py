"""Addresses of WinRM listeners as people write them.

A password that was written into an address is never part of an error or a name.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit, urlunsplit

HTTP_PORT = 5985
HTTPS_PORT = 5986

HAS_USER = "must not contain a user or password; use user and password"
# Also refuses what URLs give a meaning, and blanks, which urlsplit would drop or keep silently.
_NAME = re.compile(r"[^\s\x00-\x20\x7f/\\?#@%:\[\]<>\"{}|^`]+")
# Linux cuts names of interfaces at 15 letters.
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a WSMan listener is, or a proxy.

    Attributes:
        tls: whether it speaks TLS.
        server: name in lower case, or IP address without brackets and zone: what a certificate, a Kerberos
            ticket and HTTP know it by.
        port: TCP port.
        path: of the URL, without slashes around it.
        resolved: what the resolver of this machine is asked for, where that differs from ``server``: a name
            with its trailing dot, or an IPv6 address with its zone.
    """

    tls: bool
    server: str
    port: int
    path: str
    resolved: str = ""

    @property
    def location(self) -> str:
        """``server:port``, with brackets around an IPv6 address."""
        return f"{bracketed(self.server)}:{self.port}"


def parse_address(address: str) -> Endpoint:
    """The endpoint of a URL, or of a host name or IP address, which means HTTPS.

    Raises:
        ValueError: it is not an address. The text contains nothing of one with a user.
    """
    parts = _split(address)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port must be between 1 and 65535")
    tls = parts.scheme == "https"
    default = HTTPS_PORT if tls else HTTP_PORT
    full = _unescaped(parts.hostname or "")
    # A trailing dot keeps the resolver from adding domains, and a zone selects an interface of this machine.
    # Neither is part of the host's name.
    server = full.partition("%")[0].removesuffix(".")
    path = parts.path.strip("/") or "wsman"
    return Endpoint(tls, server, port or default, path, full if full != server else "")


def parse_proxy(address: str) -> Endpoint:
    """The endpoint of the URL of an HTTP proxy.

    Raises:
        ValueError: it is not one. The text contains nothing of one with a user.
    """
    if "@" in address:
        raise ValueError("it must not contain a user or password; hvps cannot log in to a proxy")
    form = "write http://HOST:PORT"
    parts = _split(address)
    if not address.strip().lower().startswith("http://"):
        raise ValueError(f"only proxies that are reached by plain http can be used; {form}")
    if parts.path.strip("/") or parts.port is None:
        raise ValueError(form)
    return parse_address(address)


def with_port(address: str, port: int) -> str:
    """The URL of a bare host name or IP address with a port.

    Raises:
        ValueError: the address is a URL, has a port already, or is not valid.
    """
    endpoint = parse_address(address)
    parts = _split(address)
    if "//" in address or parts.port is not None:
        raise ValueError("the address has its own port")
    return urlunsplit(
        ("https", f"{bracketed(endpoint.resolved or endpoint.server)}:{port}", parts.path, "", "")
    )


def name_of(address: str) -> str:
    """What a host is called that has only an address: the server, with the port if the address has one.

    A trailing dot is left out, since it is the same host.

    Raises:
        ValueError: it is not an address.
    """
    parse_address(address)
    parts = _split(address)
    name = re.sub(r"\.(?=:\d+$|$)", "", parts.netloc.rstrip(":"))
    return _unescaped(name if parts.port is not None else name.strip("[]"))


def bracketed(server: str) -> str:
    """The server as in a URL: an IPv6 address is in brackets, and the zone of one is escaped (RFC 6874)."""
    return f"[{server.replace('%', '%25')}]" if ":" in server else server


def _unescaped(server: str) -> str:
    return re.sub("%(25)?", "%", server, count=1)


def _split(address: str) -> SplitResult:
    if "@" in address:
        raise ValueError(HAS_USER)
    address = address.strip()
    if "//" not in address:
        try:
            address = bracketed(str(ipaddress.ip_address(address)))
        except ValueError:
            if address.count(":") > 1 and not address.startswith("["):
                raise ValueError(
                    "it has several colons; write HOST:PORT, or an IPv6 address in brackets: [fd00::1]:5986"
                ) from None
        address = f"https://{address}"
    try:
        parts = urlsplit(address)
    except ValueError:  # such as brackets around something else
        raise ValueError("brackets are for an IPv6 address: https://[fd00::1]:5986") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("use https://HOST:5986, or a host name")
    if parts.query or parts.fragment:
        raise ValueError("it must not have a query or a fragment")
    server = parts.hostname or ""
    if "[" in parts.netloc:
        address, percent, zone = _unescaped(server).partition("%")
        if not re.fullmatch(r"\[[^]]*\](:.*)?", parts.netloc) or not _is_ipv6(address):
            raise ValueError("brackets are for an IPv6 address: https://[fd00::1]:5986")
        if percent and not _ZONE.fullmatch(zone):
            raise ValueError("a zone is the name or number of an interface: https://[fe80::1%25eth0]:5986")
    elif parts.netloc.count(":") > 1:
        raise ValueError("an IPv6 address must be in brackets: https://[fd00::1]:5986")
    elif (
        not _NAME.fullmatch(server)
        or server.startswith(".")
        or ".." in server
        or parts.netloc.lower() in ("http:", "https:")
    ):  # such as https:/hv01
        raise ValueError("use https://HOST:5986, or a host name")
    elif not _is_encodable(server):
        raise ValueError("it is not the name of a host; a name has labels of at most 63 letters")
    return parts


def _is_encodable(name: str) -> bool:
    """Whether a resolver can be asked for a name, which may have letters beyond ASCII (RFC 3490)."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
