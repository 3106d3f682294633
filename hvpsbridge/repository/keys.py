"""Keys of an encrypted repository: key slots, and the exported key.

Removing a slot does not revoke access: someone who has opened the slot may have kept the master key. That
needs a new repository with another key (``hvps copy``).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hvpsbridge.errors import ConfigurationError, Damaged, KeyNeeded, ObjectMissing, StoreError, WrongKey
from hvpsbridge.formats.envelope import NONCE_BYTES, Kind
from hvpsbridge.formats.keyslot import (
    ARGON2ID,
    MAX_LABEL_BYTES,
    MAX_SLOT_BYTES,
    SALT_BYTES,
    ExportMark,
    KdfCost,
    KeySlot,
    check_slot,
    exported_text,
    parse_exported,
)
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.formats.settings import Settings
from hvpsbridge.repository import sealing
from hvpsbridge.repository.layout import EXPORTS, KEYS, is_object_name, slot_name
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.secret import Secret

logger = logging.getLogger(__name__)

DEFAULT_COST = KdfCost()
PAGE_WIDTH = 78
# More than any repository has. Beyond this, somebody adds slots.
MAX_SLOTS_READ = 256
# Read without trying them.
MAX_SLOTS_LISTED = 10_000
# What trying slots may cost in all: 64 slots of hvps, about ten seconds.
MAX_TRIED_KIB = 64 * DEFAULT_COST.total_kib


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


@dataclass(frozen=True, slots=True)
class _Slots:
    """Slots with their labels, damaged ones, and those that were not made with the key."""

    own: list[tuple[KeySlot, str]]
    damaged: list[Damaged]
    foreign: list[Damaged]


def make_slot(master: bytes, repository_id: UUID, passphrase: Secret, label: str, cost: KdfCost) -> KeySlot:
    """A new slot in which ``passphrase`` wraps ``master``.

    Raises:
        ValueError: the passphrase is empty.
        ConfigurationError: the label is too long.
    """
    if not passphrase:
        raise ValueError("the passphrase is empty")
    try:
        passphrase.reveal().encode()
    except UnicodeEncodeError:
        # Without the cause, which contains the passphrase.
        raise ConfigurationError("key", "is not valid UTF-8") from None
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
    nonce, label_body = sealing.wrap(_label_key(master, slot), _label_bytes(label), slot.slot_id.bytes)
    slot = replace(slot, label=nonce + label_body)
    # The nonce is part of the associated data, so it is set first.
    slot = replace(slot, nonce=secrets.token_bytes(NONCE_BYTES))
    wrapped = sealing.seal_with(_slot_key(slot, passphrase.reveal()), slot.nonce, master, slot.bound_text())
    slot = replace(slot, wrapped=wrapped)
    return replace(slot, check=slot.digest())


def _label_bytes(label: str) -> bytes:
    try:
        data = label.encode()
    except UnicodeEncodeError as err:
        raise ConfigurationError("label", "is not valid UTF-8") from err
    if len(data) > MAX_LABEL_BYTES:
        raise ConfigurationError("label", f"has {len(data)} bytes, but at most {MAX_LABEL_BYTES} are allowed")
    return data


def write_slot(store: Store, slot: KeySlot) -> None:
    """Store the slot durably."""
    store.put(slot_name(slot.slot_id), encode_record(slot))
    store.commit_barrier()


def unlock(
    store: Store, settings: Settings, key: Secret | None, *, first: UUID | None = None
) -> tuple[bytes, UUID | None]:
    """The master key, and the slot that it was in; None for an exported key.

    The master key of a slot is confirmed against the settings before it is returned. A slot that opens but
    holds another key is passed over with the same work and the same error as one that does not open, so its
    maker does not learn that he guessed the passphrase.

    Slots cannot be told from those that somebody added, so the number and the costs of those that are tried
    are bounded. Beyond that, chance decides which are, and nobody can put a slot behind others for ever.

    Args:
        store: where the slots are.
        settings: of the repository.
        key: passphrase or exported key.
        first: the slot that opened last time. It is tried before all others, and outside the bounds.

    Raises:
        WrongKey: the key is missing, or opens no slot.
        Damaged: it opens no slot, but it may belong to a slot that is damaged.
    """
    if key is None:
        raise WrongKey(store.url, "it is encrypted, and no key was given")
    try:
        key.reveal().encode()
    except UnicodeEncodeError:
        # Without the cause, which contains the key.
        raise WrongKey(store.url, "the key is not valid UTF-8") from None
    try:
        exported = parse_exported(key.reveal())
    except Malformed as err:
        raise WrongKey(store.url, str(err)) from err
    if exported is not None:
        if exported[1] != settings.repository_id:
            raise WrongKey(store.url, f"the exported key belongs to repository {exported[1]}")
        return exported[0], None
    names = _slot_names(store)
    secrets.SystemRandom().shuffle(names)
    if first is not None and slot_name(first) in names:
        names.remove(slot_name(first))
        names.insert(0, slot_name(first))
    passphrases = passphrase_forms(key.reveal())
    damaged: list[Damaged] = []
    tried = cost_kib = 0
    too_many = len(names) > MAX_SLOTS_READ
    for name in names[:MAX_SLOTS_READ]:
        slot = _read_slot(store, name)
        if isinstance(slot, Damaged):
            damaged.append(slot)
        # A concurrent repo init that failed may have left its slot, which is useless here.
        if not isinstance(slot, KeySlot) or slot.repository_id != settings.repository_id:
            continue
        cost = slot.cost.total_kib * len(passphrases)
        if cost_kib + cost > MAX_TRIED_KIB:
            too_many = True
            break
        tried += 1
        cost_kib += cost if slot.slot_id != first else 0
        for passphrase in passphrases:
            master = sealing.unwrap(_slot_key(slot, passphrase), slot.nonce, slot.wrapped, slot.bound_text())
            confirmed = _is_confirmed(master or bytes(sealing.MASTER_BYTES), settings)
            if master is not None and confirmed:
                return master, slot.slot_id
    if too_many:
        raise WrongKey(
            store.url,
            f"the key opens none of the {tried} key slots that were tried, but there are {len(names)}, more "
            "than are tried at once; try again, or use the exported key and remove slots that are not yours",
        )
    if damaged:
        raise damaged[0]
    if not tried:
        raise WrongKey(store.url, "it has no key slots; use the exported key")
    raise WrongKey(
        store.url,
        "the key is wrong: it does not open any key slot; if you are sure of it, use the exported key, which "
        "also shows whether the settings were changed",
    )


def _is_confirmed(master: bytes, settings: Settings) -> bool:
    sealer = sealing.KeySealer(master, settings.repository_id)
    return hmac.compare_digest(sealer.settings_check(settings), settings.check)


class KeyRing:
    """The key slots of an open repository, and the export of its key.

    Args:
        objects: of the repository.
        master: its master key; None for a plain one.
        restore_tool: the restore.py in it.
        opened_by: the slot that opened it; None for the exported key.
    """

    def __init__(
        self,
        objects: Objects,
        master: bytes | None,
        restore_tool: Callable[[], bytes],
        *,
        opened_by: UUID | None = None,
    ) -> None:
        self._objects = objects
        self._master = master
        self._opened_by = opened_by
        self._restore_tool = restore_tool

    def slots(self) -> tuple[SlotInfo, ...]:
        """The slots that were made with the key of this repository, oldest first; others are logged."""
        found = self._sort()
        for problem in (*found.damaged, *found.foreign):
            logger.error("%s", problem)
        return tuple(
            SlotInfo(slot.slot_id, label, slot.created, slot.cost)
            for slot, label in sorted(found.own, key=lambda own: own[0].created)
        )

    def damaged_slots(self) -> list[Damaged]:
        """Errors of slots that are damaged, or were not made with the key of this repository; a plain one has
        no slots."""
        if self._master is None:
            return []
        found = self._sort()
        return found.damaged + found.foreign

    def slot_ids(self) -> frozenset[UUID]:
        """Ids of everything that is named as a slot, whoever made it."""
        return frozenset(UUID(name.rsplit("/", 1)[1]) for name in _slot_names(self._objects.store))

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
            KeyNeeded: there is no such slot, it is the last one, or the repository was opened with it.
        """
        store = self._objects.store
        names = _slot_names(store)
        if slot_name(slot_id) not in names:
            raise KeyNeeded(store.url, f"there is no slot {slot_id}")
        if self._label_of(slot_name(slot_id)) is None:
            # Damaged or somebody else's. It opens nothing, so it never counts as one that remains.
            store.delete(slot_name(slot_id))
            store.commit_barrier()
            return
        if self._none_remains(slot_id):
            raise KeyNeeded(store.url, "this is the last slot; add another slot first")
        if self._opened_by == slot_id:
            what = "the key that was given opens this slot; give the key of a slot that stays"
            raise KeyNeeded(store.url, what)
        removed = store.get(slot_name(slot_id), MAX_SLOT_BYTES)
        store.delete(slot_name(slot_id))
        if self._none_remains(slot_id):
            # Another process removed the other one at the same time, and one slot is needed.
            store.put(slot_name(slot_id), removed)
            store.commit_barrier()
            raise KeyNeeded(store.url, "this is the last slot; add another slot first")
        store.commit_barrier()

    def _none_remains(self, slot_id: UUID) -> bool:
        """Whether it is not certain that a slot remains besides ``slot_id``.

        A label shows who made a slot, but not that the rest of it is whole: somebody may have put the label
        of a removed slot back with something else. So the slot that was opened counts, and others only if it
        is this one or if the exported key was given.
        """
        names = set(_slot_names(self._objects.store))
        if self._opened_by is not None and self._opened_by != slot_id:
            return slot_name(self._opened_by) not in names
        others = (name for name in sorted(names - {slot_name(slot_id)})[:MAX_SLOTS_LISTED])
        return not any(label is not None for label in map(self._label_of, others))

    def _label_of(self, name: str) -> str | None:
        """The label of a slot; None if it is gone, damaged, or was not made with the master key."""
        slot = _read_slot(self._objects.store, name)
        if not isinstance(slot, KeySlot) or slot.repository_id != self._objects.repository_id:
            return None
        return _label(self._master_key(), slot)

    def _sort(self) -> _Slots:
        """All slots, by what is known of them. A label was made with the master key, and for one slot id."""
        master = self._master_key()
        found = _Slots([], [], [])
        names = _slot_names(self._objects.store)[:MAX_SLOTS_LISTED]
        for slot in self._objects.each(lambda name: _read_slot(self._objects.store, name), names):
            if isinstance(slot, Damaged):
                found.damaged.append(slot)
            elif slot is not None and slot.repository_id == self._objects.repository_id:
                label = _label(master, slot)
                if label is not None:
                    found.own.append((slot, label))
                else:
                    what = "it was not made with the key of this repository; `hvps key remove` removes it"
                    found.foreign.append(self._objects.damaged(slot_name(slot.slot_id), what))
        return found

    def export(self) -> ExportedKey:
        """Export the master key, and record that if possible, which ends the reminder to do so.

        Raises:
            KeyNeeded: the repository is plain.
        """
        master = self._master_key()
        text = exported_text(master, self._objects.repository_id)
        digest = hashlib.sha256(self._restore_tool()).hexdigest()
        page = _page(text, self._objects.repository_id, digest)
        try:
            self._objects.append_record(EXPORTS, Kind.EXPORT, ExportMark(datetime.now(UTC)))
            self._objects.store.commit_barrier()
        except StoreError as err:
            # A repository that cannot be written to is when the key may be needed most.
            logger.warning("cannot record that the key was exported: %s", err)
        return ExportedKey(Secret(text), Secret(page), digest)

    @property
    def exported(self) -> bool:
        """Whether the key was exported at some time. True for a plain repository."""
        return self._master is None or any(True for _ in self._objects.list(EXPORTS))

    def _master_key(self) -> bytes:
        if self._master is None:
            raise KeyNeeded(self._objects.store.url, "it is plain, so it has no keys")
        return self._master


def passphrase_forms(passphrase: str) -> tuple[str, ...]:
    """The passphrase as it was given, then in the forms that other systems give the same letters.

    macOS often decomposes accented letters (NFD), other systems compose them (NFC). At most three.
    """
    composed, decomposed = (unicodedata.normalize(form, passphrase) for form in ("NFC", "NFD"))
    return tuple(dict.fromkeys((passphrase, composed, decomposed)))


def _slot_key(slot: KeySlot, passphrase: str) -> bytes:
    return sealing.stretch(passphrase, slot.salt, slot.memory_kib, slot.iterations, slot.lanes)


def _label_key(master: bytes, slot: KeySlot) -> bytes:
    return sealing.derive(master, slot.repository_id.bytes, b"hvps label key")


def _label(master: bytes, slot: KeySlot) -> str | None:
    nonce, body = slot.label[:NONCE_BYTES], slot.label[NONCE_BYTES:]
    text = sealing.unwrap(_label_key(master, slot), nonce, body, slot.slot_id.bytes)
    return None if text is None else text.decode(errors="replace")


def _slot_names(store: Store) -> list[str]:
    """Names of slots, sorted; those whose size no slot can have are left out if there are too many."""
    found = [info for info in store.list(KEYS) if is_object_name(info.name) and info.size_bytes > 0]
    if len(found) > MAX_SLOTS_READ:
        found = [info for info in found if info.size_bytes <= MAX_SLOT_BYTES]
    return sorted(info.name for info in found)


def _read_slot(store: Store, name: str) -> KeySlot | Damaged | None:
    """The slot, or what is wrong with it; None when it was removed since the listing."""
    try:
        slot = decode_record(KeySlot, store.get(name, MAX_SLOT_BYTES))
        check_slot(slot)
        if slot_name(slot.slot_id) != name:
            raise Malformed("it has the name of another slot")
    except ObjectMissing:
        return None
    except Damaged as err:
        return err
    except Malformed as err:
        return Damaged(store.url, name, str(err))
    return slot


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
