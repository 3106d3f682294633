"""Keys of an encrypted repository: key slots, and the exported key.

Removing a slot does not revoke access: someone who has opened the slot may have kept the master key. That
needs a new repository with another key (``hvps copy``).
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hvpsbridge.errors import Damaged, KeyNeeded, ObjectMissing, WrongKey
from hvpsbridge.formats.envelope import NONCE_BYTES, Kind
from hvpsbridge.formats.keyslot import (
    ARGON2ID,
    ExportMark,
    KdfCost,
    KeySlot,
    check_slot,
    exported_text,
    parse_exported,
)
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.repository import sealing
from hvpsbridge.repository.layout import EXPORTS, KEYS, counted, counter_of, slot_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.secret import Secret

logger = logging.getLogger(__name__)

DEFAULT_COST = KdfCost()
SALT_BYTES = 16
PAGE_WIDTH = 78
_SLOT_NAME = re.compile(KEYS + r"/[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class SlotInfo:
    """A slot, as shown to users."""

    slot_id: UUID
    label: str
    created: datetime
    cost: KdfCost


@dataclass(frozen=True, slots=True)
class ExportedKey:
    """An exported key.

    Attributes:
        text: one line; can be used wherever a passphrase can.
        page: the same for printing, with instructions to restore without hvps.
        restore_sha256: digest of restore.py.
    """

    text: Secret
    page: Secret
    restore_sha256: str


def make_slot(master: bytes, repository_id: UUID, passphrase: Secret, label: str, cost: KdfCost) -> KeySlot:
    """A new slot in which ``passphrase`` wraps ``master``.

    Raises:
        ValueError: the passphrase is empty.
    """
    if not passphrase:
        raise ValueError("the passphrase is empty")
    slot = KeySlot(
        slot_id=uuid4(),
        repository_id=repository_id,
        created=datetime.now(UTC),
        kdf=ARGON2ID,
        memory_kib=cost.memory_kib,
        iterations=cost.iterations,
        lanes=cost.lanes,
        salt=secrets.token_bytes(SALT_BYTES),
        nonce=b"",
    )
    nonce, label_body = sealing.wrap(_label_key(master, slot), label.encode(), slot.slot_id.bytes)
    slot = replace(slot, label=nonce + label_body)
    # The nonce is part of the associated data, so it is set first.
    slot = replace(slot, nonce=secrets.token_bytes(NONCE_BYTES))
    wrapped = sealing.seal_with(_slot_key(slot, passphrase), slot.nonce, master, slot.bound_text())
    slot = replace(slot, wrapped=wrapped)
    return replace(slot, check=slot.digest())


def write_slot(store: Store, slot: KeySlot) -> None:
    """Store the slot durably."""
    store.put(slot_name(slot.slot_id), encode_record(slot))
    store.commit_barrier()


def unlock(store: Store, repository_id: UUID, key: Secret | None) -> bytes:
    """The master key.

    Args:
        store: where the slots are.
        repository_id: the repository.
        key: passphrase or exported key.

    Raises:
        WrongKey: the key is missing, or opens no slot.
        Damaged: it opens no slot, but it may belong to a slot that is damaged.
    """
    if key is None:
        raise WrongKey(store.url, "it is encrypted, and no key was given")
    try:
        exported = parse_exported(key.reveal())
    except Malformed as err:
        raise WrongKey(store.url, str(err)) from err
    if exported is not None:
        if exported[1] != repository_id:
            raise WrongKey(store.url, f"the exported key belongs to repository {exported[1]}")
        return exported[0]
    slots, damaged = _read_slots(store, repository_id)
    for slot in slots:
        master = sealing.unwrap(_slot_key(slot, key), slot.nonce, slot.wrapped, slot.bound_text())
        if master is not None:
            return master
    if damaged:
        raise damaged[0]
    if not slots:
        raise WrongKey(store.url, "it has no key slots; use the exported key")
    raise WrongKey(store.url, "the key is wrong: it does not open any key slot")


class KeyRing:
    """The key slots of an open repository, and the export of its key."""

    def __init__(self, objects: Objects, master: bytes | None, restore_tool: Callable[[], bytes]) -> None:
        self._objects = objects
        self._master = master
        self._restore_tool = restore_tool

    def slots(self) -> tuple[SlotInfo, ...]:
        """All slots, oldest first; damaged ones are logged and left out."""
        master = self._master_key()
        slots, damaged = _read_slots(self._objects.store, self._objects.repository_id)
        for problem in damaged:
            logger.error("%s", problem)
        return tuple(
            SlotInfo(
                slot.slot_id,
                _label(master, slot),
                slot.created,
                KdfCost(slot.memory_kib, slot.iterations, slot.lanes),
            )
            for slot in sorted(slots, key=lambda slot: slot.created)
        )

    def damaged_slots(self) -> list[Damaged]:
        """Errors of damaged slots."""
        return _read_slots(self._objects.store, self._objects.repository_id)[1]

    def add(self, passphrase: Secret, label: str = "", *, cost: KdfCost = DEFAULT_COST) -> SlotInfo:
        """Add a slot for ``passphrase``.

        Raises:
            KeyNeeded: the repository is plain.
            ValueError: the passphrase is empty.
        """
        slot = make_slot(self._master_key(), self._objects.repository_id, passphrase, label, cost)
        write_slot(self._objects.store, slot)
        return SlotInfo(slot.slot_id, label, slot.created, cost)

    def remove(self, slot_id: UUID) -> None:
        """Remove a slot. This does not revoke access from someone who has used its passphrase.

        Raises:
            KeyNeeded: there is no such slot, or it is the last one.
        """
        self._master_key()
        slots, _ = _read_slots(self._objects.store, self._objects.repository_id)
        known = {slot.slot_id for slot in slots}
        if slot_id not in known:
            raise KeyNeeded(self._objects.store.url, f"there is no slot {slot_id}")
        if known == {slot_id}:
            raise KeyNeeded(self._objects.store.url, "this is the last slot; add another slot first")
        (removed,) = (slot for slot in slots if slot.slot_id == slot_id)
        self._objects.store.delete(slot_name(slot_id))
        if not _read_slots(self._objects.store, self._objects.repository_id)[0]:
            # Another process removed the other one at the same time, and one slot is needed.
            write_slot(self._objects.store, removed)
            raise KeyNeeded(self._objects.store.url, "this is the last slot; add another slot first")
        self._objects.store.commit_barrier()

    def export(self) -> ExportedKey:
        """Export the master key, and record that, which ends the reminder to do so.

        Raises:
            KeyNeeded: the repository is plain.
        """
        master = self._master_key()
        text = exported_text(master, self._objects.repository_id)
        digest = hashlib.sha256(self._restore_tool()).hexdigest()
        page = _page(text, self._objects.repository_id, digest)
        number = max((counter_of(info.name) for info in self._objects.list(EXPORTS)), default=-1) + 1
        self._objects.write(
            counted(EXPORTS, number), Kind.EXPORT, encode_record(ExportMark(datetime.now(UTC)))
        )
        self._objects.store.commit_barrier()
        return ExportedKey(Secret(text), Secret(page), digest)

    @property
    def exported(self) -> bool:
        """Whether the key was exported at some time. True for a plain repository."""
        return self._master is None or any(True for _ in self._objects.list(EXPORTS))

    def _master_key(self) -> bytes:
        if self._master is None:
            raise KeyNeeded(self._objects.store.url, "it is plain, so it has no keys")
        return self._master


def _slot_key(slot: KeySlot, passphrase: Secret) -> bytes:
    return sealing.stretch(passphrase.reveal(), slot.salt, slot.memory_kib, slot.iterations, slot.lanes)


def _label_key(master: bytes, slot: KeySlot) -> bytes:
    return sealing.derive(master, slot.repository_id.bytes, b"hvps label key")


def _label(master: bytes, slot: KeySlot) -> str:
    nonce, body = slot.label[:NONCE_BYTES], slot.label[NONCE_BYTES:]
    text = sealing.unwrap(_label_key(master, slot), nonce, body, slot.slot_id.bytes)
    return "(unreadable)" if text is None else text.decode()


def _read_slots(store: Store, repository_id: UUID) -> tuple[list[KeySlot], list[Damaged]]:
    """Intact slots of this repository, and errors of damaged ones."""
    slots: list[KeySlot] = []
    damaged: list[Damaged] = []
    for info in list(store.list(KEYS)):
        if not _SLOT_NAME.fullmatch(info.name):
            continue  # not an object of hvps
        try:
            slot = decode_record(KeySlot, store.get(info.name))
            check_slot(slot)
            if slot_name(slot.slot_id) != info.name:
                raise Malformed("it has the name of another slot")
        except ObjectMissing:
            continue  # removed since the listing
        except Malformed as err:
            damaged.append(Damaged(store.url, info.name, str(err)))
            continue
        # A concurrent repo init that failed may have left its slot, which is useless here.
        if slot.repository_id == repository_id:
            slots.append(slot)
    return slots, damaged


def _page(text: str, repository_id: UUID, restore_sha256: str) -> str:
    _, _, groups = text.split(" ")
    rows = groups.split("-")
    lines = ["    " + "-".join(rows[at : at + 6]) for at in range(0, len(rows), 6)]
    rule = "-" * PAGE_WIDTH
    return "\n".join(
        [
            rule,
            "KEY OF AN HVPS BACKUP REPOSITORY",
            "",
            f"Repository   {repository_id}",
            f"Printed      {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "",
            "Anyone who has this page and the repository can read every backup in it.",
            "Without this page or a passphrase, no one can read them.",
            "",
            "Key (72 digits, 0-9 and a-f; the last 8 are a check):",
            "",
            *lines,
            "",
            "In the form that hvps accepts as a key (line breaks do not matter):",
            "",
            f"    {text[: text.index(' ', 12)]}",
            f"      {groups[: len(groups) // 2]}",
            f"      {groups[len(groups) // 2 :]}",
            "",
            "Restoring without hvps: the repository holds restore.py. Its SHA-256 is",
            "",
            f"    {restore_sha256}",
            "",
            "Check it with sha256sum; then, with Python 3.11 and the packages zstandard",
            "and cryptography:  python3 restore.py --key-file KEYFILE REPOSITORY list",
            rule,
            "",
        ]
    )
