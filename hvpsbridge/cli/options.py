"""Options that several commands share, and the specs that they stand for.

A secret has four options (``--password-file``, ``-command``, ``-env``, ``-fd``) that say where it is. None
takes the secret itself, which every user of the machine could see in the process list.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from hvpsbridge.cli.declared import OptionGroup, callback_of
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.errors import UsageError
from hvpsbridge.host.address import name_of, with_port
from hvpsbridge.host.connection import Authentication
from hvpsbridge.playbook.places import HostSpec, RepositorySpec, SecretRef
from hvpsbridge.playbook.specs import MAX_FORKS
from hvpsbridge.tasks.policy import RunLimits
from hvpsbridge.units import parse_size

_Command = TypeVar("_Command", bound=Callable[..., Any])

REPOSITORY_VARIABLE = "HVPS_REPO"

# Callback of options that take a byte count such as ``64KiB``.
size_bytes = callback_of(parse_size)


def _stacked(*options: Callable[[Any], Any]) -> Callable[[_Command], _Command]:
    def decorate(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def secret_options(name: str, what: str) -> Callable[[_Command], _Command]:
    """Options ``--NAME-file``, ``--NAME-command``, ``--NAME-env`` and ``--NAME-fd``."""
    return _stacked(
        click.option(
            f"--{name}-file",
            type=click.Path(path_type=Path),
            help=f"File whose first line is the {what}; readable by its owner only.",
        ),
        click.option(f"--{name}-command", metavar="COMMAND", help=f"Program that prints the {what}."),
        click.option(f"--{name}-env", metavar="NAME", help=f"Environment variable that holds the {what}."),
        click.option(
            f"--{name}-fd", type=click.IntRange(min=0), help=f"File descriptor to read the {what} from."
        ),
    )


_CONNECTION = OptionGroup(
    HostSpec,
    {
        "user": "--user -u",
        "auth": "--auth",
        "certificate": "--certificate",
        "ca": "--ca",
        "fingerprint": "--fingerprint",
        "insecure": "--insecure",
        "proxy": "--proxy",
        "connect_timeout": "--connect-timeout",
    },
)
port_option = click.option(
    "--port", type=click.IntRange(1, 65535), help="Port, when HOST is a bare host name."
)
connection_options = _stacked(
    _CONNECTION,
    secret_options("password", "password"),
    secret_options("certificate-key", "private key of --certificate"),
    port_option,
)

repository_options = _stacked(
    click.option(
        "--repo",
        "-r",
        metavar="URL",
        help=f"Repository [default: {REPOSITORY_VARIABLE}, then the configuration file].",
    ),
    secret_options("key", "repository's key"),
)


_LIMITS = OptionGroup(
    RunLimits,
    {
        "rate": "--rate",
        "readers": "--max-readers",
        "readers_per_host": "--max-readers-per-host",
        "readers_per_volume": "--max-readers-per-volume",
        "shells_per_host": "--max-shells-per-host",
    },
    old_flags={
        "readers": "--most-readers",
        "readers_per_host": "--most-readers-per-host",
        "readers_per_volume": "--most-readers-per-volume",
        "shells_per_host": "--most-shells-per-host",
    },
    with_defaults=False,
)
limit_options = _stacked(
    click.option("--forks", type=click.IntRange(1, MAX_FORKS), help="Maximum VMs at a time."), _LIMITS
)


def _wants_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    invocation = context.find_object(Invocation)
    if invocation is not None and value:
        invocation.as_json = True
    return value


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_wants_json,
    is_eager=True,
    help="Print one JSON document, also on failure.",
)


def secret_reference(name: str, options: dict[str, Any]) -> SecretRef | None:
    """The reference that the ``--NAME-...`` options give, removed from ``options``; None if none is given.

    Raises:
        UsageError: more than one is given.
    """
    kinds = ("file", "command", "env", "fd")
    taken = {kind: options.pop(f"{name}-{kind}".replace("-", "_")) for kind in kinds}
    given = {kind: value for kind, value in taken.items() if value is not None}
    if len(given) > 1:
        raise UsageError(f"only one of {', '.join(f'--{name}-{kind}' for kind in given)} can be used")
    if "command" in given:
        try:
            given["command"] = tuple(shlex.split(given["command"]))
        except ValueError as err:
            raise UsageError(f"--{name}-command: {err}") from err
        if not given["command"]:
            raise UsageError(f"--{name}-command is empty")
    return SecretRef(**given) if given else None


def host_spec(host: str, options: dict[str, Any], invocation: Invocation) -> HostSpec:
    """How to reach HOST, a name in the configuration file or an address; options take precedence.

    If a password is needed and nothing says where it is, it is asked for.
    """
    if host not in invocation.settings.hosts and "@" in host:  # not quoted, it may contain a password
        raise UsageError("HOST must not contain a user or password; use --user and --password-file")
    spec = invocation.settings.hosts.get(host) or HostSpec(address=host)
    spec = replace(with_port_option(spec, options), **_CONNECTION.given(options))
    key = secret_reference("certificate-key", options) or spec.certificate_key
    password = secret_reference("password", options) or spec.password
    if password is None and spec.user is not None and spec.auth is not Authentication.KERBEROS:
        password = SecretRef(prompt=f"Password of {spec.user} on {host}")
    return replace(spec, password=password, certificate_key=key)


def with_port_option(spec: HostSpec, options: dict[str, Any]) -> HostSpec:
    """The spec with the port of ``--port``, which is removed from ``options``.

    Raises:
        UsageError: the address has a port, or is a URL.
    """
    port = options.pop("port")
    if port is None:
        return spec
    try:
        return replace(spec, address=with_port(spec.address, port))
    except ValueError as err:
        raise UsageError(f"--port is for a bare host name or IP address: {err}") from err


def run_limits(options: dict[str, Any], before: RunLimits) -> RunLimits:
    """The limits of a run: ``before`` with what the command line gives, which is removed from ``options``."""
    return replace(before, **_LIMITS.given(options))


def host_name(host: str, invocation: Invocation) -> str:
    """Name of HOST in logs, reports and points: its name in the configuration file, or else the server of
    its address, with the port if the address has one."""
    if host in invocation.settings.hosts:
        return host
    try:
        return name_of(host)
    except ValueError:
        return "HOST"  # the connection will say what is wrong with it


def repository_spec(options: dict[str, Any], invocation: Invocation) -> RepositorySpec:
    """The repository of ``--repo``, ``HVPS_REPO`` or the configuration file, in this order.

    Raises:
        UsageError: none of them gives one.
    """
    key = secret_reference("key", options)
    known = invocation.settings.repository
    url = options.pop("repo")
    if url is None:  # and not "", as from a variable that is not set: it must not become another repository
        url = os.environ.get(REPOSITORY_VARIABLE) or (known.url if known else None)
    if url is None:
        raise UsageError(
            f"no repository specified; use --repo, {REPOSITORY_VARIABLE} or the configuration file"
        )
    same = known if known is not None and known.url == url else None
    return RepositorySpec(url, key or (same.key if same else None), same.cache if same else None)
