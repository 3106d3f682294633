"""Upgrades: everything stays readable at every step, and one that died is finished."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import (
    CollectRefused,
    Damaged,
    NoRepository,
    RepositoryLocked,
    StoreError,
    UpgradeRefused,
    WrongKey,
)
from hvpsbridge.formats import settings as settings_module
from hvpsbridge.formats.envelope import FORMAT
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.malformed import UnknownVersion
from hvpsbridge.formats.record import encode_record
from hvpsbridge.formats.settings import UPGRADE_NAME, decode_settings
from hvpsbridge.repository import Repository, upgrading
from hvpsbridge.repository.check.verify import Level
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.repository.holder import current_holder
from hvpsbridge.repository.opening import create_on_store, open_on_store
from tests.repository.conftest import CHEAP, CHUNK, KEY, VM, content_of, reopen, store_point
from tests.repository.memory_store import MemoryStore
from tests.repository.test_collect import Died, Dying

CONTENT = random.Random(1).randbytes(5 * CHUNK)


@pytest.fixture(params=["plain", "sealed"])
def old(request: pytest.FixtureRequest, store: MemoryStore) -> UUID:
    """A point in a repository of format 1."""
    key = KEY if request.param == "sealed" else None
    with create_on_store(store, ChunkGrid(CHUNK), key=key, cost=CHEAP, format=1) as repository:
        return store_point(repository, CONTENT).point_id


def upgrade(store: MemoryStore, *, wait: bool = False) -> None:
    with reopen_any(store) as repository:
        repository.upgrade(uuid4(), wait=wait)


def reopen_any(store: MemoryStore) -> Repository:
    """As ``reopen``, also while the settings are in the second place."""
    data = store.objects.get("config") or store.objects["upgrade"]

    return open_on_store(store, key=KEY if b'"sealed":true' in data else None)


def test_points_stay_and_new_ones_are_of_the_new_format(old: UUID, store: MemoryStore) -> None:
    upgrade(store)
    assert decode_settings(store.get("config")).format == FORMAT
    assert UPGRADE_NAME not in store.objects
    with reopen(store) as repository:
        assert content_of(repository, repository.catalog.points()[0]) == CONTENT
        made = store_point(repository, CONTENT[::-1])
        assert made.manifest.writer is not None
        repository.pruner.prune(repository.catalog.points()[:1])
        repository.collect(uuid4(), CollectOptions())
        assert not repository.verify(Level.HASHED).problems
        assert [point.point_id for point in repository.catalog.points()] == [made.point_id] != [old]


def test_an_older_hvps_refuses_it(old: UUID, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade(store)
    monkeypatch.setattr(settings_module, "FORMATS", (1,))
    with pytest.raises(UnknownVersion):
        decode_settings(store.get("config"))


def test_an_upgrade_that_died_anywhere_is_finished_by_the_next_one(old: UUID, store: MemoryStore) -> None:
    before, step, finished = dict(store.objects), 0, False
    while not finished:
        store.objects = dict(before)
        try:
            upgrade(Dying(store, step))
            finished = True
        except Died:
            pass
        with reopen_any(store) as repository:  # a restore, the night after
            assert content_of(repository, repository.catalog.points()[0]) == CONTENT
            assert repository.catalog.points()[0].point_id == old
        upgrade(store)
        assert decode_settings(store.get("config")).format == FORMAT
        assert UPGRADE_NAME not in store.objects
        with reopen(store) as repository:
            assert not repository.verify(Level.HASHED).problems
        step += 1
    assert step > 5


def test_what_somebody_put_into_the_second_place_is_replaced(old: UUID, store: MemoryStore) -> None:
    store.objects[UPGRADE_NAME] = b"planted"
    before, step, finished = dict(store.objects), 0, False
    while not finished:
        store.objects = dict(before)
        with contextlib.suppress(Died):
            upgrade(Dying(store, step))
            finished = True
        with reopen_any(store) as repository:
            assert repository.catalog.points()[0].point_id == old
        step += 1
    assert decode_settings(store.get("config")).format == FORMAT


def test_a_run_in_progress_is_refused_or_waited_for(old: UUID, store: MemoryStore) -> None:
    with reopen(store) as other:
        writer = other.begin(uuid4())
        with pytest.raises(RepositoryLocked):
            upgrade(store)
        assert decode_settings(store.get("config")).format == 1
        with reopen(store) as repository:
            upgrading.upgrade(
                repository._objects,
                repository.settings,
                uuid4(),
                wait=True,
                sleep=lambda seconds: writer.close(),
            )
    assert decode_settings(store.get("config")).format == FORMAT


def test_the_lease_on_a_vm_of_an_older_run_is_respected(old: UUID, store: MemoryStore) -> None:

    with reopen(store) as other, other.lease(VM, current_holder(uuid4())), pytest.raises(RepositoryLocked):
        upgrade(store)


class Append(MemoryStore):
    """A store that deletes nothing."""

    def delete(self, name: str) -> None:
        raise StoreError(self.url, "delete", name, "access denied")


def test_a_store_that_deletes_nothing_is_refused(old: UUID, store: MemoryStore) -> None:
    append = Append()
    append.objects = store.objects
    with pytest.raises(UpgradeRefused, match="access denied") as caught:
        upgrade(append)
    assert "hvps copy" in str(caught.value)
    with reopen(store) as repository:
        assert repository.settings.format == 1
        assert content_of(repository, repository.catalog.points()[0]) == CONTENT


def test_a_run_of_an_older_hvps_keeps_a_collect_from_deleting(old: UUID, store: MemoryStore) -> None:

    other = reopen(store)
    upgrade(store)
    writer = other.begin(uuid4())  # opened before the upgrade
    with reopen(store) as repository, pytest.raises(CollectRefused, match="before it was upgraded"):
        repository.collect(uuid4(), CollectOptions())
    writer.close()
    with reopen(store) as repository:
        repository.collect(uuid4(), CollectOptions())


def test_nothing_is_opened_where_both_places_are_empty(old: UUID, store: MemoryStore) -> None:
    del store.objects["config"]
    with pytest.raises(NoRepository):
        open_on_store(store, key=KEY)


def test_settings_of_another_repository_in_the_second_place_are_refused(
    old: UUID, store: MemoryStore
) -> None:
    settings = decode_settings(store.objects.pop("config"))

    store.objects["upgrade"] = encode_record(
        replace(settings, format=FORMAT)
    )  # its check is not computed again
    with pytest.raises((Damaged, WrongKey)):
        reopen_any(store)
