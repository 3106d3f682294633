"""Logical volumes made by lvm2: data/README.md says where they are, and what reads them, too."""

from __future__ import annotations

import io
import lzma
import random
import tarfile
from pathlib import Path

import pytest

from hvpsbridge.errors import FilesUnreadable
from hvpsbridge.filesystems.disks import UnreadableError
from hvpsbridge.filesystems.lvm_metadata import parsed
from hvpsbridge.filesystems.model import Volume
from hvpsbridge.filesystems.pieces import Piece, PiecedVolume
from hvpsbridge.units import KIB, MIB
from tests.filesystems import images
from tests.filesystems.images import FileDisk
from tests.filesystems.test_reading import all_of, content_of, opened
from tests.filesystems.test_special import DATA, unpacked

HELLO = b"hello\n"
NUMBERS = "".join(f"{number}\n" for number in range(50_000)).encode()
BIG = b"".join(number.to_bytes(4, "little") for number in range(600_000))


def untarred(name: str, folder: Path) -> list[Path]:
    """The physical volumes of an archive in data/."""
    with tarfile.open(fileobj=io.BytesIO(lzma.decompress((DATA / f"{name}.tar.xz").read_bytes()))) as archive:
        # The argument "filter" came with Python 3.11.4; Debian 12 has 3.11.2.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        archive.extractall(folder)
        return [folder / member for member in archive.getnames()]


def by_name(volumes: tuple[Volume, ...]) -> dict[str, tuple[int, Volume]]:
    return {volume.name: (index, volume) for index, volume in enumerate(volumes) if "/" in volume.name}


def test_segments_on_several_physical_volumes_and_stripes_are_read(tmp_path: Path) -> None:
    chance = random.Random(1)
    paths = untarred("lvm-several", tmp_path)
    chance.shuffle(paths)
    # One in a partition, one behind something else on its disk, one a whole disk.
    empty = images.empty(tmp_path / "empty", 3 * MIB)
    disks = [
        images.partitioned(tmp_path / "disk0", "gpt", [paths[0]]),
        images.partitioned(tmp_path / "disk1", "dos", [empty, paths[1]]),
        paths[2],
    ]
    with opened(*disks) as files:
        found = by_name(files.volumes())
        assert {name: volume.size_bytes // MIB for name, (_, volume) in found.items()} == {
            "vg-a/root": 14,
            "vg-a/other": 2,
            "vg-a/striped": 8,
            "vg-a/second": 3,
        }
        for name, (index, volume) in found.items():
            assert (volume.content, volume.refused) == ("ext", "")
            assert files.open(index) == ""
            inside = all_of(files, index)
            wanted = {"/hello.txt": HELLO, "/numbers.txt": NUMBERS}
            if name in ("vg-a/root", "vg-a/striped"):
                wanted["/deep/er/big.bin"] = BIG
            for path, content in wanted.items():
                assert content_of(files.read(index, inside[path.encode()])) == content, (name, path)


def test_only_volumes_that_need_a_missing_physical_volume_are_refused(tmp_path: Path) -> None:
    with opened(*untarred("lvm-several", tmp_path)[:2]) as files:
        found = by_name(files.volumes())
        refused = {name: volume.refused for name, (_, volume) in found.items() if volume.refused}
        assert set(found) - set(refused) == {"vg-a/root", "vg-a/other"}
        assert all("physical volume pv2 (/dev/loop2) is missing" in why for why in refused.values())
        with pytest.raises(FilesUnreadable, match="is missing"):
            files.open(found["vg-a/second"][0])


def test_a_physical_volume_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    paths = untarred("lvm-several", tmp_path)
    with opened(*paths, paths[2]) as files:
        found = by_name(files.volumes())
        assert "is there 2 times" in found["vg-a/second"][1].refused
        assert not found["vg-a/root"][1].refused


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("raided", "RAID volume (raid0)"),
        ("raid1", "RAID volume (raid1)"),
        ("mirror", "a mirror"),
        ("cached", "a cached volume"),
        ("thin", "a thin volume"),
        ("snap", "a snapshot"),
    ],
)
def test_other_kinds_of_volumes_are_refused_by_name(tmp_path: Path, name: str, named: str) -> None:
    with opened(*untarred("lvm-kinds", tmp_path)) as files:
        found = by_name(files.volumes())
        assert set(found) == {
            f"kinds/{each}" for each in ("plain", "raided", "raid1", "mirror", "cached", "thin", "snap")
        }
        volume = found[f"kinds/{name}"][1]
        assert f"it is {named}" in volume.refused.replace("a RAID", "RAID")
        assert volume.size_bytes == 0


def test_a_volume_of_two_segments_on_one_partition_is_read(tmp_path: Path) -> None:
    source = images.tree(tmp_path / "source")
    ext4 = images.ext4(tmp_path / "ext4", source, 16 * MIB).read_bytes()
    physical = bytearray(unpacked("lvm.img", tmp_path).read_bytes())
    physical[1 * MIB : 9 * MIB] = ext4[: 8 * MIB]
    physical[13 * MIB : 21 * MIB] = ext4[8 * MIB :]
    (tmp_path / "lvm.img").write_bytes(physical)
    disk = images.partitioned(tmp_path / "disk", "gpt", [tmp_path / "lvm.img"])
    with opened(disk) as files:
        index, volume = by_name(files.volumes())["vg0/root"]
        assert (volume.content, volume.refused) == ("ext", "")
        content = files.content(index)
        assert content.pread(0, content.size_bytes) == ext4
        assert content.pread(8 * MIB - 100, 200) == ext4[8 * MIB - 100 : 8 * MIB + 100]


def test_metadata_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    image = unpacked("lvm.img", tmp_path)
    content = image.read_bytes().replace(b"physical_volumes {\n", b"physical_volumes_ {\n")
    image.write_bytes(content)
    with opened(image) as files:
        found = {volume.name: volume.refused for volume in files.volumes()}
        assert "the checksum does not fit" in found["lvm"]


def test_noise_in_metadata_ends_in_a_refusal(tmp_path: Path) -> None:
    image = unpacked("lvm.img", tmp_path)
    whole = image.read_bytes()
    chance = random.Random(4)
    for _ in range(10):
        content = bytearray(whole)
        for _ in range(20):
            content[chance.randrange(512, 24 * KIB)] = chance.randrange(256)
        image.write_bytes(content)
        with opened(image) as files:
            files.volumes()


@pytest.mark.parametrize(
    "text", ["}", "a {", "a = ", "a = [1, 2", "a { b = 1 } }", "{ }", "= 1", "a b", "a = = 1 2", '"']
)
def test_text_that_lvm_does_not_write_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError, match="form that LVM writes"):
        parsed(text)


def test_metadata_is_read_with_its_quotes_and_comments() -> None:
    root = parsed(
        'vg0 { # a "group"\n id = "x \\"y\\" # z"\n list = ["a", 1,\n -2]\ninner {\n n = 7 } }\nversion = 1\n'
    )
    assert root == {"vg0": {"id": 'x "y" # z', "list": ["a", 1, -2], "inner": {"n": 7}}, "version": 1}


def test_pieces_that_are_not_on_the_disks_are_refused(tmp_path: Path) -> None:
    disk = FileDisk(images.empty(tmp_path / "disk", MIB))
    for piece in (
        Piece(0, ((0, 0),)),
        Piece(MIB, ()),
        Piece(MIB, ((1, 0),)),
        Piece(MIB, ((0, 1),)),
        Piece(MIB, ((0, -1),)),
        Piece(MIB, ((0, 0), (0, 0)), 0),
        Piece(MIB, ((0, 0), (0, 0)), 300),
    ):
        with pytest.raises(ValueError, match=r"disk|empty|length"):
            PiecedVolume([disk], [piece])
