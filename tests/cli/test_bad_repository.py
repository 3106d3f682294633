"""Bad places for a repository: one clear line, the right exit code, nothing created or lost."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from hvpsbridge.repository import create_repository
from hvpsbridge.repository.stores import retry
from tests.repository.conftest import CHEAP, CHUNK, KEY, store_point
from tests.repository.rotten_index import rewrite_manifest
from tests.repository.servers import S3Server, SshServer, known_host, make_key

from .conftest import Done, Hvps


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    with create_repository(
        str(tmp_path / "repo"), chunk_bytes=CHUNK, cache_folder=tmp_path / "c"
    ) as repository:
        store_point(repository, b"x" * CHUNK)
    return tmp_path / "repo"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.001)


def the_line(done: Done, code: int) -> str:
    """The one line on standard error, after checking the exit code and that standard output is empty."""
    assert done.code == code, done
    assert done.out == ""
    (line,) = done.err.splitlines()
    assert line.startswith("hvps: ")
    return line


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("none", 10, "no repository at"),
        ("repo/config", 10, "no repository at"),
        ("ftp://host/path", 5, "use file, s3 or sftp"),
        ("file://host/path", 5, "write file:///path"),
        ("sftp://host:99999/path", 5, "port must be between 1 and 65535"),
        ("sftp://host:0/path", 5, "port must be between 1 and 65535"),
        ("sftp://[::1/path", 5, "brackets are for an IPv6 address"),
        ("sftp://fd00::1/path", 5, "an IPv6 address must be in brackets"),
        ("sftp://host:path", 5, "a path begins with a slash"),
        ("sftp://host", 5, "write sftp://"),
        ("sftp://host/~/", 5, "after ~ name a directory"),
        ("sftp://host/~bob/path", 5, "after ~ name a directory"),
        ("sftp:/host/path", 5, "two slashes follow the scheme"),
        ("u:secret@host:/path", 5, "for an SSH server write sftp://"),
        ("sftp://u:secret@host/path", 5, "must not contain a password; use an SSH key"),
        ("sftp://u%3Asecret@host/path", 5, "must not contain a password"),
        ("sftp://u:secret/x@host/path", 5, "must not contain a password"),
        ("sftp://u:secret#x@host/path", 5, "must not contain a password"),
        ("sftp://u@host/a%00b", 5, "must not contain control characters"),
        ("sftp://u@host/%ff", 5, "the % escapes of a URL must be UTF-8"),
        ("ftp://u:secret@host/path", 5, "must not contain a password"),
        ("file://u:secret@host/path", 5, "must not contain a password"),
        ("s3://u:secret@bucket/path", 5, "must not contain a password; set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/path?endpoint=https://u:secret@host", 5, "must not contain a password"),
        ("sftp://host/path?mode=7", 5, "write sftp://"),
        ("sftp://host/path?identity=/no/such/key", 5, "identity=/no/such/key cannot be read"),
        ("sftp://host/path?known_hosts=/no/such/file", 5, "known_hosts=/no/such/file cannot be read"),
        ("file:///path?x", 5, "file://: has no options"),
        ("file:///path#x", 5, "must not contain #"),
        ("s3:///path", 5, "write s3://bucket"),
        ("s3:/bucket/path", 5, "two slashes follow the scheme: s3://bucket"),
        ("S3://bucket/path", 5, "write s3:// in lower case"),
        ("s3://Bucket/path", 5, "names of buckets are in lower case"),
        ("s3://bucket:9000/path", 5, "a bucket has no port"),
        ("s3://bucket/a//b", 5, "two slashes in a row"),
        ("s3://bucket/a/../b", 5, "must not contain .."),
        ("s3://bucket/a%20b", 5, "must not contain %"),
        ("s3://bucket/ a", 5, "begins or ends with a blank"),
        ("s3://bucket/a#b", 5, "must not contain #"),
        ("s3://bucket/path\n", 5, "must not contain control characters"),
        ("s3://bucket/path?region=", 5, "region must be given once, with a value"),
        ("s3://bucket/path?endpoint=https://host/bucket", 5, "the endpoint must not contain the bucket"),
        ("s3://bucket/path?endpoint=https://bucket.host", 5, "the endpoint must not contain the bucket"),
        ("s3://bucket/path?secret=x", 5, "write s3://bucket"),
        ("s3://bucket/path?endpoint=nonsense", 5, "endpoint is not a valid URL"),
        ("s3://bucket/path?endpoint=http://host:99999", 5, "endpoint is not a valid URL"),
    ],
)
def test_a_wrong_url_is_one_line(
    hvps: Hvps, repo: Path, monkeypatch: pytest.MonkeyPatch, url: str, code: int, says: str
) -> None:
    monkeypatch.chdir(repo.parent)
    before = sorted(repo.parent.rglob("*"))
    line = the_line(hvps("list", "--repo", url), code)
    assert says in line
    assert "secret" not in line
    assert sorted(repo.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "url", ["sftp://u:canary-p@host/x", "s3://u:canary-p@bucket/x", "u:canary-p@host:/x"]
)
def test_a_password_in_a_url_is_repeated_nowhere(
    hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("KEY", "k")
    key = ("--key-env", "KEY")
    (tmp_path / "p.yaml").write_text(
        "version: 1\nhosts: {h: {address: hv01}}\n"
        f"repositories: {{r: {{url: '{url}', key: {{env: KEY}}}}}}\n"
        "plays: [{name: p, hosts: [h], repository: r, tasks: [backup]}]\n"
    )
    create_repository(str(tmp_path / "from"), cache_folder=tmp_path / "c").close()
    for command in (
        ("list", "--json", "--repo", url),
        ("-vv", "--log-file", tmp_path / "log", "repo", "init", url, *key),
        ("repo", "probe", url),
        ("key", "export", "--repo", url, *key),
        ("copy", "--repo", tmp_path / "from", "--to", url, "--to-key-env", "KEY"),
        ("validate", tmp_path / "p.yaml"),
        ("run", tmp_path / "p.yaml", "--json"),
    ):
        done = hvps(*command)
        assert done.code == 5, done
        assert "canary" not in done.out + done.err
    assert "canary" not in (tmp_path / "log").read_text()
    monkeypatch.setenv("HVPS_REPO", url)
    done = hvps("list")
    assert done.code == 5
    assert "canary" not in done.err


def test_a_place_without_a_repository_is_described_and_stays_as_it_is(
    hvps: Hvps, tmp_path: Path, repo: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "began").mkdir()
    (tmp_path / "began" / "restore.py").touch()
    (repo / "config").unlink()
    for name, says in {
        "none": "there is no such directory",
        "photos/cat.jpg": "it is not a directory",
        "empty": "nothing is there; check the URL and that its storage is mounted",
        "photos": "other files are there, such as cat.jpg",
        "began": "only its beginnings are there",
        "repo": "objects of one are there, but not its `config`; restore that object from a copy",
    }.items():
        before = sorted(tmp_path.rglob("*"))
        line = the_line(hvps("list", "--repo", tmp_path / name), 10)
        assert f"no repository at {tmp_path / name}: {says}" in line
        assert sorted(tmp_path.rglob("*")) == before


def test_no_repository_is_made_over_objects_of_one(hvps: Hvps, repo: Path) -> None:
    (repo / "config").unlink()
    assert "cannot create a repository" in the_line(hvps("repo", "init", repo, "--plain"), 5)


def test_only_a_wrong_chunk_size_is_blamed_on_the_option(
    hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("5", "3MiB", "x"):
        line = the_line(hvps("repo", "init", tmp_path / "new", "--plain", "--chunk", size), 64)
        assert "'--chunk'" in line

    def broken(*_: object, **__: object) -> None:
        raise ValueError("something else")

    monkeypatch.setattr("hvpsbridge.cli.repo.create_repository", broken)
    done = hvps("repo", "init", tmp_path / "new", "--plain")
    assert done.code == 1
    assert "chunk" not in done.err


class TestSftp:
    def test_a_host_key_that_changed_or_is_unknown(
        self, hvps: Hvps, ssh: SshServer, repo: Path, tmp_path: Path
    ) -> None:
        key = tmp_path / "other"
        make_key(key)
        changed, unknown = tmp_path / "changed", tmp_path / "unknown"
        changed.write_text(known_host(ssh.port, key))
        unknown.touch()
        for known in (changed, unknown):
            line = the_line(hvps("list", "--repo", ssh.url(repo, known_hosts=known)), 10)
            assert "host key of the server is unknown or has changed" in line

    def test_no_rights(self, hvps: Hvps, ssh: SshServer, repo: Path, tmp_path: Path) -> None:
        key = tmp_path / "stranger"
        make_key(key)
        url = ssh.url(repo).replace(f"identity={ssh.folder}/user", f"identity={key}")
        assert "permission denied" in the_line(hvps("list", "--repo", url), 10)

    def test_an_identity_that_is_not_a_key(
        self, hvps: Hvps, ssh: SshServer, repo: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "key").write_text("not a key\n")
        url = ssh.url(repo).replace(f"identity={ssh.folder}/user", f"identity={tmp_path}/key")
        assert "the identity cannot be used" in the_line(hvps("list", "--repo", url), 5)

    def test_a_list_of_host_keys_that_is_none(
        self, hvps: Hvps, ssh: SshServer, repo: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "known").write_bytes(b"\x00\xff garbage\n")
        line = the_line(hvps("list", "--repo", ssh.url(repo, known_hosts=tmp_path / "known")), 5)
        assert "is not a list of host keys; make one with ssh-keyscan" in line

    def test_a_file_instead_of_a_directory(self, hvps: Hvps, ssh: SshServer, repo: Path) -> None:
        line = the_line(hvps("list", "--repo", ssh.url(repo / "config")), 10)
        assert "no repository at" in line
        assert "it is not a directory" in line

    def test_nothing_there(self, hvps: Hvps, ssh: SshServer, tmp_path: Path) -> None:
        assert "no repository at" in the_line(hvps("list", "--repo", ssh.url(tmp_path / "none")), 10)

    def test_a_server_that_does_not_answer(self, hvps: Hvps) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound but not listening, so connections are refused
            url = f"sftp://user@127.0.0.1:{taken.getsockname()[1]}/path"
            assert "Connect call failed" in the_line(hvps("list", "--repo", url), 10)


class TestS3:
    def test_a_bucket_that_is_missing(self, hvps: Hvps, s3: S3Server) -> None:
        url = s3.url("no-such-bucket")
        assert "no such bucket" in the_line(hvps("list", "--repo", url), 10)
        assert "no such bucket" in the_line(hvps("repo", "init", url, "--plain"), 10)

    def test_no_repository_in_a_bucket(self, hvps: Hvps, s3: S3Server) -> None:
        assert "no repository at" in the_line(hvps("list", "--repo", s3.url(s3.new_bucket())), 10)


class TestKeys:
    @pytest.fixture
    def sealed(self, tmp_path: Path) -> Path:
        create_repository(
            str(tmp_path / "sealed"), chunk_bytes=CHUNK, key=KEY, cost=CHEAP, cache_folder=tmp_path / "c"
        ).close()
        return tmp_path / "sealed"

    def key_file(self, folder: Path, text: str, mode: int = 0o600) -> Path:
        path = folder / "key"
        path.write_text(text + "\n")
        path.chmod(mode)
        return path

    def test_a_key_file_that_others_can_read(self, hvps: Hvps, sealed: Path, tmp_path: Path) -> None:
        key = self.key_file(tmp_path, KEY.reveal(), 0o644)
        line = the_line(hvps("list", "--repo", sealed, "--key-file", key), 5)
        assert "chmod 600" in line
        assert KEY.reveal() not in line

    def test_a_wrong_key_none_or_one_too_many(
        self, hvps: Hvps, sealed: Path, repo: Path, tmp_path: Path
    ) -> None:
        key = self.key_file(tmp_path, "wrong")
        assert "does not open any key slot" in the_line(hvps("list", "--repo", sealed, "--key-file", key), 12)
        line = the_line(hvps("list", "--repo", sealed), 12)
        assert "no key was given; say where the key is, for example with --key-file" in line
        assert "it is not encrypted" in the_line(hvps("list", "--repo", repo, "--key-file", key), 12)

    def test_an_export_into_the_repository_it_opens(self, hvps: Hvps, sealed: Path, tmp_path: Path) -> None:
        key = self.key_file(tmp_path, KEY.reveal())
        done = hvps("key", "export", "--repo", sealed, "--key-file", key, "--to", sealed / "key.txt")
        assert "use another place" in the_line(done, 5)
        assert not (sealed / "key.txt").exists()


def test_an_empty_url_is_no_other_repository(hvps: Hvps, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from ``--repo "$REPO"`` with a misspelled variable."""
    monkeypatch.setenv("HVPS_REPO", str(repo))
    assert hvps("list").code == 0
    for arguments in (("list", "--repo", ""), ("repo", "init", "", "--plain"), ("repo", "probe", "")):
        assert "the path is empty" in the_line(hvps(*arguments), 5)


def test_the_working_directory_is_a_place(hvps: Hvps, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    assert hvps("list", "--repo", ".").code == 0


def test_a_repository_cannot_be_created_at_or_below_a_file(hvps: Hvps, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = the_line(hvps("repo", "init", tmp_path / "file", "--plain"), 5)
    assert line.endswith("file: this path is not a directory; use another URL")
    line = the_line(hvps("repo", "init", tmp_path / "file" / "x", "--plain"), 5)
    assert line.endswith("x: a part of this path is not a directory; use another URL")


class TestVersions:
    def test_a_repository_of_a_newer_format(self, hvps: Hvps, repo: Path) -> None:
        config = repo / "config"
        config.write_text(config.read_text().replace('"format":2', '"format":3'))
        line = the_line(hvps("list", "--repo", repo), 10)
        assert "has format 3, but this hvps supports formats up to 2" in line

    def test_a_cache_of_another_version_is_made_anew(self, hvps: Hvps, repo: Path, tmp_path: Path) -> None:
        assert hvps("list", "--repo", repo).code == 0
        (manifest,) = (tmp_path / "home" / "cache").rglob("manifest")
        rewrite_manifest(manifest, lambda fields: fields.update(version=9))
        assert hvps("verify", "--repo", repo).code == 0


def test_objects_that_arrived_half_are_named_and_the_rest_goes_on(hvps: Hvps, repo: Path) -> None:
    for folder in ("points", "index"):
        whole = next((repo / folder).iterdir())
        (repo / folder / ("0" * 32)).write_bytes(whole.read_bytes()[:50])
        (repo / folder / ("1" * 32)).touch()  # an empty object counts as absent
    (repo / "data" / "00").mkdir(exist_ok=True)
    (repo / "data" / "00" / ("0" * 32)).write_bytes(b"HVPK")  # in no index, so it is ignored
    listed = hvps("list", "--repo", repo)
    assert listed.code == 7
    assert "web" in listed.out
    assert "00000000  unknown" in listed.out
    assert sum("is damaged" in line for line in listed.err.splitlines()) == 2  # one line for each
    verified = hvps("verify", "--repo", repo)
    assert verified.code == 7
    assert f"points/{'0' * 32}" in verified.out
    assert f"index/{'0' * 32}" in verified.out
    assert verified.out.count("it is empty") == 2
    assert "2 problems" in verified.out  # an empty object is only noted


def test_a_repository_that_can_only_be_read_is_read(hvps: Hvps, repo: Path, tmp_path: Path) -> None:
    """A copy without empty folders, on read-only storage."""
    copy = tmp_path / "copy"
    shutil.copytree(repo, copy)
    shutil.rmtree(copy / "tmp", ignore_errors=True)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert hvps("list", "--repo", copy).code == 0
    done = hvps("restore", "web@latest", "--repo", copy, "--to", f"raw:{tmp_path / 'out'}", "-q")
    assert done.code == 0
    assert (tmp_path / "out" / "scsi-0-0.raw").read_bytes() == b"x" * CHUNK
    assert not (copy / "tmp").exists()
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o700)  # so that the folder can be removed
