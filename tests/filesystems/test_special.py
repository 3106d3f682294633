"""Files of NTFS that are more than a run of clusters, exFAT, and what is damaged."""

from __future__ import annotations

import lzma
import random
from pathlib import Path

import pytest

from hvpsbridge.errors import FilesUnreadable, HvpsError
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


def test_a_dirty_log_of_xfs_is_announced(tmp_path: Path) -> None:
    with opened(unpacked("xfs.img", tmp_path)) as files:
        files.volumes()
        assert "XFS log was not closed" in files.open(0)


def test_a_child_that_dies_is_an_error_and_not_an_empty_file(tmp_path: Path) -> None:
    image = images.ext4(tmp_path / "image", images.tree(tmp_path / "source"))
    with opened(image) as files:
        files.volumes()
        big = files.entry(0, b"/a/b/big.bin")
        assert big is not None
        content = files.read(0, big)
        next(content)
        files._child.kill()
        with pytest.raises(FilesUnreadable, match="process that parses it ended"):
            content_of(content)


@pytest.mark.parametrize("kind", ["ext4", "ntfs", "fat"])
def test_a_file_system_full_of_noise_ends_in_an_error_or_a_list(tmp_path: Path, kind: str) -> None:
    source = images.tree(tmp_path / "source")
    image = tmp_path / "image"
    if kind == "ext4":
        images.ext4(image, source)
    elif kind == "ntfs":
        images.ntfs(image, {"big.bin": source / "a/b/big.bin"})
    else:
        images.fat32(image, source)
    whole = image.read_bytes()
    chance = random.Random(3)
    for _ in range(8):
        content = bytearray(whole)
        for _ in range(400):
            content[chance.randrange(4096, 2 * MIB)] = chance.randrange(256)
        image.write_bytes(content)
        errors: list[HvpsError] = []
        with opened(image) as files:
            files.volumes()
            try:
                root = files.entry(0, b"/")
                assert root is not None
                for entry in files.walk(0, root, errors.append):
                    if entry.kind is FileKind.FILE and not entry.refused and entry.size_bytes < 8 * MIB:
                        content_of(files.read(0, entry))
            except FilesUnreadable as err:
                errors.append(err)
        assert all(isinstance(err, FilesUnreadable) for err in errors)


def test_exfat_is_read(tmp_path: Path) -> None:
    with opened(unpacked("exfat.img", tmp_path)) as files:
        files.volumes()
        found = all_of(files, 0)
        assert set(found) == {b"/sub", "/Ein langer Näme.txt".encode(), b"/vdl.bin", b"/sub/numbers.txt"}
        wanted = "".join(f"{number}\n" for number in range(30000)).encode()
        assert content_of(files.read(0, found[b"/sub/numbers.txt"])) == wanted
        assert content_of(files.read(0, found[b"/vdl.bin"])) == bytes(100_000)


def test_exfat_is_zeros_beyond_the_valid_length(tmp_path: Path) -> None:
    image = unpacked("exfat.img", tmp_path)
    content = bytearray(image.read_bytes())
    size = len("".join(f"{number}\n" for number in range(30000)))
    valid = content.index(size.to_bytes(8, "little"))  # the first of the two lengths of its stream entry
    content[valid : valid + 8] = (1000).to_bytes(8, "little")
    image.write_bytes(content)
    with opened(image) as files:
        files.volumes()
        entry = files.entry(0, b"/sub/numbers.txt")
        assert entry is not None
        read = content_of(files.read(0, entry))
        assert (len(read), read[990:1010]) == (size, b"275\n276\n27" + bytes(10))
        assert not any(read[1000:])
