"""Unlocking an encrypted repository with a passphrase or an exported key."""

from __future__ import annotations

import hmac
import secrets
import unicodedata
from dataclasses import dataclass, field
from uuid import UUID

from hvpsbridge.errors import Damaged, WrongKey
from hvpsbridge.formats.envelope import NONCE_BYTES
from hvpsbridge.formats.keyslot import PRUNE, KeySlot, parse_exported
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.settings import Settings
from hvpsbridge.repository import sealing
from hvpsbridge.repository.key_slots import DEFAULT_COST, MAX_SLOTS_READ, read_slot, slot_key, slot_names
from hvpsbridge.repository.layout import slot_name
from hvpsbridge.repository.sealing import Keys, KeySealer
from hvpsbridge.repository.stores.base import Store
from hvpsbridge.secret import Secret

# What trying slots may cost in all: 64 slots of hvps, about ten seconds.
MAX_TRIED_KIB = 64 * DEFAULT_COST.total_kib


@dataclass(frozen=True, slots=True)
class Unlocked:
    """Keys of a repository.

    Attributes:
        keys: those that the slot has.
        master: the master key; None if the slot is for prunes.
        slot_id: the slot; None for an exported key.
    """

    keys: Keys
    master: bytes | None = field(repr=False)
    slot_id: UUID | None


def unlock(store: Store, settings: Settings, key: Secret | None, *, first: UUID | None = None) -> Unlocked:
    """The keys that ``key`` opens.

    The key of a slot is confirmed against the settings before it is returned. A slot that opens but
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
        raise WrongKey(
            store.url,
            "it is encrypted, and no key was given; say where the key is, for example with --key-file, "
            "or in the playbook or the configuration file",
        )
    try:
        key.reveal().encode()
    except UnicodeEncodeError:
        # Without the cause, which contains the key.
        raise WrongKey(store.url, "the key is not valid UTF-8") from None
    try:
        exported = parse_exported(key.reveal())
    except Malformed as err:
        raise WrongKey(store.url, str(err)) from err
    if exported is None:
        return _unlock_slot(store, settings, key, first)
    master, repository_id = exported
    if repository_id != settings.repository_id:
        raise WrongKey(store.url, f"the exported key belongs to repository {repository_id}")
    return Unlocked(sealing.derive_keys(master, repository_id), master, None)


def _unlock_slot(store: Store, settings: Settings, key: Secret, first: UUID | None) -> Unlocked:
    names = _in_order_of_trial(slot_names(store), first)
    passphrases = passphrase_forms(key.reveal())
    damaged: list[Damaged] = []
    tried = cost_kib = 0
    too_many = len(names) > MAX_SLOTS_READ
    for name in names[:MAX_SLOTS_READ]:
        slot = read_slot(store, name)
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
            if (unlocked := _keys_in(slot, passphrase, settings)) is not None:
                return unlocked
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


def _in_order_of_trial(names: list[str], first: UUID | None) -> list[str]:
    """The names in random order, but that of slot ``first`` first."""
    secrets.SystemRandom().shuffle(names)
    return sorted(names, key=lambda name: first is None or name != slot_name(first))


def _keys_in(slot: KeySlot, passphrase: str, settings: Settings) -> Unlocked | None:
    """The keys in the slot; None if the passphrase is wrong, or the keys are not those of the settings."""
    secret = sealing.unwrap(slot_key(slot, passphrase), slot.nonce, slot.wrapped, slot.bound_text())
    # A wrong passphrase takes the same work as a wrong key.
    master = secret or bytes(sealing.MASTER_BYTES)
    keys = sealing.derive_keys(master, settings.repository_id)
    if slot.purpose == PRUNE:
        nonce, body = slot.bundle[:NONCE_BYTES], slot.bundle[NONCE_BYTES:]
        bundle = sealing.unwrap(master, nonce, body, slot.slot_id.bytes)
        keys = sealing.keys_for_prunes(bundle or bytes(3 * sealing.KEY_BYTES))
    confirmed = hmac.compare_digest(KeySealer(keys).settings_check(settings), settings.check)
    if secret is None or not confirmed:
        return None
    return Unlocked(keys, None if slot.purpose else secret, slot.slot_id)


def passphrase_forms(passphrase: str) -> tuple[str, ...]:
    """The passphrase as it was given, then in the forms that other systems give the same letters.

    macOS often decomposes accented letters (NFD), other systems compose them (NFC). At most three.
    """
    composed, decomposed = (unicodedata.normalize(form, passphrase) for form in ("NFC", "NFD"))
    return tuple(dict.fromkeys((passphrase, composed, decomposed)))
