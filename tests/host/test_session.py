"""Sessions over real WSMan: they open, fail, end and are replaced."""

from __future__ import annotations

import datetime
import ipaddress
import logging
import socket
import threading
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hvpsbridge.contract.results import Consistency
from hvpsbridge.errors import (
    CertificateRejected,
    HostRefused,
    HostUnreachable,
    OperationFailed,
    OperationTimedOut,
    ProtocolViolation,
    SessionLost,
    VmNotFound,
)
from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp.session import Session
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import PowerShellHost
from tests.host.conftest import PASSWORD, USER


def run(session: Session, text: str, deadline_seconds: float = 120, **parameters: object) -> list[object]:
    return [dict(item.properties) for item in session.run("test", text, parameters, deadline_seconds)]


def process_id(session: Session) -> int:
    (said,) = run(session, "[pscustomobject]@{ Id = $PID }")
    assert isinstance(said, dict)
    return int(said["Id"])


def test_nobody_there_is_unreachable_and_a_wrong_password_is_a_refusal(connection: HostConnection) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(HostUnreachable, match="hv01"):
            HyperVHost.connect(replace(connection, address=f"http://127.0.0.1:{port}"))
    with pytest.raises(HostRefused, match="hv01"):
        HyperVHost.connect(replace(connection, password=Secret("wrong")))


def test_a_certificate_is_checked_and_its_ca_can_be_given(
    pwsh: Path, connection: HostConnection, tmp_path: Path
) -> None:
    chain = self_signed(tmp_path)
    with PowerShellHost(users={USER: Secret(PASSWORD)}, certificate=chain) as tls:
        secure = replace(connection, address=tls.url)
        with pytest.raises(CertificateRejected):
            HyperVHost.connect(secure)
        with HyperVHost.connect(replace(secure, ca=tmp_path / "ca.pem")) as host:
            assert host.close_readers().open_paths == ()


def test_a_script_that_takes_too_long_is_stopped(connection: HostConnection) -> None:
    session = Session.open(connection)
    try:
        with pytest.raises(OperationTimedOut):
            run(session, "Start-Sleep -Seconds 60", deadline_seconds=1)
        assert run(session, "[pscustomobject]@{ A = 1 }") == [{"A": 1}]
    finally:
        session.close()


def test_an_error_ends_an_operation_whether_terminating_or_not(connection: HostConnection) -> None:
    session = Session.open(connection)
    try:
        for text in ("throw 'no'", "Write-Error -Message no -ErrorId Some.Id; [pscustomobject]@{ A = 1 }"):
            with pytest.raises(OperationFailed):
                run(session, text)
        assert not session.lost
    finally:
        session.close()


def test_dropping_the_iterator_stops_the_script(connection: HostConnection) -> None:
    session = Session.open(connection)
    try:
        endless = "while ($true) { [pscustomobject]@{ A = 1 }; Start-Sleep -Milliseconds 50 }"
        objects = session.run("test", endless, {}, 60)
        assert next(objects).properties == {"A": 1}
        objects.close()  # type: ignore[attr-defined]  # a generator, as dropping it would do
        assert run(session, "[pscustomobject]@{ A = 2 }") == [{"A": 2}]
    finally:
        session.close()


def test_threads_share_a_shell_each_over_a_connection_of_its_own(
    connection: HostConnection, tmp_path: Path
) -> None:
    session = Session.open(connection)
    try:
        seen: list[object] = []
        # Each waits until all three run, which would not happen if they ran one after the other.
        text = f"""
            $null = New-Item -Path '{tmp_path}' -Name ([guid]::NewGuid())
            for ($i = 0; $i -lt 2000 -and @(Get-ChildItem '{tmp_path}').Count -lt 3; $i++) {{
                Start-Sleep -Milliseconds 50
            }}
            [pscustomobject]@{{ Id = $PID; There = @(Get-ChildItem '{tmp_path}').Count }}
        """
        threads = [threading.Thread(target=lambda: seen.extend(run(session, text))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [{"Id": process_id(session), "There": 3}] * 3
    finally:
        session.close()


def test_a_shell_that_died_is_replaced_for_what_reads_and_its_loss_is_told_for_the_rest(
    connection: HostConnection,
) -> None:
    with HyperVHost.connect(connection, run_id=uuid4()) as host:
        first = host.shell_id
        assert host._runner.session.end_shell(first)
        assert host.close_readers().open_paths == ()
        assert host.shell_id != first
        assert not host.end_shell(first)
        session = host._runner.session
        assert session.end_shell(session.shell_id)
        with pytest.raises(SessionLost):
            run(session, "[pscustomobject]@{ A = 1 }")
        assert session.lost


def test_a_shell_given_up_while_idle_is_replaced_before_anything_is_made(
    connection: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = uuid4()
    with HyperVHost.connect(connection) as host:
        assert host._runner.session.end_shell(host.shell_id)
        with pytest.raises(SessionLost):
            host.create_checkpoint(vm_id, "x", Consistency.CRASH)
        assert host.close_readers().open_paths == ()
        assert host._runner.session.end_shell(host.shell_id)
        monkeypatch.setattr("hvpsbridge.host.runner.WAKE_SECONDS", 0.0)
        with pytest.raises(VmNotFound):
            host.create_checkpoint(vm_id, "x", Consistency.CRASH)
        assert host._runner.session.end_shell(host.shell_id)
        assert dict(host.checks.probe("Test-Compile", {}, 60))


@pytest.mark.parametrize("auth", ["basic", "ntlm"])
def test_a_connection_the_host_closed_while_idle_is_made_anew(
    pwsh: Path, connection: HostConnection, monkeypatch: pytest.MonkeyPatch, auth: Authentication
) -> None:
    with PowerShellHost(users={USER: Secret(PASSWORD)}, auth=(auth,)) as simulated:
        session = Session.open(replace(connection, address=simulated.url, auth=auth))
        assert run(session, "[pscustomobject]@{ A = 1 }") == [{"A": 1}]
        simulated.listener.cut_all()
        monkeypatch.setattr("hvpsbridge.host.psrp.client.CONNECTION_STALE_SECONDS", 0.0)
        assert run(session, "[pscustomobject]@{ A = 2 }") == [{"A": 2}]
        session.close()


def test_another_shell_is_another_process_and_ends_by_id(connection: HostConnection) -> None:
    with HyperVHost.connect(connection) as host:
        other = host.new_shell()
        assert process_id(other._runner.session) != process_id(host._runner.session)
        assert host.end_shell(other.shell_id)
        assert not host.end_shell(other.shell_id)
        other.close()


def test_an_object_of_another_shape_is_a_protocol_violation(
    connection: HostConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "[pscustomobject]@{ PSTypeName = 'Hvps.ReaderState'; OpenPaths = 7 }"
    monkeypatch.setattr("hvpsbridge.host.runner.script_text", lambda operation: text)
    with HyperVHost.connect(connection) as host, pytest.raises(ProtocolViolation, match="OpenPaths"):
        host.close_readers()


def test_logs_show_neither_password_nor_script_nor_values(
    connection: HostConnection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with HyperVHost.connect(connection) as host:
        list(host._runner.session.run("test", "param($X) 'canary-script'", {"X": "canary-value"}, 30))
    shown = "\n".join(record.getMessage() for record in caplog.records)
    assert "canary" not in shown
    assert "hv01" in shown


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and localhost in ``ca.pem``; the returned file also has its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hv01")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    chain = folder / "chain.pem"
    chain.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return chain
