"""A conformance suite for all stores, and tests of what is particular to each."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from hvpsbridge.errors import (
    ConfigurationError,
    Damaged,
    ExitCode,
    NoRepository,
    NoSpace,
    ObjectExists,
    ObjectMissing,
    StoreError,
)
from hvpsbridge.repository.layout import FOLDERS
from hvpsbridge.repository.stores import retry, s3_listing
from hvpsbridge.repository.stores.base import Store, check_name
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.repository.stores.naming import ABANDONED_SECONDS
from hvpsbridge.repository.stores.registry import STORES, StoreKind, open_store
from hvpsbridge.repository.stores.retry import create_once
from hvpsbridge.repository.stores.spool import SpoolSink
from tests.repository.conftest import make, reopen, store_point
from tests.repository.hostile import Fault, FaultyStore, Planned, VolatileStore
from tests.repository.memory_store import MemoryStore
from tests.repository.servers import S3Server, SshServer, known_host, make_key

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(params=["memory", "local", "faulty", "volatile", "sftp", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = _store(request, tmp_path)
    yield store
    store.close()


def _store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    match request.param:
        case "memory":
            return MemoryStore()
        case "faulty":
            return FaultyStore(MemoryStore())
        case "volatile":
            return VolatileStore(random.Random(1))
        case "sftp":
            return open_store(request.getfixturevalue("ssh").url(tmp_path / "store"), create=True)
        case "s3":
            server: S3Server = request.getfixturevalue("s3")
            return open_store(server.url(server.new_bucket()))
    return LocalStore(tmp_path / "store", create=True)


class TestEveryStore:
    def test_gives_back_what_was_put(self, any_store: Store) -> None:
        any_store.put("data/ab/one", b"some bytes")
        assert any_store.get("data/ab/one") == b"some bytes"
        assert any_store.size("data/ab/one") == 10

    def test_reads_no_more_than_the_caller_takes(self, any_store: Store) -> None:
        any_store.put("data/ab/one", bytes(2000))
        assert any_store.get("data/ab/one", 2000) == bytes(2000)
        with pytest.raises(Damaged, match="2000 bytes"):
            any_store.get("data/ab/one", 1999)

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
        with pytest.raises(ValueError, match="not a valid object name"):
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

    @pytest.mark.parametrize(
        ("number", "remedy"),
        [
            (errno.EMFILE, "raise the limit of open files (ulimit -n)"),
            (errno.ENFILE, "raise the limit of open files of the system (fs.file-max)"),
        ],
    )
    def test_does_not_blame_the_storage_for_a_limit_of_open_files(
        self, number: int, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = LocalStore(tmp_path, create=True)

        def scandir(folder: Path) -> Iterator[os.DirEntry[str]]:
            raise OSError(number, os.strerror(number), str(folder))

        monkeypatch.setattr(os, "scandir", scandir)
        with pytest.raises(StoreError) as caught:
            list(store.list("index"))
        assert str(caught.value) == f"cannot list index in {tmp_path}: {os.strerror(number)}; {remedy}"
        assert caught.value.code is ExitCode.INVALID

    def test_leaves_no_temporary_file_behind(self, tmp_path: Path) -> None:
        store = LocalStore(tmp_path, create=True)
        store.put("points/one", b"x")
        with pytest.raises(ObjectExists):
            store.put("points/one", b"x")
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_makes_nothing_in_a_directory_it_only_opens(self, tmp_path: Path) -> None:
        LocalStore(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_flushes_what_another_process_wrote_and_it_may_rely_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        LocalStore(tmp_path, create=True).put("index/one", b"by a process that died before its barrier")
        store = LocalStore(tmp_path)
        assert len(list(store.list("index"))) == 1
        flushed: list[str] = []
        monkeypatch.setattr(os, "fsync", lambda fd: flushed.append(os.readlink(f"/proc/self/fd/{fd}")))
        store.commit_barrier()
        assert set(flushed) == {str(tmp_path / "index"), str(tmp_path)}

    def test_says_when_folders_cannot_be_flushed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = LocalStore(tmp_path, create=True)
        store.put("points/one", b"x")
        assert store.durable

        def unknown(_: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "fsync", unknown)
        store.commit_barrier()
        assert not store.durable
        assert "not durable" in caplog.text

    def test_says_so_when_the_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = LocalStore(tmp_path, create=True)

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(NoSpace):
            store.put("points/one", b"x")
        assert list(store.list("points")) == []
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("kind", ["local", "sftp"])
def test_temporary_files_of_the_dead_are_swept_when_they_are_old(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "store")
    if kind == "sftp":
        url = request.getfixturevalue("ssh").url(tmp_path / "store")
    store = open_store(url, create=True)
    with make(store) as repository:
        folder = tmp_path / "store" / "tmp"
        folder.mkdir(exist_ok=True)
        old, young, foreign = "0" * 32, "1" * 32, "id_ed25519"
        for name, days in ((old, 3), (young, 1), (foreign, 3)):
            (folder / name).write_bytes(b"half a pack")
            past = time.time() - days * 86400
            os.utime(folder / name, (past, past))
        store_point(repository, b"x" * 512)
        assert {path.name for path in folder.iterdir()} == {young, foreign}


@pytest.mark.parametrize("kind", ["local", "sftp"])
def test_no_link_leads_out_of_the_store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root, outside = tmp_path / "store", tmp_path / "home"
    url = str(root)
    if kind == "sftp":
        url = request.getfixturevalue("ssh").url(root)
    store = open_store(url, create=True)
    outside.mkdir()
    victim = outside / ("0" * 32)

    victim.write_bytes(b"x")
    os.utime(victim, (1, 1))
    shutil.rmtree(root / "tmp", ignore_errors=True)
    for folder in ("tmp", "leases", "index"):
        (root / folder).symlink_to(outside)
    assert store.sweep() == 0
    for attempt in (
        lambda: store.put("points/one", b"x"),
        lambda: store.delete(f"leases/{'0' * 32}"),
    ):
        with pytest.raises(StoreError, match="link"):
            attempt()
    assert [path.name for path in outside.iterdir()] == [victim.name]
    (root / "tmp").unlink()
    with pytest.raises(StoreError, match="link"):
        store.put("index/one", b"x")
    assert [path.name for path in outside.iterdir()] == [victim.name]
    store.close()


@pytest.mark.parametrize("kind", ["local", "sftp"])
def test_only_regular_files_of_a_fitting_size_are_read(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root = tmp_path / "store"
    url = str(root)
    if kind == "sftp":
        url = request.getfixturevalue("ssh").url(root)
    store = open_store(url, create=True)
    (root / "index" / "a" / "b" / "c" / "d").mkdir(parents=True)
    os.mkfifo(root / "index" / "pipe")
    (root / "index" / "link").symlink_to("/etc/passwd")
    (root / "index" / "large").write_bytes(b"")
    os.truncate(root / "index" / "large", 1 << 40)
    for name in ("pipe", "link", "large", "a"):
        with pytest.raises(Damaged):
            store.get(f"index/{name}", 1000)
    for name in ("pipe", "link", "a"):
        with pytest.raises((Damaged, StoreError)):
            store.get_range(f"index/{name}", 0, 10)
        with pytest.raises(Damaged):
            store.size(f"index/{name}")
    sizes = {info.name: info.size_bytes for info in store.list("index")}
    assert sizes == {"index/pipe": -1, "index/link": -1, "index/large": 1 << 40, "index/a/b/c": -1}
    store.close()


@pytest.mark.parametrize("kind", ["local", "sftp"])
@pytest.mark.parametrize("other", ["file", "pipe", "loop", "link"])
def test_what_somebody_made_in_place_of_a_folder_closes_nothing(
    kind: str, other: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = tmp_path / "repo"
    url = str(place) if kind == "local" else request.getfixturevalue("ssh").url(place)
    with make(open_store(url, create=True), sealed=True) as repository:
        point = store_point(repository, bytes(range(256)) * 256)
    assert {path.name for path in place.iterdir()} >= set(FOLDERS)  # nobody can take their names
    for folder in ("bad", "exports", "tombstones"):
        path = place / folder
        path.rmdir()
        if other == "file":
            path.write_bytes(b"x")
        elif other == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(path if other == "loop" else "/nowhere/at/all")
    with reopen(open_store(url)) as fresh:
        assert fresh.catalog.points() == (point,)
        report = fresh.verify()
        assert report.good
        assert {note.name for note in report.notes} == {"bad", "exports", "tombstones"}
        store_point(fresh, bytes(range(256)) * 512)
        with pytest.raises(StoreError) as caught:
            fresh.publish_bad([(bytes(32), bytes(16))])
        assert not isinstance(caught.value, ObjectExists)


def test_a_name_that_is_not_utf_8_is_listed(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), create=True)
    (tmp_path / "index").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "index") + b"/\xff")).write_bytes(b"x")
    assert [info.name for info in store.list("index")] == ["index/\udcff"]


def test_a_clock_that_is_ahead_here_sweeps_nothing_young_away(
    ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(ssh.url(tmp_path / "store"), create=True)
    (young := tmp_path / "store" / "tmp" / ("1" * 32)).parent.mkdir(exist_ok=True)
    young.write_bytes(b"what another writer uploads right now")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30 * 86400)
    assert store.sweep() == 0
    assert list(young.parent.iterdir()) == [young]
    store.close()


def test_a_storage_that_is_unmounted_while_it_is_used_is_not_an_empty_one(tmp_path: Path) -> None:
    root = tmp_path / "mount"
    store = LocalStore(root, create=True)
    store.put("config", b"settings")
    store.put("points/one", b"x")
    store = LocalStore(root)
    sinks = [store.sink("data/ab"), store.sink("data/cd")]
    root.rename(tmp_path / "away")
    for _ in range(2):  # without the place, then with the empty folder below a mount
        store.make_folders(FOLDERS)
        for ask in (
            lambda: store.get("points/one"),
            lambda: store.size("points/one"),
            lambda: list(store.list("points")),
            lambda: store.put("points/two", b"x"),
            sinks.pop().publish,
            store.commit_barrier,
        ):
            with pytest.raises(StoreError, match="check whether the storage is still mounted") as caught:
                ask()
            assert not isinstance(caught.value, ObjectMissing)
        root.mkdir(exist_ok=True)
    assert not list(root.rglob("*"))
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert [info.name for info in store.list("points")] == ["points/one"]
    with pytest.raises(ObjectMissing):
        store.get("points/none")


class TestUrls:
    def test_name_a_directory(self, tmp_path: Path) -> None:
        assert open_store(str(tmp_path)).url == str(tmp_path)
        assert open_store(f"file://{tmp_path}").url == str(tmp_path)

    def test_of_nothing_say_that_there_is_no_repository(self, tmp_path: Path) -> None:
        with pytest.raises(NoRepository):
            open_store(str(tmp_path / "none"))

    @pytest.mark.parametrize(("scheme", "library"), [("s3", "obstore"), ("sftp", "asyncssh")])
    def test_of_an_extra_that_is_not_installed_name_it(
        self, scheme: str, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("s3", "sftp", "ssh"):
            monkeypatch.delitem(sys.modules, f"hvpsbridge.repository.stores.{module}", raising=False)
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ConfigurationError, match=rf"hvpsbridge\[{scheme}\]"):
            open_store(f"{scheme}://host/path")

    @pytest.mark.parametrize("url", ["ftp://host/x", "file://host/x", "", "gopher://"])
    def test_that_mean_nothing_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError):
            open_store(url)

    def test_of_an_unknown_scheme_list_the_schemes_of_the_registry(self) -> None:
        with pytest.raises(ConfigurationError, match=r"ftp://; use file, s3 or sftp$"):
            open_store("ftp://host/x")


@pytest.mark.parametrize("kind", STORES.values(), ids=STORES)
class TestRegistry:
    def test_names_classes_that_take_urls(self, kind: StoreKind) -> None:
        loaded = kind.load()
        assert issubclass(loaded, Store)
        assert "from_url" in vars(loaded)
        assert kind.example.startswith(f"{kind.scheme}://")

    def test_is_what_the_documents_say(self, kind: StoreKind) -> None:
        page = (DOCS / "stores.md").read_text()
        urls, needs = (
            next(line for line in page.splitlines() if line.startswith(f"| {row} |"))
            for row in ("URL", "needs")
        )
        assert f"`{kind.example}`" in urls
        assert not kind.extra or f"`hvpsbridge[{kind.extra}]`" in needs
        assert f"{kind.scheme}://" in (DOCS / "playbook.md").read_text()


async def unsupported(*_: object) -> None:
    """What asyncssh does when the server does not have an extension."""
    raise asyncssh.SFTPOpUnsupported("no such extension")


class TestSftp:
    def test_refuses_a_host_whose_key_changed(self, ssh: SshServer, tmp_path: Path) -> None:
        other = tmp_path / "other"
        make_key(other)
        (tmp_path / "known").write_text(known_host(ssh.port, other))
        with pytest.raises(StoreError, match="host key"):
            open_store(ssh.url(tmp_path, known_hosts=tmp_path / "known"))

    def test_says_when_it_has_no_rights(self, ssh: SshServer, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="permission denied"):
            open_store(ssh.url(tmp_path).replace(f"{ssh.folder}/user", f"{ssh.folder}/host"))

    def test_says_when_there_is_no_such_place(self, ssh: SshServer, tmp_path: Path) -> None:
        with pytest.raises(NoRepository):
            open_store(ssh.url(tmp_path / "none"))

    def test_lists_what_is_in_its_place(self, ssh: SshServer, tmp_path: Path) -> None:
        assert open_store(ssh.url(tmp_path)).content() == frozenset()
        (tmp_path / "photos").mkdir()
        assert open_store(ssh.url(tmp_path)).content() == {"photos"}

    def test_takes_no_password_from_a_url(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_store("sftp://me:secret@host/path")
        assert "secret" not in str(caught.value)

    def test_connects_again_when_the_connection_is_lost(self, ssh: SshServer, tmp_path: Path) -> None:
        store = open_store(ssh.url(tmp_path / "store"), create=True)
        store.put("data/ab/one", b"x" * 1000)
        assert store.get_range("data/ab/one", 0, 10) == b"x" * 10
        store._ssh._connection.abort()  # type: ignore[attr-defined]  # as a cut network does
        assert store.get_range("data/ab/one", 0, 10) == b"x" * 10
        store.put("data/ab/two", b"y")
        store.commit_barrier()
        store.close()

    def test_is_durable_with_openssh_and_keeps_files_private(self, ssh: SshServer, tmp_path: Path) -> None:
        store = open_store(ssh.url(tmp_path / "store"), create=True)
        assert store.durable
        store.put("data/ab/one", b"x")
        store.close()
        assert stat.S_IMODE((tmp_path / "store/data/ab/one").stat().st_mode) == 0o600
        assert list((tmp_path / "store/tmp").iterdir()) == []

    def test_is_not_durable_where_files_cannot_be_flushed(
        self, ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(asyncssh.SFTPClientFile, "fsync", unsupported)
        store = open_store(ssh.url(tmp_path / "store"), create=True)
        assert not store.durable
        with make(store) as repository:
            assert not store_point(repository, b"x" * 512).manifest.durable

    @pytest.mark.parametrize("renames", [True, False], ids=["by rename", "in place"])
    @pytest.mark.parametrize(
        "said",
        [
            asyncssh.SFTPOpUnsupported("link not supported"),
            asyncssh.SFTPFailure("Failure"),
            asyncssh.SFTPPermissionDenied("EPERM of a file system without links, as OpenSSH tells it"),
        ],
        ids=["server", "file system", "not permitted"],
    )
    def test_creates_exclusively_without_hard_links(
        self,
        ssh: SshServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        said: asyncssh.SFTPError,
        renames: bool,
    ) -> None:
        async def refuse(*_: object) -> None:
            raise said

        monkeypatch.setattr(asyncssh.SFTPClient, "link", refuse)
        if not renames:
            monkeypatch.setattr(asyncssh.SFTPClient, "posix_rename", unsupported)
        store = open_store(ssh.url(tmp_path / "store"), create=True)
        store.put("points/one", b"first")
        with pytest.raises(ObjectExists):
            store.put("points/one", b"second")
        assert store.get("points/one") == b"first"
        assert list((tmp_path / "store" / "tmp").iterdir()) == []
        store.close()

    def test_creates_a_name_that_a_dead_process_reserved(
        self, ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(asyncssh.SFTPClient, "link", unsupported)
        store = open_store(ssh.url(tmp_path / "store"), create=True)
        (left := tmp_path / "store" / "points" / "one").parent.mkdir()
        left.touch()
        with pytest.raises(ObjectExists):  # the process that made it may be about to replace it
            store.put("points/one", b"first")
        os.utime(left, (0, time.time() - 2 * ABANDONED_SECONDS))
        store.put("points/one", b"first")
        with pytest.raises(ObjectExists):
            store.put("points/one", b"second")
        assert store.get("points/one") == b"first"
        assert list((tmp_path / "store" / "tmp").iterdir()) == []
        store.close()


class TestSpool:
    def test_names_this_machines_folder_when_that_is_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        full = Path("/dev/full").open("r+b")  # noqa: SIM115 (the sink closes it)
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        sent: list[str] = []
        sink = SpoolSink("s3://x", "data/ab/one", lambda name, _: sent.append(name))
        sink.write(b"buffered, so the disk is not asked yet")
        with pytest.raises(NoSpace, match=tempfile.gettempdir()):
            sink.publish()
        sink.abandon()
        assert sent == []

    def test_names_it_when_nothing_can_be_made_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse() -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        with pytest.raises(StoreError, match=f"Permission denied .in {tempfile.gettempdir()}."):
            SpoolSink("s3://x", "data/ab/one", lambda *_: None)


class TestS3:
    def test_says_when_there_is_no_bucket(self, s3: S3Server) -> None:
        for ask in (
            lambda: open_store(s3.url("no-such-bucket")).put("points/a", b"x"),
            lambda: list(open_store(s3.url("no-such-bucket")).list("points")),
        ):
            with pytest.raises(StoreError, match="no such bucket"):
                ask()

    @pytest.mark.parametrize("url", ["s3://", "s3://b/p?secret=x", "s3://key:secret@bucket/p"])
    def test_takes_nothing_odd_from_a_url(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_store(url)
        assert "key:secret" not in str(caught.value)

    def test_lists_what_is_in_its_place(self, s3: S3Server) -> None:
        bucket = s3.new_bucket()
        store = open_store(s3.url(bucket, "a"))
        assert store.content() == frozenset()
        store.put("points/a", b"x")
        open_store(s3.url(bucket, "other")).put("data/b", b"x")
        assert store.content() == {"points"}
        assert open_store(s3.url(bucket, "")).content() == {"a", "other"}

    @pytest.mark.parametrize("prefix", ["some/prefix", "", "a (b)+ü/c~"])
    def test_lists_the_rest_beside_a_name_that_only_others_make(self, s3: S3Server, prefix: str) -> None:
        bucket = s3.new_bucket()
        root = f"{prefix}/" if prefix else ""
        odd = ["keys//x", "keys/x/../y", "keys/\x01+ %", "keys/..", "ledger/a//b"]
        for number, name in enumerate(odd):
            s3.client().put_object(Bucket=bucket, Key=root + name, Body=bytes(number + 1))
        store = open_store(s3.url(bucket, prefix))
        assert store.content() >= {"keys", "ledger"}
        store.put("keys/a", b"mine")
        for _ in range(2):
            found = {info.name: info.size_bytes for info in store.list("keys")}
            assert found == {"keys/a": 4} | {name: at + 1 for at, name in enumerate(odd[:4])}
            assert [info.name for info in store.list("data")] == []

    def test_opens_a_repository_that_has_a_name_that_only_others_make(self, s3: S3Server) -> None:
        bucket = s3.new_bucket()
        with make(open_store(s3.url(bucket)), sealed=True) as repository:
            point = store_point(repository, bytes(range(256)) * 256)
        for folder in (*FOLDERS, "tmp"):
            s3.client().put_object(Bucket=bucket, Key=f"some/prefix/{folder}//x", Body=b"junk")
        with reopen(open_store(s3.url(bucket))) as fresh:
            assert fresh.catalog.points() == (point,)
            report = fresh.verify()
            assert report.good
            assert {note.name for note in report.notes} == {f"{folder}//x" for folder in FOLDERS}

    def test_a_listing_of_several_pages_is_read_to_its_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        queries: list[str] = []

        def fetch(url: str, _: float) -> bytes:
            queries.append(url)
            last = len(queries) == 3
            return (
                "<ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><EncodingType>url"
                f"</EncodingType><IsTruncated>{'false' if last else 'true'}</IsTruncated>"
                f"<NextContinuationToken>a+/{len(queries)}</NextContinuationToken><Contents><Key>p/%0{len(queries)}"
                "</Key><Owner><ID>x</ID></Owner><Size>7</Size></Contents></ListBucketResult>"
            ).encode()

        monkeypatch.setattr(s3_listing, "_fetch", fetch)
        found = [name for page in s3_listing.pages("p/", str, 1) for name in page.names]
        assert found == [("p/\x01", 7), ("p/\x02", 7), ("p/\x03", 7)]
        start = "list-type=2&encoding-type=url&prefix=p%2F"
        following = [f"{start}&continuation-token=a%2B%2F{number}" for number in (1, 2)]
        assert queries == [start, *following]

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"<html>",
            b"<Error><Code>NoSuchBucket</Code></Error>",
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><ListBucketResult><IsTruncated>false</IsTruncated>"
            b"</ListBucketResult>",
            b"<ListBucketResult>" + b"<a>" * 100,
            b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
            b"<ListBucketResult><IsTruncated>" + b"x" * 10_000 + b"</IsTruncated></ListBucketResult>",
        ],
    )
    def test_an_answer_that_is_no_listing_is_an_error(self, answer: bytes) -> None:
        with pytest.raises(s3_listing.BadListing):
            s3_listing.read_page(answer)

    def test_says_when_nobody_answers(self, monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:
        monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)
        with pytest.raises(StoreError):
            open_store("s3://bucket/p?endpoint=http://127.0.0.1:9&region=us-east-1").get("config")


class TestTryingAgain:
    def create(self, store: FaultyStore, data: bytes = b"mine") -> None:
        create_once(
            lambda: store.put("points/a", data), lambda: store.get("points/a") == data, pause_seconds=0.001
        )

    @pytest.mark.parametrize("fault", [Fault.FAIL, Fault.LOSE_ANSWER])
    def test_creates_once_whatever_happened_to_the_answer(self, fault: Fault) -> None:
        store = FaultyStore(memory := MemoryStore(), Planned("put", 1, fault))
        self.create(store)
        assert memory.objects == {"points/a": b"mine"}
        assert store.calls["put"] == 2

    def test_does_not_take_another_ones_object_for_its_own(self) -> None:
        memory = MemoryStore()
        memory.put("points/a", b"theirs")
        with pytest.raises(ObjectExists):
            self.create(FaultyStore(memory, Planned("put", 1, Fault.FAIL)))
        # If the name is taken at the first attempt, the object is another one, even if the bytes are equal.
        with pytest.raises(ObjectExists):
            self.create(FaultyStore(memory), b"theirs")

    def test_gives_up_in_the_end(self) -> None:
        faults = [Planned("put", number, Fault.FAIL) for number in range(1, 20)]
        with pytest.raises(retry.Unreachable):
            self.create(store := FaultyStore(MemoryStore(), *faults))
        assert store.calls["put"] == retry.ATTEMPTS


def test_a_volatile_store_keeps_what_was_behind_a_barrier() -> None:
    store = VolatileStore(random.Random(7))
    store.put("points/a", b"a")
    store.commit_barrier()
    for number in range(40):
        store.put(f"points/b{number}", b"b")
    after = store.lose_power()
    assert after.objects["points/a"] == b"a"
    assert 1 < len(after.objects) < 41
