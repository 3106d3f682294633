"""Options that several commands share, and the specs they stand for.

A secret has four options (``--password-file``, ``-command``, ``-env``, ``-fd``), all references: a value
on the command line would be seen by every user of the machine in the process list.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.errors import UsageError
from hvpsbridge.playbook.places import Authentication, HostSpec, RepositorySpec, SecretRef
from hvpsbridge.playbook.specs import MAX_FORKS
from hvpsbridge.playbook.task_options import (
    MAX_BLOCK_BYTES,
    MAX_READERS,
    MAX_WINDOW_BYTES,
    MIN_BLOCK_BYTES,
    MIN_WINDOW_BYTES,
    Compression,
    RunLimits,
    TuningOptions,
)
from hvpsbridge.playbook.types import disk_pattern
from hvpsbridge.units import parse_duration, parse_size, size_text

_Command = TypeVar("_Command", bound=Callable[..., Any])

REPOSITORY_VARIABLE = "HVPS_REPO"
# Bounds of sizes that are given as text.
SIZES = {"block": (MIN_BLOCK_BYTES, MAX_BLOCK_BYTES), "window": (MIN_WINDOW_BYTES, MAX_WINDOW_BYTES)}


def size_bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Callback of options that take a byte count such as ``64KiB``."""
    try:
        return None if value is None else parse_size(value)
    except ValueError as err:
        raise click.BadParameter(str(err), context, parameter) from err


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Callback of options that take a duration such as ``15m``."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as err:
        raise click.BadParameter(str(err), context, parameter) from err


def disk_patterns(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Callback of options that take patterns of disks."""
    try:
        return tuple(map(disk_pattern, values))
    except ValueError as err:
        raise click.BadParameter(str(err), context, parameter) from err


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


connection_options = _stacked(
    click.option("--user", "-u", help="Account, an administrator of the host."),
    click.option(
        "--auth",
        type=click.Choice([auth.value for auth in Authentication]),
        help="How the account proves itself; negotiate without it.",
    ),
    secret_options("password", "password"),
    click.option("--ca", type=click.Path(path_type=Path), help="CA certificates that sign the host's, PEM."),
    click.option("--port", type=click.IntRange(1, 65535), help="Port when HOST is a bare name."),
    click.option(
        "--connect-timeout", callback=seconds, metavar="DURATION", help="How long to wait for a connection."
    ),
)

repository_options = _stacked(
    click.option(
        "--repo",
        "-r",
        metavar="URL",
        help=f"Repository; without it {REPOSITORY_VARIABLE} or the configuration file.",
    ),
    secret_options("key", "repository's key"),
)


limit_options = _stacked(
    click.option("--forks", type=click.IntRange(1, MAX_FORKS), help="VMs worked on at a time."),
    click.option("--rate", callback=size_bytes, metavar="SIZE", help="Bytes a second over the network."),
    click.option("--most-readers", type=click.IntRange(min=1), help="Readers at work at a time."),
    click.option("--most-readers-per-host", type=click.IntRange(min=1), help="Of them on one host."),
    click.option("--most-readers-per-volume", type=click.IntRange(min=1), help="Of them on one volume."),
    click.option("--most-shells-per-host", type=click.IntRange(min=1), help="Shells for disks on one host."),
)

tuning_options = _stacked(
    click.option("--readers", type=click.IntRange(1, MAX_READERS), help="Pipelines of each disk."),
    click.option(
        "--compression",
        type=click.Choice([choice.value for choice in Compression]),
        default=Compression.AUTO.value,
        show_default=True,
        help="Whether the host deflates what pays.",
    ),
    click.option("--block", callback=size_bytes, metavar="SIZE", help="Raw bytes of a block."),
    click.option("--window", callback=size_bytes, metavar="SIZE", help="Raw bytes of a request."),
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
    help="Print one JSON document, also of a failure.",
)


def secret_reference(name: str, options: dict[str, Any]) -> SecretRef | None:
    """The reference that the ``--NAME-...`` options give; taken out of ``options``. None without any.

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
    """How to reach HOST: by its name in the configuration file, else by address; options win.

    The password is asked for when the account needs one and nothing says where it is.
    """
    known = invocation.settings.hosts.get(host)
    address = known.address if known else host
    port = options.pop("port")
    if port is not None:
        if "//" in address or address.count(":") == 1:
            raise UsageError("--port is for a bare host name; this address says its own")
        address = f"https://{address}:{port}"
    user = options.pop("user") or (known.user if known else None)
    auth_text = options.pop("auth")
    auth = Authentication(auth_text) if auth_text else known.auth if known else Authentication.NEGOTIATE
    password = secret_reference("password", options) or (known.password if known else None)
    if password is None and user is not None and auth is not Authentication.KERBEROS:
        password = SecretRef(prompt=f"Password of {user} on {host}")
    timeout = options.pop("connect_timeout")
    defaults = known or HostSpec(address=address)
    return HostSpec(
        address=address,
        user=user,
        auth=auth,
        password=password,
        ca=options.pop("ca") or defaults.ca,
        operation_timeout=defaults.operation_timeout,
        read_timeout=defaults.read_timeout,
        connect_timeout=defaults.connect_timeout if timeout is None else timeout,
    )


def run_limits(options: dict[str, Any], before: RunLimits) -> RunLimits:
    """The limits of a run: those of the options, taken out of ``options``, else those of ``before``.

    Raises:
        UsageError: one makes no sense.
    """
    given = {
        "rate": options.pop("rate"),
        "readers": options.pop("most_readers"),
        "readers_per_host": options.pop("most_readers_per_host"),
        "readers_per_volume": options.pop("most_readers_per_volume"),
        "shells_per_host": options.pop("most_shells_per_host"),
    }
    if given["rate"] == 0:
        raise UsageError("--rate: nothing would ever come")
    return replace(before, **{name: value for name, value in given.items() if value is not None})


def tuning(options: dict[str, Any]) -> TuningOptions:
    """How disks are read, of the options; taken out of ``options``.

    Raises:
        UsageError: a size is out of bounds.
    """
    given = {name: options.pop(name) for name in ("readers", "compression", "block", "window")}
    for name, (least, most) in SIZES.items():
        if given[name] is not None and not least <= given[name] <= most:
            raise UsageError(f"--{name}: from {size_text(least)} to {size_text(most)}")
    return TuningOptions(**{**given, "compression": Compression(given["compression"])})


def host_name(host: str, invocation: Invocation) -> str:
    """What HOST is called in logs, reports and points: its name in the configuration file, else the server
    of its address, with the port when the address has one."""
    if host in invocation.settings.hosts:
        return host
    return host.partition("://")[2].partition("/")[0] or host


def repository_spec(options: dict[str, Any], invocation: Invocation) -> RepositorySpec:
    """The repository of ``--repo``, ``HVPS_REPO`` or the configuration file, in this order.

    Raises:
        UsageError: none of them names one.
    """
    key = secret_reference("key", options)
    known = invocation.settings.repository
    url = options.pop("repo") or os.environ.get(REPOSITORY_VARIABLE) or (known.url if known else None)
    if not url:
        raise UsageError(
            f"no repository is named; use --repo, {REPOSITORY_VARIABLE} or the configuration file"
        )
    same = known if known is not None and known.url == url else None
    return RepositorySpec(url, key or (same.key if same else None), same.cache if same else None)
