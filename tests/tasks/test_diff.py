"""Differences of two points whose file systems are on logical volumes."""

from __future__ import annotations

from pathlib import Path

from hvpsbridge.errors import FilesUnreadable
from hvpsbridge.repository import create_repository
from hvpsbridge.tasks.files.comparison import Change
from hvpsbridge.tasks.files.diff import diff
from hvpsbridge.units import KIB, MIB
from tests.filesystems.images import tool
from tests.filesystems.test_lvm import untarred
from tests.repository.conftest import store_disks

STRIPE = 64 * KIB


def striped(paths: list[Path]) -> list[tuple[Path, int]]:
    """Where each stripe of the volume ``striped`` is: tests/filesystems/data/README.md."""
    places = [(paths[1], 6 * MIB), (paths[2], 1 * MIB)]
    return [(path, start + row * STRIPE) for row in range(64) for path, start in places]


def never(err: FilesUnreadable) -> None:
    raise err


def test_only_logical_volumes_whose_pieces_changed_are_compared(tmp_path: Path) -> None:
    paths = untarred("lvm-several", tmp_path)
    with create_repository(str(tmp_path / "repo")) as repository:
        one = store_disks(repository, paths)
        image = tmp_path / "striped"
        places = striped(paths)
        image.write_bytes(b"".join(path.read_bytes()[at : at + STRIPE] for path, at in places))
        tool("debugfs", "-w", "-R", "set_inode_field /hello.txt mode 0100600", image)
        content = image.read_bytes()
        for number, (path, at) in enumerate(places):
            with path.open("r+b") as file:
                file.seek(at)
                file.write(content[number * STRIPE : (number + 1) * STRIPE])
        other = store_disks(repository, paths)
        found = {volume.volume: volume for volume in diff(repository, one, other, never)}
    (logical,) = [name for name in found if "/" in name]
    assert logical == "0:vg-a/striped"
    files = [(file.change, file.path) for file in found[logical].files]
    assert files == [(Change.CHANGED, b"/hello.txt")]
    assert found[logical].not_compared == ""
