"""Kerberos with a real KDC: the fast reader with every message encrypted, and an error for each failure."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hvpsbridge.errors import (
    ConfigurationError,
    ExitCode,
    HostError,
    HostRefused,
    KdcUnreachable,
    TicketRefused,
)
from hvpsbridge.host.connection import Authentication, HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.host.psrp import bulk, client, kerberos
from hvpsbridge.host.psrp.bulk import BulkPipeline
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import PowerShellHost
from hvpsbridge.sim.model_service import ModelService
from tests.host.conftest import Frozen
from tests.host.recording_proxy import RecordingProxy
from tests.host.test_bulk import read_all
from tests.host.test_session import self_signed
from tests.host.test_wire_faults import LENGTH, read
from tests.kerberos import PASSWORD, PRINCIPAL, REALM, USER, Realm, need_kerberos
from tests.waiting import wait_until

SPNEGO = b'protocol="application/HTTP-SPNEGO-session-encrypted"'
RAW = b'protocol="application/HTTP-Kerberos-session-encrypted"'
MIB = 1 << 20


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    need_kerberos()
    with Realm(tmp_path_factory.mktemp("realm")) as made, pytest.MonkeyPatch.context() as patch:
        for name, value in made.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(autouse=True)
def _no_ticket(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(BulkPipeline, "fallbacks", 0)
    yield
    realm.kdestroy()


@pytest.fixture(scope="module")
def hosts(
    pwsh: Path, realm: Realm, service: ModelService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, PowerShellHost]]:
    """Hosts by what they offer: Negotiate, Kerberos, and Negotiate with TLS."""
    chain = self_signed(tmp_path_factory.mktemp("tls"))
    settings = {
        "users": {USER: Secret("NTLM only")},
        "environment": service.environment(),
        "keytab": realm.keytab,
    }
    with ExitStack() as stack:
        yield {
            "negotiate": stack.enter_context(PowerShellHost(auth=("negotiate",), **settings)),
            "kerberos": stack.enter_context(PowerShellHost(auth=("kerberos",), **settings)),
            "tls": stack.enter_context(
                PowerShellHost(auth=("negotiate",), certificate=chain, strict_binding=True, **settings)
            ),
        }


def connection(
    port: int,
    auth: Authentication = Authentication.KERBEROS,
    *,
    server: str = "localhost",
    scheme: str = "http",
    **settings: object,
) -> HostConnection:
    settings = {"operation_timeout": 5, **settings}
    return HostConnection(name="hv01", address=f"{scheme}://{server}:{port}", auth=auth, **settings)  # type: ignore[arg-type]


WITH_PASSWORD = {"user": PRINCIPAL, "password": Secret(PASSWORD)}


def refusal(wanted: HostConnection) -> HostError:
    """The error of connecting; one line without secrets."""
    with pytest.raises(HostError) as caught:
        HyperVHost.connect(wanted).close()
    text = str(caught.value)
    assert "\n" not in text
    assert "hv01" in text
    assert PASSWORD not in text
    return caught.value


# -- what works --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "auth", "how", "protocol"),
    [
        ("negotiate", "kerberos", "password", SPNEGO),
        ("negotiate", "negotiate", "password", SPNEGO),
        ("negotiate", "negotiate", "cache", SPNEGO),
        ("kerberos", "kerberos", "cache", RAW),
        ("kerberos", "negotiate", "keytab", RAW),
        ("negotiate", "kerberos", "keytab of a user", SPNEGO),
    ],
)
def test_a_disk_is_read_the_fast_way_with_every_message_sealed(
    offer: str,
    auth: Authentication,
    how: str,
    protocol: bytes,
    hosts: dict[str, PowerShellHost],
    realm: Realm,
    frozen: Frozen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: dict[str, object] = {}
    if how == "password":
        settings = WITH_PASSWORD
    elif how == "cache":
        realm.kinit()
    else:
        # As in a cron job: the library gets a ticket with the keytab, and renews it in time.
        monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(realm.user_keytab))
        settings = {} if how == "keytab" else {"user": PRINCIPAL}
    with (
        RecordingProxy(hosts[offer].listener.port) as proxy,
        HyperVHost.connect(connection(proxy.port, auth, **settings)) as host,
    ):
        assert host.close_readers().open_paths == ()
        read_all(host, frozen)
    assert BulkPipeline.fallbacks == 0
    assert len(proxy.passed) > 4 * MIB
    assert proxy.passed.count(protocol) > 20
    for plain in (b"Envelope", b"rsp:", b"CommandResponse", b"<Obj"):
        assert plain not in proxy.passed


@pytest.mark.parametrize("auth", ["kerberos", "negotiate"])
def test_under_tls_a_disk_is_read_the_fast_way(
    auth: Authentication, hosts: dict[str, PowerShellHost], frozen: Frozen, tmp_path: Path
) -> None:
    tls = hosts["tls"].listener
    certificate = tmp_path / "ca.pem"
    certificate.write_text(_certificate_of(tls.port))
    wanted = connection(tls.port, auth, scheme="https", ca=certificate, **WITH_PASSWORD)
    with HyperVHost.connect(wanted) as host:
        read_all(host, frozen)
    assert BulkPipeline.fallbacks == 0


def _certificate_of(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_a_sealed_reply_that_was_altered_ends_the_connection_and_what_is_owed_is_read_again(
    hosts: dict[str, PowerShellHost], frozen: Frozen
) -> None:
    with (
        RecordingProxy(hosts["negotiate"].listener.port) as proxy,
        HyperVHost.connect(connection(proxy.port, **WITH_PASSWORD)) as host,
    ):

        def spoil() -> None:
            proxy.spoil = True

        had, losses = read(host, frozen, spoil)
        assert not proxy.spoil
        # On a busy machine the handle of the last reader may still be open for a moment.
        assert losses[:1] == ["SessionLost"]
        assert set(losses) <= {"SessionLost", "DiskBusy"}
        assert b"".join(had[offset] for offset in sorted(had)) == frozen.image[:LENGTH]


def test_a_ticket_that_expires_in_a_run_is_told_and_a_new_one_is_taken_up(
    hosts: dict[str, PowerShellHost], realm: Realm, frozen: Frozen
) -> None:
    with _with_a_short_ticket(realm, hosts["negotiate"].listener.port) as host:
        shell = host.shell_id
        _wait_for_expiry(realm)
        for ask in (host.close_readers, host.new_shell, lambda: host.open_reader(frozen.path)):
            with pytest.raises(TicketRefused, match="the ticket has expired"):
                ask()
        realm.kinit()
        assert host.close_readers().open_paths == ()
        read_all(host, frozen)
        assert host.shell_id == shell
    assert BulkPipeline.fallbacks == 0


def test_contexts_are_made_anew_before_they_end_and_nothing_is_lost(
    hosts: dict[str, PowerShellHost], frozen: Frozen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the last minute of a ticket, but at every reply."""
    monkeypatch.setattr(client, "TICKET_RENEW_SECONDS", 1e9)
    monkeypatch.setattr(client, "TICKET_RENEW_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(bulk, "CONTEXT_CHECK_SECONDS", 0.0)
    listener = hosts["negotiate"].listener
    with HyperVHost.connect(connection(listener.port, **WITH_PASSWORD)) as host:
        before = listener.connections_accepted
        read_all(host, frozen)
        assert listener.connections_accepted - before > 8
    assert BulkPipeline.fallbacks == 0


def _with_a_short_ticket(realm: Realm, port: int) -> HyperVHost:
    """A host, connected with a ticket that expires soon, but not before the connection is open."""
    for seconds in (3, 10, 30):
        realm.kinit("-l", f"{seconds}s")
        with contextlib.suppress(HostError):
            return HyperVHost.connect(connection(port))
    raise AssertionError("the machine takes half a minute to connect")


def _wait_for_expiry(realm: Realm) -> None:
    wait_until(lambda: subprocess.run(["klist", "-s"], check=False).returncode != 0)


# -- what does not -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"user": PRINCIPAL, "password": Secret("wrong")}, "password is wrong"),
        ({"user": f"nobody@{REALM}", "password": Secret("x")}, "no such user"),
        ({"user": "backup@ELSEWHERE.TEST", "password": Secret("x")}, "krb5.conf"),
        ({}, "there is no ticket; run kinit"),
        ({"user": PRINCIPAL}, "there is no ticket; run kinit"),
        ({**WITH_PASSWORD, "server": "127.0.0.1"}, "no such host; use its full domain name"),
    ],
    ids=["password", "user", "realm", "no-ticket", "no-ticket-of-user", "service"],
)
def test_what_the_realm_refuses_is_one_line_with_its_remedy(
    settings: dict[str, object], words: str, hosts: dict[str, PowerShellHost]
) -> None:
    said = refusal(connection(hosts["negotiate"].listener.port, **settings))  # type: ignore[arg-type]
    assert type(said) is TicketRefused
    assert words in str(said)
    assert said.exit_code is ExitCode.REFUSED


def test_negotiate_without_a_password_has_only_tickets_to_show(hosts: dict[str, PowerShellHost]) -> None:
    port = hosts["negotiate"].listener.port
    for user in (None, PRINCIPAL):
        said = refusal(connection(port, "negotiate", user=user))
        assert type(said) is TicketRefused
        assert "run kinit" in str(said)
    # With a password NTLM is tried if there is no ticket, and then the host refuses the login.
    said = refusal(connection(port, "negotiate", user=PRINCIPAL, password=Secret("wrong")))
    assert type(said) is HostRefused
    assert said.exit_code is ExitCode.REFUSED


def test_an_expired_ticket_is_told_as_one(hosts: dict[str, PowerShellHost], realm: Realm) -> None:
    realm.kinit("-l", "1s")
    _wait_for_expiry(realm)
    for settings in ({}, {"user": PRINCIPAL}):
        said = refusal(connection(hosts["negotiate"].listener.port, **settings))  # type: ignore[arg-type]
        assert type(said) is TicketRefused
        assert "the ticket has expired; run kinit again" in str(said)


def test_a_host_whose_service_belongs_to_another_account_does_not_take_the_ticket(
    pwsh: Path, realm: Realm, tmp_path: Path
) -> None:
    other = tmp_path / "other.keytab"
    realm.administer(f"addprinc -randkey host/other@{REALM}")
    realm.administer(f"ktadd -k {other} host/other@{REALM}")
    with PowerShellHost(users={USER: Secret("x")}, auth=("negotiate",), keytab=other) as host:
        said = refusal(connection(host.listener.port, **WITH_PASSWORD))
    assert type(said) is TicketRefused
    assert "did not accept the ticket" in str(said)


def test_a_user_the_host_does_not_know_is_refused(hosts: dict[str, PowerShellHost], realm: Realm) -> None:
    realm.administer(f"addprinc -pw {PASSWORD} guest@{REALM}")
    guest = {"user": f"guest@{REALM}", "password": Secret(PASSWORD)}
    for offer in ("negotiate", "kerberos"):
        assert isinstance(refusal(connection(hosts[offer].listener.port, **guest)), HostRefused)


def test_clocks_that_differ_are_told(pwsh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the KDC is an hour ahead. MIT clients adjust to it unless they are configured not to."""
    with Realm(tmp_path, ahead_seconds=3600, timesync=False) as ahead:
        for name, value in ahead.environment.items():
            monkeypatch.setenv(name, value)
        with PowerShellHost(users={USER: Secret("x")}, auth=("negotiate",), keytab=ahead.keytab) as host:
            said = refusal(connection(host.listener.port, **WITH_PASSWORD))
    assert type(said) is TicketRefused
    assert "clocks" in str(said)


def test_a_realm_that_does_not_answer_is_unreachable(
    pwsh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Realm(tmp_path) as silent:
        for name, value in silent.environment.items():
            monkeypatch.setenv(name, value)
        with PowerShellHost(users={USER: Secret("x")}, auth=("negotiate",), keytab=silent.keytab) as host:
            silent.stop()
            said = refusal(connection(host.listener.port, **WITH_PASSWORD))
    assert type(said) is KdcUnreachable
    assert said.exit_code is ExitCode.HOST_UNREACHABLE


# -- the extra ---------------------------------------------------------------------------------------------


def test_without_the_extra_kerberos_names_it_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kerberos, "INSTALLED", False)
    for wanted in (connection(1), connection(1, "negotiate", user="u")):
        with pytest.raises(ConfigurationError, match=r"hvpsbridge\[kerberos\]") as caught:
            HyperVHost.connect(wanted)
        assert caught.value.exit_code is ExitCode.INVALID
    kerberos.check_installed(connection(1, "negotiate", user="u", password=Secret("p")))
    kerberos.check_installed(connection(1, "ntlm", user="u", password=Secret("p")))


@pytest.mark.parametrize("lacking", ["krb5", "gssapi"])
def test_an_extra_that_is_not_installed_is_noticed(lacking: str) -> None:
    program = (
        f"import sys; sys.modules[{lacking!r}] = None; "
        "from hvpsbridge.host.psrp import kerberos; print(kerberos.INSTALLED)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
