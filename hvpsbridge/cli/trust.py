"""``hvps host trust``: show the certificate of a host, and pin it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from hvpsbridge.cli import console
from hvpsbridge.cli.declared import OptionGroup
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import host_name, json_option, port_option, with_port_option
from hvpsbridge.errors import CertificateRejected, ConfigurationError, ExitCode, UsageError
from hvpsbridge.files import rewrite_file
from hvpsbridge.host.connection import HostConnection
from hvpsbridge.host.fingerprints import parse_fingerprint, plain_thumbprint
from hvpsbridge.host.psrp.look import look_at_certificate
from hvpsbridge.host.shown_certificate import ShownCertificate
from hvpsbridge.playbook.pinning import KEY, host_keys, with_fingerprint
from hvpsbridge.playbook.places import HostSpec
from hvpsbridge.playbook.read import read_exactly
from hvpsbridge.report.documents.hosts import CertificateShown

_CONNECTION = OptionGroup(
    HostSpec, {"ca": "--ca", "proxy": "--proxy", "connect_timeout": "--connect-timeout"}
)


@click.command("trust", short_help="Show the certificate of a host, and pin it.")
@click.argument("host")
@_CONNECTION
@port_option
@click.option(
    "--write",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Playbook or configuration file with HOST, to write the fingerprint into.",
)
@click.option(
    "--expect",
    metavar="THUMBPRINT",
    help="SHA-1 thumbprint or SHA-256 fingerprint, as the host itself has it; another one is refused.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.pass_obj
def trust(
    invocation: Invocation,
    /,
    host: str,
    file: Path | None,
    expect: str | None,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> ExitCode:
    """Show the certificate of HOST, and pin it on request.

    Logs in nowhere. The certificate may be that of somebody who intercepts the connection: compare it with
    the one on the host, or give the thumbprint from there with --expect. Prints the line that pins it; with
    --write, puts that line into the file. Exits with 14 if it is not the expected one.
    """
    expected = None if expect is None else _expected(expect)
    text = None if file is None else read_exactly(file)
    connection = _connection(host, file, text, options, invocation)
    shown = look_at_certificate(connection)
    if expected is not None and expected not in (shown.fingerprint, shown.thumbprint):
        found = shown.thumbprint if len(expected) == len(shown.thumbprint) else shown.fingerprint
        raise CertificateRejected(connection.name, f"it has {found}, and {expected} is expected")
    changed = None
    if file is not None and text is not None:
        changed = with_fingerprint(text, host, shown.fingerprint, str(file))
    if not as_json:
        for line in _lines(connection, shown):
            console.line(line)
    if file is not None and changed is not None and changed != text:
        console.flush()
        if expected is None and not yes and not _confirmed(connection.name, file):
            console.note("hvps: nothing was written")
            return ExitCode.DONE
        try:
            rewrite_file(file, changed)
        except OSError as err:
            raise ConfigurationError(str(file), f"cannot be written: {err.strerror}") from err
    if as_json:
        console.document(CertificateShown(connection.name, connection.endpoint.location, shown, file))
    elif file is not None:
        console.line(f"{file}: host {host} is pinned to this certificate")
    else:
        console.line(f"To pin it, write this into host {connection.name} of the playbook:")
        console.line(f"    {KEY}: {shown.fingerprint}")
    return ExitCode.DONE


def _expected(text: str) -> str:
    try:
        return plain_thumbprint(text) or parse_fingerprint(text)
    except ValueError as err:
        raise UsageError(f"--expect {err}; or give the thumbprint that Windows shows") from err


def _connection(
    host: str, file: Path | None, text: str | None, options: dict[str, Any], invocation: Invocation
) -> HostConnection:
    """How to reach HOST: as the file has it, or else the configuration file, or as an address."""
    if text is not None:
        keys = host_keys(text, host, str(file))
        address, proxy, ca = keys.get("address", host), keys.get("proxy"), keys.get("ca")
        if "{{" in f"{address} {proxy} {ca}":
            raise ConfigurationError(
                str(file), f"host {host} has variables; give its address in place of HOST, without --write"
            )
        spec = HostSpec(address=address, proxy=proxy, ca=None if ca is None else Path(ca))
        name = host
    else:
        known = invocation.settings.hosts.get(host) or HostSpec(address=host)
        spec = HostSpec(
            address=known.address, proxy=known.proxy, ca=known.ca, connect_timeout=known.connect_timeout
        )
        name = host_name(host, invocation)
    spec = replace(with_port_option(spec, options), **_CONNECTION.given(options))
    return HostConnection(
        name=name,
        address=spec.address,
        proxy=spec.proxy,
        ca=spec.ca,
        connect_timeout=spec.connect_timeout,
    )


def _lines(connection: HostConnection, shown: ShownCertificate) -> Iterator[str]:
    days = shown.days_left(datetime.now(UTC))
    left = f"{days} days left" if days >= 0 else "EXPIRED"
    yield f"Certificate of {connection.name} ({connection.endpoint.location})"
    yield f"  subject      {shown.subject or 'none'}"
    yield f"  names        {', '.join(shown.names) or 'none'}"
    yield f"  issuer       {'itself (self-signed)' if shown.self_signed else shown.issuer}"
    yield f"  valid        {shown.not_before:%Y-%m-%d} to {shown.not_after:%Y-%m-%d} ({left})"
    yield f"  SHA-256      {shown.fingerprint.partition(':')[2]}"
    yield f"  SHA-1        {shown.thumbprint} (the thumbprint that Windows shows)"
    yield f"  without pin  {'not accepted: ' + shown.refusal if shown.refusal else 'accepted'}"
    yield "Compare the SHA-1 with CertificateThumbprint on the host: winrm enumerate winrm/config/listener"


def _confirmed(name: str, file: Path) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("hvps host trust --write asks for confirmation; use --expect or --yes")
    return click.confirm(f"Is this the certificate on {name}, and pin it in {file}?", err=True)
