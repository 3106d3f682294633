"""Lines of points that are remembered on the client: never older than the objects, and never needed."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from hvpsbridge.formats.envelope import Seal, unpack_header
from hvpsbridge.formats.manifest import Proof
from hvpsbridge.repository import Repository, create_repository, open_repository
from hvpsbridge.repository.point_lines import PointLine, line_of
from tests.repository.conftest import CHEAP, CHUNK, KEY, START, store_point


@pytest.fixture(params=["plain", "encrypted"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, object]:
    key = KEY if request.param == "encrypted" else None
    with create_repository(
        str(tmp_path / "repo"), chunk_bytes=CHUNK, key=key, cost=CHEAP, cache_folder=tmp_path / "cache"
    ) as repository:
        for number in range(3):
            point = store_point(repository, bytes([number]) * CHUNK, vm_name=f"secret {number}")
            repository.catalog.proofs.record(point, Proof("hashed", START, 7, uuid4()), "scsi 0:0")
    return str(tmp_path / "repo"), key


def opened(url: tuple[str, object], tmp_path: Path) -> Repository:
    return open_repository(url[0], key=url[1], cache_folder=tmp_path / "cache")  # type: ignore[arg-type]  # a Secret or None


def reads(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects that are read from now on."""
    names: list[str] = []
    get = type(repository.store).get

    def counted(self: object, name: str, *rest: int) -> bytes:
        names.append(name)
        return get(self, name, *rest)  # type: ignore[arg-type]  # a bound method of any store

    monkeypatch.setattr(type(repository.store), "get", counted)
    return names


def look(repository: Repository) -> tuple[list[object], dict[bytes, list[object]]]:
    lines = [found for _, found in repository.catalog.read_lines()]
    return lines, dict(repository.catalog.proofs.all())  # type: ignore[arg-type]  # lists of proofs


def test_lines_are_read_once(
    url: tuple[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(url, tmp_path) as repository:
        first = look(repository)
        points = repository.catalog.points()
        assert sorted(map(str, first[0])) == sorted(str(line_of(point.manifest)) for point in points)
        for point in points:
            assert tuple(first[1][point.manifest.digest()]) == repository.catalog.proofs.of(point)
    with opened(url, tmp_path) as repository:
        names = reads(repository, monkeypatch)
        assert look(repository) == first
        assert not names
        assert not repository.catalog.unreadable_points(list(repository.catalog.read_lines()))


def test_what_was_written_again_is_read_again(url: tuple[str, object], tmp_path: Path) -> None:
    with opened(url, tmp_path) as repository:
        look(repository)
        name = f"points/{repository.catalog.points()[-1].point_id.hex}"
    path = Path(url[0]) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with opened(url, tmp_path) as repository:
        lines = list(repository.catalog.read_lines())
        assert sum(isinstance(line, PointLine) for _, line in lines) == 2
        assert [lost.name for lost in repository.catalog.unreadable_points(lines)] == [name]


@pytest.mark.parametrize("file", ["points", "proofs"])
def test_a_rotten_file_is_made_again(file: str, url: tuple[str, object], tmp_path: Path) -> None:
    with opened(url, tmp_path) as repository:
        first = look(repository)
    (path,) = (tmp_path / "cache").rglob(file)
    good = path.read_bytes()
    for at in (0, 3, 4, 20, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
        with opened(url, tmp_path) as repository:
            assert look(repository) == first
        path.write_bytes(good[:at])
        with opened(url, tmp_path) as repository:
            assert look(repository) == first
    path.unlink()
    path.mkdir()
    with opened(url, tmp_path) as repository:
        assert look(repository) == first


def test_what_is_remembered_is_encrypted_as_the_repository_is(
    url: tuple[str, object], tmp_path: Path
) -> None:
    with opened(url, tmp_path) as repository:
        look(repository)
        seal = Seal.AES_256_GCM if repository.encrypted else Seal.PLAIN
    for name in ("points", "proofs"):
        (path,) = (tmp_path / "cache").rglob(name)
        assert unpack_header(path.read_bytes()[4:]).seal is seal
