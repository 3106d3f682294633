"""Valid addresses, and connections that are refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from hvpsbridge.errors import ConfigurationError
from hvpsbridge.host.connection import Endpoint, HostConnection, is_loopback
from hvpsbridge.secret import Secret


def connection(address: str, **changes: Any) -> HostConnection:
    settings: dict[str, Any] = {"user": "u", "password": Secret("canary-p"), "auth": "ntlm"} | changes
    return HostConnection(name="hv01", address=address, **settings)


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("hv01.example.net", Endpoint(True, "hv01.example.net", 5986, "wsman")),
        ("https://hv01:443/proxy/wsman/", Endpoint(True, "hv01", 443, "proxy/wsman")),
        ("http://hv01", Endpoint(False, "hv01", 5985, "wsman")),
        ("https://[fd00::1]:5986", Endpoint(True, "fd00::1", 5986, "wsman")),
    ],
)
def test_an_address_names_an_endpoint_and_a_bare_name_means_https(address: str, endpoint: Endpoint) -> None:
    assert connection(address).endpoint == endpoint


@pytest.mark.parametrize(
    ("address", "changes"),
    [
        ("http://hv01", {"auth": "basic"}),
        ("http://192.0.2.1:5985", {"auth": "basic"}),
        ("ftp://hv01", {}),
        ("https://", {}),
        ("https://hv01:port", {}),
        ("https://u:p@hv01", {}),
        ("hv01", {"auth": "digest"}),
        ("hv01", {"user": None}),
        ("hv01", {"password": None}),
        ("hv01", {"operation_timeout": 30}),
    ],
)
def test_what_cannot_or_must_not_be_used_is_a_configuration_error(
    address: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="hv01") as caught:
        connection(address, **changes)
    assert "canary-p" not in str(caught.value)


def test_basic_over_http_is_allowed_on_loopback_and_over_https() -> None:
    for address in ("http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://hv01"):
        connection(address, auth="basic")


def test_kerberos_needs_no_password() -> None:
    connection("hv01", auth="kerberos", user=None, password=None)


def test_loopback_is_told_without_a_resolver() -> None:
    assert is_loopback("127.9.9.9")
    assert not is_loopback("localhost.example.net")


def test_a_connection_shows_no_password() -> None:
    assert "canary-p" not in repr(connection("hv01"))
