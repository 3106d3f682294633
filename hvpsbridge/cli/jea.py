"""``hvps jea``: write the files that make a JEA endpoint for hvps on a host."""

from __future__ import annotations

from pathlib import Path

import click

from hvpsbridge.cli import console
from hvpsbridge.errors import UsageError
from hvpsbridge.errors.machine import machine_error
from hvpsbridge.folders import absolute
from hvpsbridge.host.connection import endpoint_name
from hvpsbridge.host.jea import DEFAULT_ENDPOINT, kit


@click.command("jea")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--group",
    "groups",
    multiple=True,
    required=True,
    metavar="NAME",
    help="Account or group that may use the endpoint, as DOMAIN\\name; repeatable.",
)
@click.option(
    "--restore-group",
    "restore_groups",
    multiple=True,
    metavar="NAME",
    help="Account or group that may also restore VMs onto the host; repeatable.",
)
@click.option(
    "--endpoint", default=DEFAULT_ENDPOINT, show_default=True, metavar="NAME", help="Name of the endpoint."
)
def jea_(folder: Path, groups: tuple[str, ...], restore_groups: tuple[str, ...], endpoint: str) -> None:
    """Write into FOLDER the files that make a JEA endpoint for hvps.

    Copy FOLDER to each host and run Register-HvpsEndpoint.ps1 there as administrator. Then set `jea` of the
    host in the configuration file or playbook. Write and register the files again after each update of hvps.
    Files of an earlier kit in FOLDER are replaced.
    """
    try:
        endpoint_name(endpoint)
    except ValueError as err:
        raise UsageError(f"--endpoint: {err}") from err
    if bad := next(
        (group for group in (*groups, *restore_groups) if not group.strip() or not group.isprintable()), None
    ):
        raise UsageError(f"--group: {bad!r} is not the name of an account")
    folder = absolute(folder)
    for name, text in kit(endpoint, groups, restore_groups).items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Windows PowerShell 5.1 reads a file without a byte order mark in the host's code page.
            path.write_text(text, encoding="ascii" if text.isascii() else "utf-8-sig", newline="\r\n")
        except OSError as err:
            raise machine_error(err, str(path)) or err from err
        console.line(str(path))
    console.note(f"hvps: copy {folder} to each host and run Register-HvpsEndpoint.ps1 there as administrator")
