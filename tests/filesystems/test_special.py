"""LVM, and files of NTFS that are more than a run of clusters."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from hvpsbridge.errors import FilesUnreadable
from hvpsbridge.filesystems.model import FileKind
from hvpsbridge.units import MIB
from tests.filesystems import images
from tests.filesystems.images import tool
from tests.filesystems.test_reading import all_of, content_of, opened

DATA = Path(__file__).parent / "data"


def unpacked(name: str, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(lzma.decompress((DATA / f"{name}.xz").read_bytes()))
    return path


def test_compressed_files_of_ntfs_are_read_as_ntfscat_reads_them(tmp_path: Path) -> None:
    image = unpacked("ntfs.img", tmp_path)
    with opened(image) as files:
        files.volumes()
        found = all_of(files, 0)
        for name in ("comp/text.txt", "comp/sparse.bin"):
            assert content_of(files.read(0, found[f"/{name}".encode()])) == tool("ntfscat", image, name)


def test_links_and_refusals_of_ntfs(tmp_path: Path) -> None:
    with opened(unpacked("ntfs.img", tmp_path)) as files:
        files.volumes()
        found = all_of(files, 0)
        assert (found[b"/junction"].kind, found[b"/junction"].target) == (FileKind.SYMLINK, b"C:/Users")
        for name, named in (
            ("wof.dll", "WOF"),
            ("dedup.bin", "dedup"),
            ("cloud.txt", "OneDrive"),
            ("efs.doc", "EFS"),
        ):
            with pytest.raises(FilesUnreadable, match=named):
                content_of(files.read(0, found[f"/{name}".encode()]))


def test_a_logical_volume_is_read_and_one_of_two_segments_refused(tmp_path: Path) -> None:
    source = images.tree(tmp_path / "source")
    ext4 = images.ext4(tmp_path / "ext4", source, 4 * MIB).read_bytes()
    physical = bytearray(unpacked("lvm.img", tmp_path).read_bytes())
    physical[9 * MIB : 13 * MIB] = ext4
    (tmp_path / "lvm.img").write_bytes(physical)
    disk = images.partitioned(tmp_path / "disk", "gpt", [tmp_path / "lvm.img"])
    with opened(disk) as files:
        volumes = files.volumes()
        assert [(each.name, each.content, bool(each.refused)) for each in volumes] == [
            ("1", "lvm", True),
            ("vg0/#1", "", True),
            ("vg0/other", "ext", False),
        ]
        files.open(2)
        big = files.entry(2, b"/a/b/big.bin")
        assert big is not None
        assert content_of(files.read(2, big)) == (source / "a/b/big.bin").read_bytes()


def test_a_missing_physical_volume_is_named(tmp_path: Path) -> None:
    image = unpacked("lvm.img", tmp_path)
    content = image.read_bytes().replace(b"physical_volumes {\n", b"physical_volumes_ {\n")
    image.write_bytes(content)
    with opened(image) as files:
        volumes = files.volumes()
        assert all(each.refused for each in volumes)
