"""One conformance suite over every store, and what is particular to the local one."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hvpsbridge.errors import (
    ConfigurationError,
    NoRepository,
    NoSpace,
    ObjectExists,
    ObjectMissing,
    StoreError,
)
from hvpsbridge.repository.stores.base import Store, check_name
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.repository.stores.memory import MemoryStore
from hvpsbridge.repository.stores.url import open_store

StoreMaker = Callable[[], Store]


@pytest.fixture(params=["memory", "local"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return LocalStore(tmp_path / "store", create=True)


class TestEveryStore:
    def test_gives_back_what_was_put(self, any_store: Store) -> None:
        any_store.put("data/ab/one", b"some bytes")
        assert any_store.get("data/ab/one") == b"some bytes"
        assert any_store.size("data/ab/one") == 10

    def test_never_replaces_an_object(self, any_store: Store) -> None:
        any_store.put("points/one", b"first")
        with pytest.raises(ObjectExists):
            any_store.put("points/one", b"second")
        assert any_store.get("points/one") == b"first"

    def test_lets_exactly_one_of_many_create_a_name(self, any_store: Store) -> None:
        won: list[int] = []
        together = threading.Barrier(8)

        def create(number: int) -> None:
            together.wait()
            try:
                any_store.put("leases/one", b"%d" % number)
            except ObjectExists:
                return
            won.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert any_store.get("leases/one") == b"%d" % won[0]

    def test_shows_nothing_of_a_sink_before_it_is_published(self, any_store: Store) -> None:
        sink = any_store.sink("data/ab/pack")
        sink.write(b"half")
        with pytest.raises(ObjectMissing):
            any_store.get("data/ab/pack")
        assert list(any_store.list("data")) == []
        sink.write(b" whole")
        sink.publish()
        assert any_store.get("data/ab/pack") == b"half whole"

    def test_forgets_an_abandoned_sink(self, any_store: Store) -> None:
        sink = any_store.sink("data/ab/pack")
        sink.write(b"half")
        sink.abandon()
        assert list(any_store.list("data")) == []
        any_store.put("data/ab/pack", b"another")
        sink.abandon()
        assert any_store.get("data/ab/pack") == b"another"

    def test_refuses_a_sink_whose_name_was_taken_meanwhile(self, any_store: Store) -> None:
        sink = any_store.sink("data/ab/pack")
        sink.write(b"late")
        any_store.put("data/ab/pack", b"early")
        with pytest.raises(ObjectExists):
            sink.publish()
        sink.abandon()
        assert any_store.get("data/ab/pack") == b"early"

    def test_reads_ranges_exactly(self, any_store: Store) -> None:
        any_store.put("data/ab/one", bytes(range(100)))
        assert any_store.get_range("data/ab/one", 10, 5) == bytes(range(10, 15))
        assert any_store.get_range("data/ab/one", 99, 1) == b"c"
        with pytest.raises(StoreError):
            any_store.get_range("data/ab/one", 95, 6)
        with pytest.raises(ObjectMissing):
            any_store.get_range("data/ab/two", 0, 1)

    def test_lists_by_whole_name_parts(self, any_store: Store) -> None:
        for name in ("index/a", "index/b", "indexes/c", "leases/x/0001"):
            any_store.put(name, name.encode())
        assert {(info.name, info.size_bytes) for info in any_store.list("index")} == {
            ("index/a", 7),
            ("index/b", 7),
        }
        assert [info.name for info in any_store.list("leases")] == ["leases/x/0001"]
        assert list(any_store.list("nothing")) == []

    def test_deletes_and_does_not_mind_doing_it_twice(self, any_store: Store) -> None:
        any_store.put("index/a", b"a")
        any_store.delete("index/a")
        any_store.delete("index/a")
        with pytest.raises(ObjectMissing):
            any_store.get("index/a")
        any_store.commit_barrier()

    def test_says_what_is_missing(self, any_store: Store) -> None:
        for ask in (any_store.get, any_store.size):
            with pytest.raises(ObjectMissing) as caught:
                ask("points/none")
            assert caught.value.name == "points/none"
            assert caught.value.repository == any_store.url

    @pytest.mark.parametrize("name", ["", "/etc", "a/../b", "a//b", "A", "a/", ".tmp", "a b", "é", "a\n"])
    def test_takes_no_name_that_could_mean_something_else(self, any_store: Store, name: str) -> None:
        with pytest.raises(ValueError, match="no object name"):
            any_store.put(name, b"x")


def test_restore_py_is_the_only_name_with_a_dot() -> None:
    assert check_name("restore.py") == "restore.py"


class TestLocalStore:
    def test_keeps_everything_from_other_users(self, tmp_path: Path) -> None:
        mask = os.umask(0)
        try:
            store = LocalStore(tmp_path / "repo", create=True)
            store.put("points/one", b"x")
        finally:
            os.umask(mask)
        found = [tmp_path / "repo", *(tmp_path / "repo").rglob("*")]
        for path in found:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    def test_flushes_the_file_before_its_name_and_folders_at_the_barrier(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalStore(tmp_path, create=True)
        flushed: list[str] = []
        real = os.fsync

        def fsync(descriptor: int) -> None:
            flushed.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            assert (tmp_path / "data/ab/one").exists() == (len(flushed) > 1)
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        store.put("data/ab/one", b"x")
        assert len(flushed) == 1
        assert Path(flushed[0]).parent == tmp_path / "tmp"
        store.commit_barrier()
        assert set(flushed[1:]) >= {str(tmp_path / "data/ab"), str(tmp_path / "data"), str(tmp_path)}

    def test_leaves_no_temporary_file_behind(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path, create=True)
        store.put("points/one", b"x")
        with pytest.raises(ObjectExists):
            store.put("points/one", b"x")
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_works_where_there_are_no_hard_links(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        store = LocalStore(tmp_path, create=True)
        store.put("points/one", b"x")
        with pytest.raises(ObjectExists):
            store.put("points/one", b"y")
        assert store.get("points/one") == b"x"

    def test_says_so_when_the_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = LocalStore(tmp_path, create=True)

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(NoSpace):
            store.put("points/one", b"x")
        assert list(store.list("points")) == []
        assert list((tmp_path / "tmp").iterdir()) == []


class TestUrls:
    def test_name_a_directory(self, tmp_path: Path) -> None:
        assert open_store(str(tmp_path)).url == str(tmp_path)
        assert open_store(f"file://{tmp_path}").url == str(tmp_path)

    def test_of_nothing_say_that_there_is_no_repository(self, tmp_path: Path) -> None:
        with pytest.raises(NoRepository):
            open_store(str(tmp_path / "none"))

    @pytest.mark.parametrize("url", ["ftp://host/x", "file://host/x", "", "gopher://"])
    def test_that_mean_nothing_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError):
            open_store(url)
