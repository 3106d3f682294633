"""Files out of disks, compared with what the file systems' own tools read."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.errors import Damaged, FilesUnreadable, HvpsError
from hvpsbridge.filesystems.client import DiskFiles
from hvpsbridge.filesystems.model import Entry, FileKind
from hvpsbridge.filesystems.tar import Archive
from hvpsbridge.units import MIB
from tests.filesystems import images
from tests.filesystems.images import FileDisk, tool


def opened(*paths: Path) -> DiskFiles:
    return DiskFiles([FileDisk(path) for path in paths], [512] * len(paths))


def never(err: HvpsError) -> None:
    raise err


def all_of(files: DiskFiles, volume: int) -> dict[bytes, Entry]:
    root = files.entry(volume, b"/")
    assert root is not None
    return {entry.path: entry for entry in files.walk(volume, root, never)}


def content_of(parts: Iterator[bytes | int]) -> bytes:
    return b"".join(bytes(part) for part in parts)


def test_partitions_of_both_tables_are_listed_and_read(tmp_path: Path) -> None:
    source = images.tree(tmp_path / "source")
    ext4 = images.ext4(tmp_path / "ext4", source)
    ntfs = images.ntfs(tmp_path / "ntfs", {"hello.txt": source / "hello.txt"})
    for label in ("dos", "gpt"):
        disk = images.partitioned(tmp_path / label, label, [ext4, ntfs])
        with opened(disk) as files:
            volumes = files.volumes()
            assert [(each.name, each.content, each.refused) for each in volumes] == [
                ("1", "ext", ""),
                ("2", "ntfs", ""),
            ]
            for volume in (0, 1):
                assert files.open(volume) == ""
                entry = files.entry(volume, b"/hello.txt")
                assert entry is not None
                assert content_of(files.read(volume, entry)) == b"hello\n"


def test_ext4_is_read_as_debugfs_reads_it(tmp_path: Path) -> None:
    source = images.unix_tree(tmp_path / "source")
    image = images.ext4(tmp_path / "image", source)
    with opened(image) as files:
        files.volumes()
        assert files.open(0) == ""
        found = all_of(files, 0)
        assert found.keys() >= {b"/a/b/big.bin", b"/n\xe4me", b"/tab\tnew\nline\x1b[2J", b"/empty"}
        assert found[b"/link"].target == b"a/b/big.bin"
        assert found[b"/hard"].key == found[b"/hello.txt"].key
        assert (found[b"/hello.txt"].mode, found[b"/hello.txt"].modified_ns) == (0o640, 10**18)
        judged = tool("debugfs", "-R", "cat /a/b/big.bin", image)
        assert content_of(files.read(0, found[b"/a/b/big.bin"])) == judged
        at = 0
        for part in files.read(0, found[b"/sparse"]):
            if isinstance(part, bytes):
                assert at <= 2 << 30 < at + len(part)
                assert part[(2 << 30) - at :].startswith(b"here")
            at += part if isinstance(part, int) else len(part)
        assert at == 3 << 30


def test_fat32_is_read_as_mtools_read_it(tmp_path: Path) -> None:
    source = images.tree(tmp_path / "source")
    (source / "A rather long näme.txt").write_text("long")
    image = images.fat32(tmp_path / "image", source)
    with opened(image) as files:
        (volume,) = files.volumes()
        assert (volume.name, volume.content) == ("0", "fat")
        found = all_of(files, 0)
        assert set(found) == {
            b"/a", b"/a/b", b"/a/b/big.bin", b"/empty", b"/hello.txt", "/A rather long näme.txt".encode(),
        }  # fmt: skip
        judged = tool("mtype", "-i", image, "::a/b/big.bin")
        assert content_of(files.read(0, found[b"/a/b/big.bin"])) == judged
        assert files.entry(0, b"/A/B/BIG.BIN") is not None


def test_ntfs_is_read_as_ntfscat_reads_it(tmp_path: Path) -> None:
    source = images.tree(tmp_path / "source")
    image = images.ntfs(tmp_path / "image", {"Big Näme.bin": source / "a/b/big.bin", "e": source / "empty"})
    with opened(image) as files:
        files.volumes()
        found = all_of(files, 0)
        assert set(found) == {"/Big Näme.bin".encode(), b"/e"}
        judged = tool("ntfscat", image, "Big Näme.bin")
        assert content_of(files.read(0, found["/Big Näme.bin".encode()])) == judged
        assert files.entry(0, "/big näme.BIN".encode()) is not None
        assert files.entry(0, b"/none") is None


def test_xfs_is_read(tmp_path: Path) -> None:
    source = images.tree(tmp_path / "source")
    image = images.xfs(
        tmp_path / "image",
        f"/\n0 0\nd--755 0 0\nbig ---644 1000 1001 {source}/a/b/big.bin\n"
        f"sub d--755 0 0\nlink l--777 0 0 ../big\n$\n$\n",
    )
    with opened(image) as files:
        files.volumes()
        assert files.open(0) == ""
        found = all_of(files, 0)
        assert found.keys() == {b"/big", b"/sub", b"/sub/link"}
        assert found[b"/sub/link"].target == b"../big"
        assert (found[b"/big"].owner, found[b"/big"].group) == (1000, 1001)
        assert content_of(files.read(0, found[b"/big"])) == (source / "a/b/big.bin").read_bytes()


def test_an_empty_exfat_opens(tmp_path: Path) -> None:
    with opened(images.exfat(tmp_path / "image")) as files:
        files.volumes()
        assert all_of(files, 0) == {}


@pytest.mark.parametrize("block", [1024, 4096])
def test_a_dirty_ext4_journal_is_replayed_beside_the_disk(tmp_path: Path, block: int) -> None:
    source = images.tree(tmp_path / "source")
    image = images.ext4(tmp_path / "image", source, 64 * MIB, "-b", str(block))
    # The inode table's block with hello.txt, changed in the journal only: its size becomes 3.
    located = re.search(rb"at block (\d+)", tool("debugfs", "-R", "imap /hello.txt", image))
    assert located is not None
    number = int(located[1])
    changed = tmp_path / "changed"
    changed.write_bytes(image.read_bytes())
    tool("debugfs", "-w", "-R", "set_inode_field /hello.txt size 3", changed)
    piece = tmp_path / "piece"
    piece.write_bytes(changed.read_bytes()[number * block : (number + 1) * block])
    script = f"journal_open\njournal_write -b {number} {piece}\njournal_close\n"
    tool("debugfs", "-w", "-f", "/dev/stdin", image, text=script)
    before = hashlib.sha256(image.read_bytes()).digest()
    with opened(image) as files:
        files.volumes()
        assert files.open(0) == ""
        entry = files.entry(0, b"/hello.txt")
        assert entry is not None
        assert entry.size_bytes == 3
        assert content_of(files.read(0, entry)) == b"hel"
        big = files.entry(0, b"/a/b/big.bin")
        assert big is not None
        assert content_of(files.read(0, big)) == (source / "a/b/big.bin").read_bytes()
        assert files.read_bytes < 16 * MIB
    assert hashlib.sha256(image.read_bytes()).digest() == before


@pytest.mark.parametrize(
    ("offset", "signature", "named"),
    [
        (3, b"-FVE-FS-", "BitLocker"),
        (0, b"LUKS\xba\xbe", "LUKS"),
        (3, b"ReFS\0\0\0\0", "ReFS"),
        (65600, b"_BHRfS_M", "btrfs"),
        (4096, b"\xfc\x4e\x2b\xa9", "software RAID"),
        (6 * 512, b"PRIVHEAD", "dynamic disks"),
        (0, b"no idea", "no file system is known"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    tmp_path: Path, offset: int, signature: bytes, named: str
) -> None:
    content = bytearray(4 * MIB)
    content[offset : offset + len(signature)] = signature
    path = tmp_path / "image"
    path.write_bytes(content)
    with opened(path) as files:
        (volume,) = files.volumes()
        assert named in volume.refused
        with pytest.raises(FilesUnreadable, match=named):
            files.open(0)


def test_tar_holds_what_gnu_tar_extracts(tmp_path: Path) -> None:
    source = images.unix_tree(tmp_path / "source")
    (source / "sparse").unlink()
    image = images.ext4(tmp_path / "image", source)
    with opened(image) as files:
        files.volumes()
        written = io.BytesIO()
        archive = Archive(written, b"/")
        for entry in all_of(files, 0).values():
            archive.add(entry, files.read(0, entry))
        archive.close()
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "x.tar").write_bytes(written.getvalue())
    tool("tar", "-x", "-p", "-f", tmp_path / "x.tar", "--exclude=lost+found", "-C", target)
    tool("diff", "-r", "--no-dereference", source, target)
    assert (target / "hello.txt").stat().st_ino == (target / "hard").stat().st_ino
    assert (target / "hello.txt").stat().st_mtime_ns == 10**18


class BadDisk(FileDisk):
    """A disk whose data is damaged from an offset on."""

    damaged_from = 1 << 60

    def pread(self, offset: int, length: int) -> bytes:
        if offset + length > self.damaged_from:
            raise Damaged("repo", "chunk 1", "its hash differs")
        return super().pread(offset, length)


def test_damage_of_the_repository_is_never_zeros(tmp_path: Path) -> None:
    source = images.tree(tmp_path / "source")
    for image in (
        images.ext4(tmp_path / "ext4", source),
        images.ntfs(tmp_path / "ntfs", {"hello.txt": source / "a/b/big.bin"}),
        images.fat32(tmp_path / "fat", source),
    ):
        disk = BadDisk(image)
        with DiskFiles([disk], [512]) as files:
            files.volumes()
            files.open(0)
            entry = files.entry(0, b"/hello.txt")
            assert entry is not None
            disk.damaged_from = 0
            big = next(each for each in all_of_known(files) if each.size_bytes > MIB)
            with pytest.raises(Damaged):
                content_of(files.read(0, big))


def all_of_known(files: DiskFiles) -> list[Entry]:
    """Files found while the disk was whole; folders are in the child's cache."""
    found = [files.entry(0, path) for path in (b"/hello.txt", b"/a/b/big.bin")]
    return [each for each in found if each is not None and each.kind is FileKind.FILE]
