"""Who may talk to the simulated host, and what of it can be read on the wire."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pypsrp.exceptions import AuthenticationError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from hvpsbridge.contract import CONTRACT
from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import SimulatedHost
from hvpsbridge.sim.model import Model

USERS = {"backup": Secret("pässword"), "LAB\\other": Secret("other")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    world = Model(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hv01")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "host.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


def connect(host: SimulatedHost, auth: str, password: str = "pässword", **settings: object) -> WSMan:
    defaults = {"username": "backup", "ssl": False, "encryption": "never" if auth == "basic" else "auto"}
    return WSMan(
        "127.0.0.1",
        port=host.listener.port,
        auth=auth,
        password=password,
        **{**defaults, **settings},  # type: ignore[arg-type]
    )


def ask(wsman: WSMan) -> int:
    with wsman, RunspacePool(wsman) as pool:
        shell = PowerShell(pool)
        shell.add_script(f"# hvps operation=Get-HvpsHost contract={CONTRACT}\n")
        return len(shell.invoke())


@pytest.mark.parametrize("auth", ["ntlm", "negotiate"])
def test_ntlm_seals_every_message(auth: str, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies: list[bytes] = []
    send = requests.Session.send

    def recording(session: requests.Session, request: requests.PreparedRequest, **options: object) -> object:
        answer = send(session, request, **options)  # type: ignore[arg-type]
        bodies.extend((request.body or b"", answer.content))  # type: ignore[arg-type]
        return answer

    monkeypatch.setattr(requests.Session, "send", recording)
    with SimulatedHost(model, users=USERS, auth=["ntlm"]) as host:
        assert ask(connect(host, auth)) == 1
        assert ask(connect(host, auth, "other", username="LAB\\other")) == 1
    assert sum(len(body) for body in bodies) > 10_000
    assert not any(b"Envelope" in body for body in bodies)


def test_a_wrong_password_is_refused_by_each_scheme(model: Model) -> None:
    with SimulatedHost(model, users=USERS, auth=["ntlm", "basic"]) as host:
        for auth in ("ntlm", "negotiate", "basic"):
            with pytest.raises(AuthenticationError):
                ask(connect(host, auth, "wrong"))
        for auth in ("ntlm", "basic"):
            assert ask(connect(host, auth)) == 1
    assert "NTLM_USER_FILE" not in os.environ


def test_a_message_that_is_not_sealed_is_refused_on_plain_http(model: Model) -> None:
    with SimulatedHost(model, users=USERS, auth=["ntlm"]) as host, pytest.raises(AuthenticationError):
        ask(connect(host, "ntlm", encryption="never"))


@pytest.mark.parametrize("auth", ["basic", "ntlm"])
def test_the_host_is_reached_under_tls(auth: str, model: Model, certificate: Path) -> None:
    with SimulatedHost(model, users=USERS, auth=["ntlm", "basic"], certificate=certificate) as host:
        assert host.url.startswith("https://")
        settings = {"ssl": True, "encryption": "auto", "cert_validation": str(certificate)}
        assert ask(connect(host, auth, **settings)) == 1
        with pytest.raises(requests.exceptions.SSLError):
            ask(connect(host, auth, ssl=True, encryption="auto"))


def test_a_scheme_that_is_not_there_is_refused_at_the_start(model: Model) -> None:
    with pytest.raises(ConfigurationError, match="kerberos"):
        SimulatedHost(model, auth=["kerberos"])
    with pytest.raises(ConfigurationError, match="colon"):
        SimulatedHost(model, users={"a": Secret("b:c")}, auth=["ntlm"])
