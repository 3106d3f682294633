"""Certificates of hosts and of clients, proxies and names, against the simulated host."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.errors import (
    CertificateChanged,
    CertificateRejected,
    ConfigurationError,
    ExitCode,
    HostRefused,
    HostUnreachable,
)
from hvpsbridge.host.client_certificates import check_client_certificate
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.fingerprints import fingerprint_of
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model
from hvpsbridge.sim.wsman.http import Connection
from hvpsbridge.sim.wsman.mutual import MutualAuthenticator
from tests.certificates import der_of, issue

PASSWORD = Secret("canary-7d1c")


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Model]:
    world = Model(tmp_path / "world", seed=1)
    yield world
    world.close()


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return issue(tmp_path / "host", ("hv01.example.net",), self_signed=True)[0]


def served(model: Model, chain: Path, **settings: Any) -> AbstractContextManager[SimulatedHost]:
    return SimulatedHost(model, users={"backup": PASSWORD}, certificate=chain, **settings)


def reach(host: SimulatedHost, **changes: Any) -> str:
    """Name of the host as it reports it."""
    settings: dict[str, Any] = {"user": "backup", "password": PASSWORD, "auth": "basic"} | changes
    connection = HostConnection(name="hv01", address=settings.pop("address", host.url), **settings)
    with HyperVHost.connect(connection) as connected:
        return connected.host_info().name


def pin(chain: Path) -> str:
    return fingerprint_of(der_of(chain))


@pytest.mark.parametrize("auth", ["basic", "ntlm"])
def test_a_pinned_certificate_is_accepted_whatever_its_ca_name_and_dates(
    model: Model, tmp_path: Path, auth: str
) -> None:
    chain, _ = issue(tmp_path, ("elsewhere.example.net",), days=(-9, -2))
    with served(model, chain, auth=(auth,), strict_binding=True) as host:
        with pytest.raises(CertificateRejected):
            reach(host, auth=auth)
        assert reach(host, auth=auth, fingerprint=pin(chain))


@pytest.mark.parametrize("auth", ["basic", "ntlm"])
def test_a_host_with_another_certificate_than_the_pinned_one_is_sent_nothing(
    model: Model, chain: Path, tmp_path: Path, auth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[object] = []
    answer = Connection._answer

    def answering(self: Connection, message: Any) -> None:
        requests.append(message)
        answer(self, message)

    monkeypatch.setattr(Connection, "_answer", answering)
    other, _ = issue(tmp_path, self_signed=True)
    with served(model, chain, auth=(auth,)) as host:
        assert reach(host, auth=auth, fingerprint=pin(chain))
        requests.clear()
        chain.write_bytes(other.read_bytes())
        with pytest.raises(CertificateChanged) as caught:
            reach(host, auth=auth, fingerprint="sha256:" + 32 * "5e")
        assert requests == []
    assert caught.value.code is ExitCode.REFUSED
    text = str(caught.value)
    assert pin(other) in text
    assert "if it was renewed, compare it on the host, then pin it with `hvps host trust hv01`" in text
    assert "canary" not in text


def test_with_a_ca_the_pinned_certificate_must_be_from_it_too(model: Model, tmp_path: Path) -> None:
    chain, ca = issue(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = issue(tmp_path / "other")
    with served(model, chain) as host:
        assert reach(host, fingerprint=pin(chain), ca=ca)
        with pytest.raises(CertificateRejected, match="CA"):
            reach(host, fingerprint=pin(chain), ca=other)
        with pytest.raises(CertificateChanged):
            reach(host, fingerprint="sha256:" + 32 * "5e", ca=ca)


def test_insecure_accepts_any_certificate(model: Model, chain: Path) -> None:
    with served(model, chain) as host:
        assert reach(host, insecure=True)


@pytest.mark.parametrize("tls_1_3", [True, False])
def test_a_client_certificate_logs_in_as_the_account_it_is_mapped_to(
    model: Model, chain: Path, tmp_path: Path, tls_1_3: bool
) -> None:
    login, ca = issue(tmp_path, (), subject="backup")
    certificate, key = _split(login)
    (tmp_path / "login.crt").write_text(certificate)
    (tmp_path / "stranger").mkdir()
    stranger, _ = issue(tmp_path / "stranger", (), subject="backup")
    changes: dict[str, Any] = {"auth": "certificate", "user": None, "password": None}
    with served(model, chain, auth=("certificate",), client_ca=ca) as host:
        assert host.tls is not None
        if not tls_1_3:
            host.tls.only_tls_1_2()
        changes["fingerprint"] = pin(chain)
        assert reach(host, **changes, certificate=login)
        assert reach(host, **changes, certificate=tmp_path / "login.crt", certificate_key=Secret(key))
        with pytest.raises(HostRefused, match="client certificate"):
            reach(host, **changes, certificate=stranger)


def test_a_certificate_that_is_mapped_to_no_account_is_refused(
    model: Model, chain: Path, tmp_path: Path
) -> None:
    login, ca = issue(tmp_path, (), subject="nobody")
    with (
        served(model, chain, auth=("certificate",), client_ca=ca) as host,
        pytest.raises(HostRefused, match="maps the client certificate to no account"),
    ):
        reach(host, auth="certificate", user=None, password=None, certificate=login, fingerprint=pin(chain))


def test_what_is_wrong_with_a_client_certificate_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    login, _ = issue(tmp_path, (), subject="backup")
    certificate, key = _split(login)
    alone, locked = tmp_path / "alone.crt", tmp_path / "locked.pem"
    alone.write_text(certificate)
    issue(tmp_path, (), subject="backup", password=b"canary-key")
    locked.write_bytes((tmp_path / "chain.pem").read_bytes())
    (tmp_path / "other").mkdir()
    _, another = _split(issue(tmp_path / "other", ())[0])

    def check(path: Path, **changes: Any) -> None:
        check_client_certificate(
            HostConnection(
                name="hv01",
                address="hv01",
                auth="certificate",
                certificate=path,
                **changes,  # type: ignore[arg-type]
            )
        )

    check(alone, certificate_key=Secret(key))
    check(locked, password=Secret("canary-key"))
    for path, changes, says in (
        (alone, {}, "has no private key; give it as certificate_key"),
        (alone, {"certificate_key": Secret(another)}, "does not belong to the private key"),
        (alone, {"certificate_key": Secret("garbage")}, "certificate_key is not a private key"),
        (Path(__file__), {}, "has no certificate in PEM form"),
        (locked, {}, "give its passphrase as password"),
        (locked, {"password": Secret("canary-wrong")}, "that the password does not decrypt"),
        (tmp_path / "missing.pem", {}, "No such file"),
    ):
        with pytest.raises(ConfigurationError, match=says) as caught:
            check(path, **changes)
        assert "canary" not in str(caught.value)


def _split(chain: Path) -> tuple[str, str]:
    certificate, mark, key = chain.read_text().partition("-----BEGIN PRIVATE KEY")
    return certificate, mark + key


def test_names_are_asked_for_as_written_and_certificates_know_them_without_dot(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved: list[str] = []
    resolve = socket.getaddrinfo

    def resolver(name: str, *more: Any, **options: Any) -> Any:
        resolved.append(name)
        return resolve("127.0.0.1", *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    chain, ca = issue(tmp_path, ("localhost", "127.0.0.1"))
    with served(model, chain) as host:
        assert host.tls is not None
        for address in (f"https://LocalHost:{host.listener.port}", f"localhost.:{host.listener.port}"):
            assert reach(host, address=address, ca=ca)
        assert set(host.tls.names_asked) == {"localhost"}
        assert set(resolved) == {"localhost", "localhost."}
        assert reach(host, ca=ca)
        assert host.tls.names_asked[-1] is None  # an IP address is not a name


@pytest.mark.parametrize("address", ["::1", "::1%1"])
def test_ipv6_addresses_are_used_with_and_without_zone(model: Model, tmp_path: Path, address: str) -> None:
    chain, ca = issue(tmp_path, ("::1",))
    with served(model, chain, address="::1") as host:
        escaped = address.replace("%", "%25")
        assert reach(host, address=f"https://[{escaped}]:{host.listener.port}", ca=ca)


def test_a_mismatch_shows_the_names_of_the_certificate(model: Model, tmp_path: Path) -> None:
    chain, ca = issue(tmp_path, ("hv01.example.net", "*.example.org"))
    with served(model, chain) as host, pytest.raises(CertificateRejected) as caught:
        reach(host, ca=ca)
    assert "it is for hv01.example.net, *.example.org, not for 127.0.0.1" in str(caught.value)


class Proxy:
    """Connects to the loopback port of a CONNECT, or answers ``refusal``; ``asked`` has each request."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.asked: list[str] = []
        self._refusal = refusal
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        self.asked.append(head.split(b"\r\n")[0].decode())
        if self._refusal:
            client.sendall(self._refusal)
            client.close()
            return
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        host = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n")
        threading.Thread(target=_copy, args=(client, host), daemon=True).start()
        _copy(host, client)

    def close(self) -> None:
        self._server.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def test_a_proxy_is_used_only_when_it_is_configured(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, unwanted = Proxy(), Proxy()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, unwanted.url)
    chain, ca = issue(tmp_path)
    with served(model, chain) as host:
        assert reach(host, ca=ca)
        assert reach(host, ca=ca, proxy=proxy.url)
        assert reach(host, fingerprint=pin(chain), proxy=proxy.url)
        assert set(proxy.asked) == {f"CONNECT 127.0.0.1:{host.listener.port} HTTP/1.1"}
    with SimulatedHost(model, users={"backup": PASSWORD}, auth=("ntlm",)) as plain:
        assert reach(plain, auth="ntlm", proxy=proxy.url)
    assert unwanted.asked == []
    proxy.close()
    unwanted.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 407 X\r\n\r\n", "asks for a login, which hvps does not support"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "answered HTTP 403 for 127.0.0.1:"),
        (b"SSH-2.0\r\n\r\n", "answered something other than HTTP"),
        (b"HTTP/1.1 200", "ended the connection instead of connecting"),
    ],
)
def test_a_proxy_that_does_not_connect_is_named(model: Model, chain: Path, answer: bytes, says: str) -> None:
    proxy = Proxy(answer)
    with served(model, chain) as host, pytest.raises(HostUnreachable) as caught:
        reach(host, fingerprint=pin(chain), proxy=proxy.url)
    assert f"proxy {proxy.url.removeprefix('http://')} {says}" in str(caught.value)
    proxy.close()


def test_a_proxy_that_cannot_be_reached_is_named(model: Model, chain: Path) -> None:
    with served(model, chain) as host, socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        location = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(HostUnreachable) as caught:
            reach(host, fingerprint=pin(chain), proxy=f"http://{location}")
    assert f"proxy {location} cannot be reached" in str(caught.value)


def test_a_host_that_wants_the_certificate_late_and_then_hangs_up_is_named(
    model: Model, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login, ca = issue(tmp_path, (), subject="backup")

    def hang_up(self: MutualAuthenticator, headers: object) -> None:
        raise ConnectionResetError("TLS 1.3 on Server 2022")

    monkeypatch.setattr(MutualAuthenticator, "check", hang_up)
    with (
        served(model, chain, auth=("certificate",), client_ca=ca) as host,
        pytest.raises(HostRefused, match=r"with TLS 1\.3, switch that off"),
    ):
        reach(host, auth="certificate", user=None, password=None, certificate=login, fingerprint=pin(chain))
