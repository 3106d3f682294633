"""Creating and opening repositories."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from hvpsbridge.errors import (
    Damaged,
    NewerFormat,
    NoRepository,
    ObjectExists,
    ObjectMissing,
    RepositoryExists,
    StoreError,
    WrongKey,
)
from hvpsbridge.folders import user_folder
from hvpsbridge.formats.envelope import FORMAT
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.keyslot import KdfCost
from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.formats.record import encode_record
from hvpsbridge.formats.settings import (
    CONFIG_NAME,
    MAX_SETTINGS_BYTES,
    SETTINGS_NAMES,
    UPGRADE_NAME,
    decode_settings,
    new_settings,
)
from hvpsbridge.repository.cache_file import place_folder
from hvpsbridge.repository.check.restore_tool import RESTORE_NAME, shipped
from hvpsbridge.repository.key_slots import DEFAULT_COST, make_slot, write_slot
from hvpsbridge.repository.last_slot import LastSlot
from hvpsbridge.repository.layout import DATA, FOLDERS, INDEX, LEDGER, NODES, POINTS
from hvpsbridge.repository.probe import check_creation
from hvpsbridge.repository.repository import Repository
from hvpsbridge.repository.sealing import MASTER_BYTES, KeySealer, PlainSealer, Sealer, derive_keys
from hvpsbridge.repository.stores.base import OWN_NAMES, Store
from hvpsbridge.repository.stores.registry import open_store
from hvpsbridge.repository.unlocking import unlock
from hvpsbridge.secret import Secret
from hvpsbridge.units import KIB

# What only a repository has that was used; init leaves other folders when it dies.
_KEPT = frozenset({DATA, NODES, INDEX, POINTS, LEDGER})
# Chosen by benchmarks/churn_chunks.py; see docs/format.md#the-chunk-size.
DEFAULT_CHUNK_BYTES = 128 * KIB


def default_cache_folder() -> Path | None:
    """The default folder of index caches: ``$XDG_CACHE_HOME/hvps``, else ``~/.cache/hvps``.

    None for a user without a home folder: indexes are then in memory.
    """
    return user_folder("XDG_CACHE_HOME", ".cache")


def create_repository(
    url: str,
    *,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    key: Secret | None = None,
    label: str = "first",
    cost: KdfCost = DEFAULT_COST,
    cache_folder: Path | None = None,
) -> Repository:
    """Create a repository at ``url`` and open it.

    Args:
        url: see ``stores.registry.open_store``; a missing directory is created.
        chunk_bytes: chunk size; cannot be changed later.
        key: passphrase of the first key slot; None for a plain repository. Cannot be changed later.
        label: of that slot.
        cost: Argon2id costs of that slot.
        cache_folder: as with :func:`open_repository`.

    Raises:
        RepositoryExists: there is one, or the directory is not empty.
        ConfigurationError: the URL is not valid.
        StoreError: the store fails.
    """
    grid = ChunkGrid(chunk_bytes)
    store = open_store(url, create=True)
    folder = cache_folder or default_cache_folder()
    return create_on_store(store, grid, key=key, label=label, cost=cost, cache_folder=folder)


def create_on_store(
    store: Store,
    grid: ChunkGrid,
    *,
    key: Secret | None = None,
    label: str = "first",
    cost: KdfCost = DEFAULT_COST,
    cache_folder: Path | None = None,
    format: int = FORMAT,
) -> Repository:
    """Create a repository in a store and open it, as :func:`create_repository`, of this format."""
    repository_id = uuid4()
    master = None if key is None else secrets.token_bytes(MASTER_BYTES)
    slot_id = None
    folder = place_folder(cache_folder, repository_id, store.place)
    sealer: Sealer = PlainSealer(repository_id)
    if master is not None:
        sealer = KeySealer(derive_keys(master, repository_id))
    now = datetime.now(UTC)
    settings = new_settings(repository_id, now, grid.chunk_bytes, sealed=sealer.sealed, format=format)
    settings = replace(settings, check=sealer.settings_check(settings))
    if store.exists(CONFIG_NAME):
        raise RepositoryExists(store.url, "a repository exists there already")
    if _KEPT & store.content():
        what = f"objects of one are there, but not its `{CONFIG_NAME}`; restore that object from a copy"
        raise RepositoryExists(store.url, what)
    if store.remote:
        check_creation(store)
    with contextlib.suppress(ObjectExists):  # of an interrupted repo init
        store.put(RESTORE_NAME, shipped())
    if key is not None and master is not None:
        slot = make_slot(master, repository_id, key, label, cost)
        write_slot(store, slot)
        slot_id = slot.slot_id
        LastSlot(folder).remember(slot_id)
    # The settings are written last: with them the repository exists.
    try:
        store.put(CONFIG_NAME, encode_record(settings))
    except ObjectExists as err:
        raise RepositoryExists(store.url, "a repository exists there already") from err
    store.make_folders(FOLDERS)
    store.commit_barrier()
    return Repository(store, settings, sealer, folder, master=master, slot_id=slot_id)


def open_repository(url: str, *, key: Secret | None = None, cache_folder: Path | None = None) -> Repository:
    """The repository at ``url``.

    Args:
        url: see ``stores.registry.open_store``.
        key: passphrase or exported key; needed if the repository is encrypted.
        cache_folder: folder of index caches; each repository gets a folder in it.

    Raises:
        NoRepository: there is none.
        NewerFormat: a newer hvps created it.
        WrongKey: the key is missing or wrong.
        Damaged: its settings or key slots are damaged.
        StoreError: the store fails.
    """
    return open_on_store(open_store(url), key=key, cache_folder=cache_folder or default_cache_folder())


def open_on_store(store: Store, *, key: Secret | None = None, cache_folder: Path | None = None) -> Repository:
    """The repository in a store, as :func:`open_repository`; without a ``cache_folder``, it uses memory."""
    try:
        settings = decode_settings(_settings_data(store))
    except UnknownVersion as err:
        raise NewerFormat(store.url, err.found, FORMAT) from err
    except Malformed as err:
        raise Damaged(store.url, CONFIG_NAME, str(err)) from err
    sealer: Sealer = PlainSealer(settings.repository_id)
    master = slot_id = None
    folder = place_folder(cache_folder, settings.repository_id, store.place)
    if settings.sealed:
        last = LastSlot(folder)
        unlocked = unlock(store, settings, key, first=last.get())
        sealer, master, slot_id = KeySealer(unlocked.keys), unlocked.master, unlocked.slot_id
        last.remember(slot_id)
    elif key is not None:
        raise WrongKey(store.url, "it is not encrypted, but a key was given")
    if sealer.settings_check(settings) != settings.check:
        raise Damaged(store.url, CONFIG_NAME, "its check does not match")
    return Repository(store, settings, sealer, folder, master=master, slot_id=slot_id)


def _settings_data(store: Store) -> bytes:
    try:
        return store.get(CONFIG_NAME, MAX_SETTINGS_BYTES)
    except ObjectMissing as err:
        # Between two steps of an upgrade, the settings are in the second place only.
        with contextlib.suppress(ObjectMissing):
            return store.get(UPGRADE_NAME, MAX_SETTINGS_BYTES)
        # The upgrade may have ended between the two.
        with contextlib.suppress(ObjectMissing):
            return store.get(CONFIG_NAME, MAX_SETTINGS_BYTES)
        raise NoRepository(store.url, _instead(store)) from err


def _instead(store: Store) -> str:
    """What is at the place of a repository that is not there."""
    try:
        names = store.content()
    except StoreError as err:
        return f"there is no `{CONFIG_NAME}`, and nothing else can be listed: {err.reason}"
    if not names:
        return "nothing is there"
    if _KEPT & names:
        return f"objects of one are there, but not its `{CONFIG_NAME}`; restore that object from a copy"
    others = sorted(names - OWN_NAMES)
    return f"other files are there, such as {others[0]}" if others else "only its beginnings are there"


def repository_around(path: Path) -> Path | None:
    """The folder of the repository, of any, that a file of this path would be in; None if it is in none."""
    # Unlike Path.resolve, realpath takes loops, closed folders and names that are too long.
    for folder in Path(os.path.realpath(path)).parents:
        with contextlib.suppress(OSError, ValueError):
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            for name in SETTINGS_NAMES:
                if not (folder / name).exists():
                    continue
                descriptor = os.open(folder / name, flags)
                with os.fdopen(descriptor, "rb") as file:
                    is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
                    if is_file and _is_settings(file.read(MAX_SETTINGS_BYTES)):
                        return folder
    return None


def _is_settings(data: bytes) -> bool:
    try:
        decode_settings(data)
    except UnknownVersion:
        return True
    except Malformed:
        return False
    return True
