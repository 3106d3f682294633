"""TLS connections to a host that fail: each fault is named, with its own remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.errors import CertificateRejected, ExitCode, HostError, HostUnreachable
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.secret import Secret
from tests.certificates import issue, tls_server


def failure(port: int, ca: Path, scheme: str = "https") -> HostError:
    connection = HostConnection(
        name="hv01",
        address=f"{scheme}://127.0.0.1:{port}",
        user="u",
        password=Secret("canary-p"),
        auth="basic",  # type: ignore[arg-type]  # as a playbook has it
        ca=ca,
        connect_timeout=5,
    )
    with pytest.raises(HostError) as caught:
        HyperVHost.connect(connection)
    assert "canary" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("certificate", "says"),
    [
        (
            {"names": ("hv01.example.net", "10.0.0.1")},
            "it is for hv01.example.net, 10.0.0.1, not for 127.0.0.1; use a name of the certificate",
        ),
        ({"names": [f"hv{n}" for n in range(7)]}, "hv4 and 2 more, not for 127.0.0.1"),
        ({"names": ()}, "it has no name, and 127.0.0.1 is required"),
        ({"days": (-2, -1)}, "it has expired; renew it on the host"),
        ({"days": (1, 2)}, "it is not valid yet; check the clocks"),
    ],
)
def test_each_fault_of_a_trusted_certificate_has_its_remedy(
    tmp_path: Path, certificate: dict[str, Any], says: str
) -> None:
    chain, issuer = issue(tmp_path, **certificate)
    with tls_server(chain) as port:
        refused = failure(port, issuer)
    assert isinstance(refused, CertificateRejected)
    assert refused.code is ExitCode.REFUSED
    assert says in str(refused)
    assert "give the certificate" not in str(refused)


def test_a_certificate_of_an_unknown_ca_or_without_one(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, other = issue(tmp_path / "other", self_signed=True)
    for self_signed, says in ((False, "its CA is unknown here; give"), (True, "it is self-signed; compare")):
        chain, _ = issue(tmp_path, self_signed=self_signed)
        with tls_server(chain) as port:
            refused = failure(port, other)
        assert isinstance(refused, CertificateRejected)
        assert says in str(refused)


def test_tls_where_there_is_none_and_none_where_there_is(tmp_path: Path) -> None:
    chain, issuer = issue(tmp_path)
    with tls_server(None) as port:
        plain = failure(port, issuer)
    with tls_server(chain) as port:
        secure = failure(port, issuer, "http")
    for refused, says in (
        (plain, "does not speak TLS"),
        (secure, "speaks TLS; write https:// in the address"),
    ):
        assert type(refused) is HostUnreachable
        assert refused.code is ExitCode.HOST_UNREACHABLE
        assert says in str(refused)


def test_a_host_that_ends_the_connection_after_the_handshake_is_not_told_to_get_a_certificate(
    tmp_path: Path,
) -> None:
    chain, issuer = issue(tmp_path)
    with tls_server(chain) as port:
        refused = failure(port, issuer)
    assert type(refused) is HostUnreachable
    assert "listener has a certificate" not in str(refused)
