"""Names are exclusive without hard links, too, and a process that dies blocks none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from hvpsbridge.errors import ObjectExists
from hvpsbridge.repository.opening import open_on_store
from hvpsbridge.repository.stores import naming
from hvpsbridge.repository.stores.local import LocalStore
from tests.repository.conftest import CHUNK, content_of, make, store_point


def refuse_links(*_: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def refuse_renames(*_: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture(params=["by rename", "by reservation"])
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """File systems without hard links, and one that cannot rename exclusively either."""
    monkeypatch.setattr(os, "link", refuse_links)
    if request.param == "by reservation":
        monkeypatch.setattr(naming, "_rename", refuse_renames)
    return str(request.param)


@pytest.mark.usefixtures("no_links")
class TestLocalStoreWithoutHardLinks:
    def test_never_replaces_an_object(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path, create=True)
        store.put("points/one", b"x")
        with pytest.raises(ObjectExists):
            store.put("points/one", b"y")
        assert store.get("points/one") == b"x"
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_lets_exactly_one_of_many_create_a_name(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path, create=True)
        for number in range(20):
            won: list[bytes] = []

            def create(mine: bytes, number: int = number, won: list[bytes] = won) -> None:
                with contextlib.suppress(ObjectExists):
                    store.put(f"leases/{number}", mine)
                    won.append(mine)

            threads = [threading.Thread(target=create, args=(bytes([each]) * 99,)) for each in range(1, 7)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [store.get(f"leases/{number}")] == won

    def test_creates_a_name_that_a_dead_process_reserved(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path, create=True)
        (left := tmp_path / "points" / "one").parent.mkdir()
        left.touch()
        assert [info.size_bytes for info in store.list("points")] == [0]
        with pytest.raises(ObjectExists):  # the process that made it may be about to replace it
            store.put("points/one", b"x")
        os.utime(left, (0, time.time() - 2 * naming.ABANDONED_SECONDS))
        with left.open("rb") as held:  # or may still hold it, however old it is
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(ObjectExists):
                store.put("points/one", b"x")
        store.put("points/one", b"x")
        assert store.get("points/one") == b"x"
        with pytest.raises(ObjectExists):
            store.put("points/one", b"y")


def test_one_that_slept_over_its_reservation_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process made the reservation, was suspended until another one claimed it, and continues."""
    monkeypatch.setattr(os, "link", refuse_links)
    monkeypatch.setattr(naming, "_rename", refuse_renames)
    store = LocalStore(tmp_path, create=True)
    name = tmp_path / "points" / "one"
    holds = naming._holds

    def sleep(descriptor: int, path: Path) -> bool:
        monkeypatch.setattr(naming, "_holds", holds)
        os.utime(name, (0, time.time() - 2 * naming.ABANDONED_SECONDS))
        store.put("points/one", b"theirs")
        return holds(descriptor, path)

    monkeypatch.setattr(naming, "_holds", sleep)
    with pytest.raises(ObjectExists):
        store.put("points/one", b"mine")
    assert store.get("points/one") == b"theirs"


def test_a_taken_name_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may belong to another user, or be on read-only storage."""
    store = LocalStore(tmp_path, create=True)
    store.put("points/one", b"x")
    opened = os.open

    def watched(path: Path | str, *arguments: int) -> int:
        if Path(path) == tmp_path / "points" / "one":
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", watched)
    with pytest.raises(ObjectExists):
        store.put("points/one", b"y")


def test_a_repository_stays_whole_whose_writers_died_while_naming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers that die, at each file, between the reservation of a name and its replacement."""
    monkeypatch.setattr(os, "link", refuse_links)
    monkeypatch.setattr(naming, "_rename", refuse_renames)
    url = tmp_path / "repo"
    with make(LocalStore(url, create=True)) as repository:
        first = store_point(repository, b"1" * CHUNK)

    rename = Path.rename

    class Died(BaseException):
        pass

    for step in range(100):
        left = [step]

        def die(self: Path, target: Path, left: list[int] = left) -> Path:
            left[0] -= 1
            if left[0] < 0:
                raise Died
            return rename(self, target)

        with monkeypatch.context() as patch, contextlib.suppress(Died):
            patch.setattr(Path, "rename", die)
            with open_on_store(LocalStore(url)) as dying:
                store_point(dying, b"2" * CHUNK, created=first.created.replace(hour=1 + step % 20))
            break
        for path in url.rglob("*"):
            if path.is_file():
                os.utime(path, (0, time.time() - 2 * naming.ABANDONED_SECONDS))
        with open_on_store(LocalStore(url)) as fresh:
            report = fresh.verify("hashed")
            assert not [problem for problem in report.problems if problem.touches]
            assert content_of(fresh, first) == b"1" * CHUNK
    assert step > 4
