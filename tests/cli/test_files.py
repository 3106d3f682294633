"""``hvps files`` on a stored point."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvpsbridge.repository import create_repository, open_repository
from tests.filesystems import images
from tests.repository.conftest import store_point

from .conftest import Hvps
from .schemas import assert_valid


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return images.unix_tree(tmp_path / "source")


@pytest.fixture
def repo(tmp_path: Path, source: Path) -> tuple[str, str]:
    ext4 = images.ext4(tmp_path / "ext4", source)
    ntfs = images.ntfs(tmp_path / "ntfs", {"hello.txt": source / "hello.txt"})
    disk = images.partitioned(tmp_path / "disk", "gpt", [ext4, ntfs])
    with create_repository(str(tmp_path / "repo")) as repository:
        store_point(repository, disk.read_bytes())
    return "--repo", str(tmp_path / "repo")


def test_volumes_are_listed_and_one_is_chosen(hvps: Hvps, repo: tuple[str, str]) -> None:
    done = hvps("files", "ls", "web", "--json", *repo)
    assert (done.code, done.err) == (0, "")
    assert_valid("files ls", json.loads(done.out))
    volumes = json.loads(done.out)["volumes"]
    assert [(each["disk"], each["name"], each["content"]) for each in volumes] == [
        (0, "1", "ext"),
        (0, "2", "ntfs"),
    ]
    several = hvps("files", "ls", "web", "/", *repo)
    assert several.code == 5
    assert "choose one as POINT:DISK:PARTITION: 0:1, 0:2" in several.err
    assert "hello.txt" in hvps("files", "ls", "web:0:2", "/", *repo).out
    assert hvps("files", "ls", "web@latest:0:3", "/", *repo).code == 5
    assert hvps("files", "ls", "web:1", *repo).code == 5
    assert hvps("files", "ls", "web:0:2", "/none", *repo).code == 5


def test_names_cannot_move_the_cursor(hvps: Hvps, repo: tuple[str, str]) -> None:
    done = hvps("files", "ls", "web:0:1", "/", *repo)
    assert done.code == 0
    assert "\x1b" not in done.out
    assert "/tab\\tnew\\nline\\x1b[2J" in done.out
    assert "/n\\xe4me" in done.out
    assert "/out -> ../../etc/passwd" in done.out
    assert_valid("files ls", json.loads(hvps("files", "ls", "web:0:1", "/", "--json", *repo).out))
    assert_valid("files find", json.loads(hvps("files", "find", "web:0:2", "--json", *repo).out))


def test_find_matches_names(hvps: Hvps, repo: tuple[str, str]) -> None:
    done = hvps("files", "find", "web:0:1", "/a", "--name", "*.bin", *repo)
    assert [row.split()[-1] for row in done.out.splitlines()] == ["/a/b/big.bin"]


def test_a_file_is_written_once_and_never_over_another(
    hvps: Hvps, repo: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "big"
    done = hvps("files", "get", "web:0:1", "/a/b/big.bin", "--to", target, *repo)
    assert (done.code, done.err) == (0, "")
    assert target.read_bytes() == (source / "a/b/big.bin").read_bytes()
    assert int(target.stat().st_mtime) == int((source / "a/b/big.bin").stat().st_mtime)
    again = hvps("files", "get", "web:0:1", "/hello.txt", "--to", target, *repo)
    assert again.code == 5
    assert target.read_bytes() == (source / "a/b/big.bin").read_bytes()


def test_a_folder_is_written_with_holes_and_links_and_stays_inside(
    hvps: Hvps, repo: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    done = hvps("files", "get", "web:0:1", "/", "--to", target, *repo)
    assert (done.code, done.err) == (0, "")
    (target / "lost+found").rmdir()
    sparse = target / "sparse"
    assert sparse.stat().st_size == 3 << 30
    assert sparse.stat().st_blocks * 512 < 16 << 20
    with sparse.open("rb") as file:
        file.seek(2 << 30)
        assert file.read(5) == b"here\0"
    sparse.unlink()
    (source / "sparse").unlink()
    subprocess.run(["diff", "-r", "--no-dereference", source, target], check=True)
    assert os.readlink(target / "out") == "../../etc/passwd"
    assert not [name for name in os.listdir(target) if "partial" in name]


def test_standard_output_gets_a_file_or_a_tar(repo: tuple[str, str], source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hvpsbridge", "files"]
    got = subprocess.run(
        [*command, "get", "web:0:1", "/a/b/big.bin", "--to", "-", *repo], capture_output=True
    )
    assert (got.returncode, got.stderr) == (0, b"")
    assert got.stdout == (source / "a/b/big.bin").read_bytes()
    archive = subprocess.run([*command, "tar", "web:0:1", "/a", *repo], capture_output=True)
    assert (archive.returncode, archive.stderr) == (0, b"")
    listed = subprocess.run(["tar", "-t"], input=archive.stdout, capture_output=True, check=True)
    assert listed.stdout.split() == [b"b/", b"b/big.bin"]


def test_readable_is_shown_and_kept_with_the_point(hvps: Hvps, repo: tuple[str, str]) -> None:
    done = hvps("verify", "--level", "readable", "--json", *repo)
    assert (done.code, done.err) == (0, "")
    assert_valid("verify", json.loads(done.out))
    (check,) = json.loads(done.out)["readable"]
    assert (check["volumes"], check["not_shown"]) == (["0:1", "0:2"], [])
    assert check["files"] >= 6
    assert "readable" in hvps("show", "web", *repo).out


def test_an_empty_disk_is_not_shown_to_be_readable(hvps: Hvps, tmp_path: Path) -> None:
    with create_repository(str(tmp_path / "empty")) as repository:
        store_point(repository, bytes(4 << 20))
    done = hvps("verify", "--level", "readable", "--repo", tmp_path / "empty")
    assert done.code == 3
    assert "no file system was found" in done.out


def test_a_diff_names_partitions_and_files(
    hvps: Hvps, repo: tuple[str, str], source: Path, tmp_path: Path
) -> None:
    image = tmp_path / "ext4"
    (tmp_path / "new").write_text("new")
    for command in ("rm empty", f"write {tmp_path / 'new'} new", "set_inode_field /hello.txt mode 0100600"):
        images.tool("debugfs", "-w", "-R", command, image)
    changed = images.partitioned(tmp_path / "disk2", "gpt", [image, tmp_path / "ntfs"])
    # The same table: only its random ids would differ.
    first = (tmp_path / "disk").read_bytes()
    with open_repository(str(tmp_path / "repo")) as repository:
        store_point(
            repository, first[: 1 << 20] + changed.read_bytes()[1 << 20 : -(1 << 20)] + first[-(1 << 20) :]
        )
    done = hvps("diff", "web@latest~1", "web@latest", "--json", *repo)
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert_valid("diff", document)
    (volume,) = document["volumes"]
    assert volume["volume"] == "0:1"
    assert 0 < volume["changed_bytes"] < 4 << 20
    assert [(each["change"], each["path"]) for each in volume["files"]] == [
        ("removed", "/empty"),
        ("changed", "/hard"),
        ("changed", "/hello.txt"),
        ("added", "/new"),
    ]
    assert "   added" in hvps("diff", "web@latest~1", "web@latest", *repo).out
    same = hvps("diff", "web@latest", "web@latest", "--json", *repo)
    assert json.loads(same.out)["volumes"] == []


def test_a_file_of_exfat_gets_another_name(hvps: Hvps, tmp_path: Path) -> None:
    packed = Path(images.__file__).parent / "data" / "exfat.img.xz"
    with create_repository(str(tmp_path / "exfat")) as repository:
        store_point(repository, lzma.decompress(packed.read_bytes()))
    target = tmp_path / "other.txt"
    repo = ("--repo", tmp_path / "exfat")
    done = hvps("files", "get", "web", "/sub/numbers.txt", "--to", target, *repo)
    assert (done.code, done.err) == (0, "")
    assert target.read_text().splitlines() == [str(number) for number in range(30000)]
