"""``hvps sim serve``: run the simulated host until it is stopped."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from hvpsbridge.cli import console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.logs import redact
from hvpsbridge.cli.options import json_option, secret_options, secret_reference
from hvpsbridge.cli.sim_documents import SimInfo, SimServed
from hvpsbridge.errors import ConfigurationError
from hvpsbridge.secret import Secret
from hvpsbridge.sim.hosts import ENGINES, SCHEMES
from hvpsbridge.sim.server import serve as serve_world

_Command = TypeVar("_Command", bound=Callable[..., Any])

FOLDER_VARIABLE = "HVPS_SIM"
# In the state folder, for use without a password option.
PASSWORD_FILE = "password"  # noqa: S105 - the name of a file


def folder_option(command: _Command) -> _Command:
    """The option ``--folder``, which all commands of a simulated host have."""
    return click.option(
        "--folder",
        "-f",
        type=click.Path(file_okay=False, path_type=Path),
        envvar=FOLDER_VARIABLE,
        required=True,
        show_envvar=True,
        help="State folder of the simulated host.",
    )(command)


@click.command("serve", short_help="Run a simulated host.")
@folder_option
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=ENGINES[0],
    show_default=True,
    help="Run the scripts in Python (builtin) or in the PowerShell of HVPS_PWSH.",
)
@click.option(
    "--address",
    type=click.Choice(("127.0.0.1", "::1")),
    default="127.0.0.1",
    show_default=True,
    help="Loopback address to listen on.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on [default: a free one]."
)
@click.option(
    "--auth",
    type=click.Choice(SCHEMES),
    multiple=True,
    default=("basic",),
    show_default=True,
    help="Authentication method to accept; repeatable.",
)
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file with certificate and key, to use TLS; read again when it has changed.",
)
@click.option(
    "--client-ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file with the CA of client certificates, for --auth certificate.",
)
@click.option(
    "--strict-binding",
    is_flag=True,
    help="Refuse NTLM and Kerberos over TLS that is not bound to the certificate.",
)
@click.option(
    "--keytab",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Keytab of the host, for --auth negotiate and kerberos.",
)
@click.option(
    "--jea",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of hvps jea, to have its endpoint too; needs the powershell engine.",
)
@click.option("--user", default="backup", show_default=True, help="User that can log in.")
@secret_options("password", "password of the user")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@json_option
@click.pass_obj
def serve(
    invocation: Invocation,
    /,
    folder: Path,
    engine: str,
    address: str,
    port: int,
    auth: tuple[str, ...],
    certificate: Path | None,
    client_ca: Path | None,
    strict_binding: bool,
    keytab: Path | None,
    jea: Path | None,
    user: str,
    seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Run a simulated host on the loopback interface until SIGINT, SIGTERM or `hvps sim stop`.

    Prints its address when it listens. Without a password option, a password is created and kept in the
    state folder.
    """
    reference = secret_reference("password", options)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if reference is None:
        password = redact.add(_own_password(folder))
    else:
        password = invocation.secret(reference, "password of the user")

    def announce(facts: Mapping[str, Any]) -> None:
        if as_json:
            console.document(SimServed(SimInfo(**facts), user), indent=None)
        else:
            console.line(f"serving {facts['url']} ({engine} engine), user {user}")
        console.flush()

    try:
        serve_world(
            folder,
            engine=engine,
            users={user: password},
            address=address,
            port=port,
            certificate=certificate,
            client_ca=client_ca,
            strict_binding=strict_binding,
            auth=auth,
            keytab=keytab,
            jea=jea,
            seed=seed,
            announce=announce,
        )
    except OSError as err:
        raise ConfigurationError(f"port {port}", err.strerror or str(err)) from err


def _own_password(folder: Path) -> Secret:
    path = folder / PASSWORD_FILE
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return Secret(path.read_text(encoding="utf-8").strip())
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        password = secrets.token_urlsafe(18)
        file.write(f"{password}\n")
    return Secret(password)
