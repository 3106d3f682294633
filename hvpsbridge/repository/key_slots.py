"""Key slots in a store: each wraps the master key of a repository with a passphrase."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from hvpsbridge.errors import ConfigurationError, Damaged, ObjectMissing
from hvpsbridge.formats.envelope import NONCE_BYTES
from hvpsbridge.formats.keyslot import (
    ARGON2ID,
    MAX_LABEL_BYTES,
    MAX_SLOT_BYTES,
    PRUNE,
    SALT_BYTES,
    KdfCost,
    KeySlot,
    check_slot,
)
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.record import decode_record, encode_record
from hvpsbridge.repository import sealing
from hvpsbridge.repository.layout import KEYS, is_object_name, slot_name
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.secret import Secret

DEFAULT_COST = KdfCost()
# More than any repository has. Beyond this, somebody adds slots.
MAX_SLOTS_READ = 256


def make_slot(
    master: bytes,
    repository_id: UUID,
    passphrase: Secret,
    label: str,
    cost: KdfCost,
    *,
    purpose: str = "",
) -> KeySlot:
    """A new slot in which ``passphrase`` wraps ``master``, or with the purpose ``PRUNE`` a part of its keys.

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
        purpose=purpose,
    )
    secret = master
    if purpose == PRUNE:
        secret = secrets.token_bytes(sealing.KEY_BYTES)
        keys = sealing.derive_keys(master, repository_id).for_prunes()
        slot = replace(slot, bundle=b"".join(sealing.wrap(secret, keys, slot.slot_id.bytes)))
    nonce, label_body = sealing.wrap(_label_key(master, slot), _label_bytes(label), slot.slot_id.bytes)
    slot = replace(slot, label=nonce + label_body)
    # The nonce is part of the associated data, so it is set first.
    slot = replace(slot, nonce=secrets.token_bytes(NONCE_BYTES))
    wrapped = sealing.seal_with(slot_key(slot, passphrase.reveal()), slot.nonce, secret, slot.bound_text())
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


def slot_names(store: Store) -> list[str]:
    """Names of slots, sorted; those whose size no slot can have are left out if there are too many."""
    found = [info for info in store.list(KEYS) if is_object_name(info.name) and info.size_bytes > 0]
    if len(found) > MAX_SLOTS_READ:
        found = [info for info in found if info.size_bytes <= MAX_SLOT_BYTES]
    return sorted(info.name for info in found)


def read_slot(store: Store, name: str) -> KeySlot | Damaged | None:
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


def slot_key(slot: KeySlot, passphrase: str) -> bytes:
    """The key that wraps the master key in ``slot``, if ``passphrase`` is right."""
    return sealing.stretch(passphrase, slot.salt, slot.memory_kib, slot.iterations, slot.lanes)


def _label_key(master: bytes, slot: KeySlot) -> bytes:
    return sealing.derive(master, slot.repository_id.bytes, b"hvps label key")


def label_of(master: bytes, slot: KeySlot) -> str | None:
    """The label; None if the slot was not made with the master key."""
    nonce, body = slot.label[:NONCE_BYTES], slot.label[NONCE_BYTES:]
    text = sealing.unwrap(_label_key(master, slot), nonce, body, slot.slot_id.bytes)
    return None if text is None else text.decode(errors="replace")
