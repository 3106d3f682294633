"""``hvps key``: the keys of an encrypted repository."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from hvpsbridge.cli import compose, console
from hvpsbridge.cli.invocation import Invocation
from hvpsbridge.cli.options import (
    json_option,
    repository_options,
    repository_spec,
    secret_options,
    secret_reference,
)
from hvpsbridge.cli.signals import interrupting
from hvpsbridge.errors import ConfigurationError, UsageError
from hvpsbridge.folders import absolute
from hvpsbridge.formats.keyslot import EXPORT_MARK, PRUNE
from hvpsbridge.report.documents.repositories import KeySlotAdded, KeySlotRemoved, KeySlots
from hvpsbridge.report.views import Table
from hvpsbridge.repository import Repository
from hvpsbridge.repository.keys import SlotInfo
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB, size_text


@click.group("key")
def key_() -> None:
    """Manage the keys of an encrypted repository.

    A key slot holds the key of the repository, encrypted with a passphrase. Each slot opens the repository.
    """


def _opened(options: dict[str, Any], invocation: Invocation) -> Repository:
    return compose.repository(repository_spec(options, invocation), invocation, remind=False)


def _new_key(options: dict[str, Any], invocation: Invocation) -> Secret:
    reference = secret_reference("new-key", options)
    if reference is not None:
        return invocation.secret(reference, "new key")
    if not invocation.can_ask:
        raise UsageError("a new key is required; use --new-key-file, -command, -env or -fd")
    return invocation.new_secret("key")


@key_.command("list", short_help="List the key slots.")
@repository_options
@json_option
@click.pass_obj
def list_slots(invocation: Invocation, /, as_json: bool, **options: Any) -> None:
    """List the key slots. With --json also whether the key was ever exported."""
    with interrupting():
        repository = _opened(options, invocation)
        slots, exported = repository.keys.slots(), repository.keys.exported
    if as_json:
        console.document(KeySlots(exported, slots))
        return
    rows = tuple(
        (
            slot.slot_id.hex[:8],
            slot.label,
            f"{slot.created:%Y-%m-%d}",
            "prune only" if slot.purpose else "all",
            f"Argon2id {size_text(slot.cost.memory_kib * KIB)} x {slot.cost.iterations}",
        )
        for slot in slots
    )
    console.table(Table("key slots", ("slot", "label", "created", "opens", "cost"), rows))


@key_.command("add")
@click.option("--label", default="", help="Owner or purpose; stored encrypted.")
@click.option("--prune-only", is_flag=True, help="The passphrase can prune and collect, but read no disk.")
@secret_options("new-key", "new key")
@repository_options
@json_option
@click.pass_obj
def add(invocation: Invocation, /, label: str, prune_only: bool, as_json: bool, **options: Any) -> None:
    """Add a key slot: another passphrase that opens the repository.

    With --prune-only it opens the metadata: it lists points, prunes and collects, but cannot read or write
    what is on the disks.
    """
    new = _new_key(options, invocation)
    with interrupting():
        slot = _opened(options, invocation).keys.add(new, label, purpose=PRUNE if prune_only else "")
    _print_added(slot, as_json)


@key_.command("import")
@click.option("--label", default="imported", show_default=True, help="Owner or purpose; stored encrypted.")
@secret_options("new-key", "new key")
@repository_options
@json_option
@click.pass_obj
def import_(invocation: Invocation, /, label: str, as_json: bool, **options: Any) -> None:
    """Create a key slot from an exported key, for example when all passphrases are lost.

    Pass the exported key with --key-file, -command, -env or -fd.
    """
    spec = repository_spec(options, invocation)
    exported = compose.repository_key(spec, invocation)
    if exported is None or not exported.reveal().startswith(EXPORT_MARK):
        raise ConfigurationError("--key-file", "is not an exported key; create one with `hvps key export`")
    new = _new_key(options, invocation)
    with interrupting():
        repository = compose.opened_with(spec, exported, invocation)
        slot = repository.keys.add(new, label)
    _print_added(slot, as_json)


def _print_added(slot: SlotInfo, as_json: bool) -> None:
    if as_json:
        console.document(KeySlotAdded(slot))
    else:
        console.line(f"created key slot {slot.slot_id}")


@key_.command("remove")
@click.argument("slot")
@repository_options
@json_option
@click.pass_obj
def remove(invocation: Invocation, /, slot: str, as_json: bool, **options: Any) -> None:
    """Remove a key slot. SLOT is its id or the start of it.

    Pass the key of another slot, or the exported key.

    Users of the slot may have kept the key of the repository, which stays the same. To change that too,
    copy the points into a new repository with `hvps copy`.
    """
    with interrupting():
        repository = _opened(options, invocation)
        slot_id = _find(repository, slot)
        repository.keys.remove(slot_id)
    if as_json:
        console.document(KeySlotRemoved(slot_id))
    else:
        console.line(f"removed key slot {slot_id}; its users may have kept the key of the repository")


def _find(repository: Repository, text: str) -> UUID:
    start = text.lower().replace("-", "")
    found = [slot_id for slot_id in repository.keys.slot_ids() if start and slot_id.hex.startswith(start)]
    if len(found) != 1:
        what = "no key slot" if not found else f"{len(found)} key slots"
        raise ConfigurationError(f"slot {text}", f"{what} with this id; run `hvps key list` to list them")
    return found[0]


@key_.command("export")
@click.option("--to", "path", type=click.Path(path_type=Path), help="File to write, readable only by you.")
@click.option("--page", is_flag=True, help="Page to print, with instructions to restore without hvps.")
@repository_options
@click.pass_obj
def export(invocation: Invocation, /, path: Path | None, page: bool, **options: Any) -> None:
    """Print the key of the repository. Keep it in another place than the repository.

    The exported key opens the repository without a passphrase.
    """
    path = None if path is None else absolute(path)
    with interrupting():
        repository = _opened(options, invocation)
        if path is not None and path.exists():
            raise ConfigurationError(str(path), "already exists; use another path")
        if path is not None and repository.holds(path):
            raise ConfigurationError(str(path), "is inside the repository that it opens; use another place")
        exported = repository.keys.export()
    text = (exported.page if page else exported.text).reveal()
    if path is None:
        console.reveal(text)
    else:
        _write_new(path, text.rstrip("\n") + "\n")
        console.line(f"wrote {path}; keep it in another place than the repository")
    # Last: a key that was lost on the way must not end the reminder to export it.
    with interrupting():
        repository.keys.record_export()


def _write_new(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as err:
        raise ConfigurationError(str(path), f"cannot be written: {err.strerror}") from err
