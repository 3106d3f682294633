"""Valid addresses, and connections that are refused before anything is sent."""

from __future__ import annotations

import errno
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests

from hvpsbridge.errors import ConfigurationError, ConnectionLimit, ExitCode, SessionLost
from hvpsbridge.host.address import Endpoint, name_of, with_port
from hvpsbridge.host.certificates import check_authorities
from hvpsbridge.host.connection import HostConnection, is_loopback
from hvpsbridge.host.fingerprints import parse_fingerprint
from hvpsbridge.host.psrp.errors import connect_failure, transport_failure
from hvpsbridge.secret import Secret
from tests.host.test_session import self_signed


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
        ("fd00::1", Endpoint(True, "fd00::1", 5986, "wsman")),
        ("[fd00::1]:443", Endpoint(True, "fd00::1", 443, "wsman")),
        ("hv01:443", Endpoint(True, "hv01", 443, "wsman")),
        ("HV01.Example.net", Endpoint(True, "hv01.example.net", 5986, "wsman")),
        ("hv01.example.net.", Endpoint(True, "hv01.example.net", 5986, "wsman", "hv01.example.net.")),
        ("https://hv01.:443", Endpoint(True, "hv01", 443, "wsman", "hv01.")),
        ("fe80::1%Eth0", Endpoint(True, "fe80::1", 5986, "wsman", "fe80::1%Eth0")),
        ("https://[fe80::1%25eth0]:443", Endpoint(True, "fe80::1", 443, "wsman", "fe80::1%eth0")),
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


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("https://bob:canary-p@hv01", "must not contain a user or password"),
        ("bob:canary-p@hv01", "must not contain a user or password"),
        ("https://bob:canary-p/x@hv01", "must not contain a user or password"),
        ("https://fd00::1:5986", r"must be in brackets: https://\[fd00::1\]:5986"),
        ("hv01:5986:1", r"write HOST:PORT, or an IPv6 address in brackets"),
        ("https://[hv01]:5986", "brackets are for an IPv6 address"),
        ("https://[fe80::1%25]", "a zone is the name or number of an interface"),
        ("hv01..example.net", "use https://HOST:5986"),
        (64 * "h", "not the name of a host"),
        ("https://hv01:0", "port must be between 1 and 65535"),
        ("hv01:5986x", "port must be between 1 and 65535"),
        ("https:/hv01", "use https://HOST:5986"),
        ("hv 01", "use https://HOST:5986"),
        ("https://hv01?transport=ssl", "query"),
    ],
)
def test_a_slip_in_an_address_is_named_and_a_password_is_not(address: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        connection(address)
    assert "canary" not in str(caught.value)


def test_a_port_is_added_to_a_bare_name_or_ip_address_only() -> None:
    assert with_port("hv01", 443) == "https://hv01:443"
    assert with_port("fd00::1", 443) == "https://[fd00::1]:443"
    assert with_port("fe80::1%eth0", 443) == "https://[fe80::1%25eth0]:443"
    for address in ("hv01:5986", "[fd00::1]:5986", "https://hv01"):
        with pytest.raises(ValueError, match="has its own port"):
            with_port(address, 443)


def test_a_host_without_a_name_is_called_by_its_address() -> None:
    assert [
        name_of(address)
        for address in ("HV01", "https://HV01:5986/wsman", "http://hv01.", "fd00::1", "https://[fd00::1]:443")
    ] == ["HV01", "HV01:5986", "hv01", "fd00::1", "[fd00::1]:443"]


@pytest.mark.parametrize(
    ("secret", "user"),
    [("geheim\u20ac", "u"), ("geheim\ud800", "u"), ("geheim", "us\u20acr"), ("geheim", "a:b")],
)
def test_basic_refuses_letters_that_it_cannot_carry_without_showing_any(secret: str, user: str) -> None:
    with pytest.raises(ConfigurationError, match="use ntlm, negotiate or kerberos") as caught:
        connection("hv01", auth="basic", user=user, password=Secret(secret))
    shown = f"{caught.value} {caught.value!r}"
    assert not any(letter in shown for letter in ("\u20ac", "20ac", "\ud800", "d800", "geheim"))
    connection("hv01", auth="ntlm", user=user, password=Secret(secret))
    connection("hv01", auth="basic", password=Secret("pässword"))


def test_a_ca_file_is_read_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    chain = self_signed(tmp_path)
    (tmp_path / "empty.pem").touch()
    (tmp_path / "garbage.pem").write_bytes(b"\x00\xff garbage")
    (tmp_path / "cut.pem").write_text("\n".join(chain.read_text().split("\n")[:5]))
    (tmp_path / "der.cer").write_bytes(ssl.PEM_cert_to_DER_cert((tmp_path / "ca.pem").read_text()))
    (tmp_path / "closed.pem").symlink_to("closed.pem")
    for name, text in {
        "missing.pem": "does not exist",
        "empty.pem": "is empty",
        "garbage.pem": "has no certificate",
        "cut.pem": "certificate that cannot be read",
        "der.cer": "convert it to PEM",
        "closed.pem": "cannot be read",
        ".": "without hashed certificates",
    }.items():
        with pytest.raises(ConfigurationError, match=f"host hv01: ca: .*{text}") as caught:
            check_authorities(connection("hv01", ca=tmp_path / name))
        assert caught.value.code is ExitCode.INVALID
        monkeypatch.setenv("CURL_CA_BUNDLE", str(tmp_path / name))
        with pytest.raises(ConfigurationError, match=f"CURL_CA_BUNDLE: .*{text}"):
            check_authorities(connection("hv01"))
        check_authorities(connection("http://hv01", ca=tmp_path / name))  # not needed there
    check_authorities(connection("hv01", ca=tmp_path / "ca.pem"))


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


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_limit_of_this_machine_is_not_blamed_on_the_host(number: int) -> None:
    try:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as err:
            raise requests.exceptions.SSLError("while its file of CAs was read") from err
    except requests.exceptions.SSLError as err:
        error = connect_failure(connection("https://hv01"), err)
    assert str(error) == (
        f"cannot connect to host hv01: {os.strerror(number)}; "
        "raise the limits of this machine (ulimit -n), or use fewer --forks and --max-readers"
    )
    assert error.code is ExitCode.INVALID


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EMFILE, ConnectionLimit),
        (errno.ENFILE, ConnectionLimit),
        (errno.ENOMEM, SessionLost),
        (errno.ECONNRESET, SessionLost),
    ],
)
def test_a_limit_of_open_files_is_not_a_lost_connection(number: int, kind: type[Exception]) -> None:
    err = requests.exceptions.ConnectionError("while a request was sent")
    err.__context__ = OSError(number, os.strerror(number))
    assert type(transport_failure("hv01", "Read-HvpsExtent", err)) is kind


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fingerprint": "sha256:5e"}, "64 hexadecimal digits"),
        ({"fingerprint": 20 * "5E"}, "is a SHA-1 thumbprint"),
        ({"fingerprint": "sha256:" + 32 * "5e", "address": "http://hv01"}, "is for https"),
        ({"insecure": True, "address": "http://hv01"}, "is for https"),
        ({"insecure": True, "fingerprint": "sha256:" + 32 * "5e"}, "would not be checked; remove it"),
        ({"insecure": True, "ca": Path("ca.pem")}, "would not be checked; remove it"),
        ({"insecure": True, "auth": "basic"}, "use fingerprint instead of insecure"),
        ({"auth": "certificate", "user": None}, "set certificate"),
        ({"auth": "certificate", "certificate": Path("x")}, "remove user"),
        ({"auth": "certificate", "certificate": Path("x"), "address": "http://hv01"}, "needs https"),
        ({"certificate": Path("x")}, "only used with auth certificate"),
        ({"proxy": "proxy:3128"}, "write http://HOST:PORT"),
        ({"proxy": "https://proxy:3128"}, "plain http"),
        ({"proxy": "http://u:canary@proxy:3128"}, "must not contain a user or password"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], says: str) -> None:
    settings: dict[str, Any] = {
        "address": "hv01",
        "user": "u",
        "password": Secret("canary-p"),
        "auth": "ntlm",
    }
    with pytest.raises(ConfigurationError, match=says) as caught:
        HostConnection(name="hv01", **settings | changes)
    assert "canary" not in str(caught.value)


def test_a_fingerprint_is_read_in_any_case_and_with_colons() -> None:
    plain = "sha256:" + 32 * "5e"
    for text in (plain.upper(), "SHA256:" + ":".join(32 * ["5E"]), f" {plain}"):
        assert parse_fingerprint(text) == plain
    for text in ("", "sha256", "md5:" + 16 * "5e", 32 * "5e", "sha256:" + 32 * "zz"):
        with pytest.raises(ValueError, match="hvps host trust"):
            parse_fingerprint(text)
