"""``repo``, ``list``, ``show`` and ``verify`` on a repository that tests fill from Python."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.formats.manifest import Manifest, ManifestDisk
from hvpsbridge.repository import Point, create_repository

from .conftest import Hvps

VM = UUID("00000000-0000-4000-8000-00000000000a")
AT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
MIB = 1 << 20


def fill(url: Path, count: int = 2) -> tuple[Point, ...]:
    with create_repository(str(url)) as repository:
        for number in range(count):
            with repository.begin(uuid4()) as writer:
                disk = writer.disk(2 * MIB)
                disk.put(0, random.Random(number).randbytes(repository.grid.chunk_bytes))
                tree = disk.finish()
                writer.commit(manifest_of(number, tree))
        return repository.catalog.points()


def manifest_of(number: int, tree: object) -> Manifest:
    return Manifest(
        point_id=uuid4(),
        vm_id=VM,
        vm_name="web 01",
        host="hv01",
        run_id=uuid4(),
        created=AT + timedelta(days=number),
        hvps_version="0.1.0",
        contract=1,
        consistency_asked="application_or_crash",
        consistency="crash",
        checkpoint_id=uuid4(),
        disks=(
            ManifestDisk(
                slot="scsi 0:0",
                disk_id=uuid4(),
                size_bytes=2 * MIB,
                sector_bytes=4096,
                path="C:\\a.avhdx",
                chain=("C:\\a.avhdx",),
                tree=tree,
                rct_id=None,
                mode="full",
                reason="new_disk",
            ),
        ),
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    url = tmp_path / "repo"
    monkeypatch.setenv("HVPS_REPO", str(url))
    return url


def test_init_makes_a_repository_and_never_a_second_one(hvps: Hvps, repository: Path) -> None:
    done = hvps("repo", "init", "--json", "--chunk", "64KiB")
    assert done.code == 0
    facts = json.loads(done.out)
    assert (facts["chunk_bytes"], facts["sealed"], facts["url"]) == (65536, False, str(repository))
    again = hvps("repo", "init", str(repository))
    assert again.code == 5
    assert again.err.count("\n") == 1


def test_a_missing_repository_is_10_for_every_command(hvps: Hvps, repository: Path) -> None:
    for arguments in (("list",), ("show", "x"), ("verify",)):
        done = hvps(*arguments)
        assert (done.code, done.err) == (
            10,
            f"hvps: no repository at {repository}: there is no such directory; "
            "check the URL and that its storage is mounted, or create one with `hvps repo init`\n",
        )


def test_a_repository_of_a_newer_format_is_10_and_names_both_numbers(hvps: Hvps, repository: Path) -> None:
    fill(repository, 0)
    config = repository / "config"
    text = config.read_bytes()
    newer = text.replace(b'"format":2', b'"format":99')
    assert newer != text
    config.chmod(0o600)
    config.write_bytes(newer)
    done = hvps("list")
    assert done.code == 10
    assert "99" in done.err


def test_list_gives_points_oldest_first_with_everything_a_script_needs(hvps: Hvps, repository: Path) -> None:
    points = fill(repository)
    listed = json.loads(hvps("list", "--json").out)
    assert [point["point_id"] for point in listed["points"]] == [str(point.point_id) for point in points]
    first = listed["points"][0]
    assert first["created"] == "2026-03-01T02:00:00.000+00:00"
    assert first["checkpoint_id"] == str(points[0].manifest.checkpoint_id)
    assert first["disks"][0]["slot"] == "scsi 0:0"
    text = hvps("list", "WEB 01").out
    assert points[0].short_id in text
    assert json.loads(hvps("list", "nobody", "--json").out)["points"] == []


def test_the_sector_size_is_shown_wherever_a_disk_is(hvps: Hvps, repository: Path, tmp_path: Path) -> None:
    fill(repository, 1)
    for command in (("list",), ("show", "web 01")):
        assert " 4096 " in hvps(*command).out
    assert json.loads(hvps("list", "--json").out)["points"][0]["disks"][0]["sector_bytes"] == 4096
    assert json.loads(hvps("show", "web 01", "--json").out)["disks"][0]["sector_bytes"] == 4096
    done = hvps("restore", "web 01", "--to", f"raw:{tmp_path / 'out'}", "-q")
    assert " 4096 " in done.out
    assert "losetup --sector-size 4096" in done.err


@pytest.mark.parametrize("selector", ["web 01@latest", "web 01", "WEB 01@2026-03-02T02:00Z", f"{VM}@latest"])
def test_show_finds_a_point_by_every_kind_of_selector(selector: str, hvps: Hvps, repository: Path) -> None:
    points = fill(repository)
    done = hvps("show", selector, "--json")
    assert json.loads(done.out)["point_id"] == str(points[1].point_id)
    assert str(points[1].point_id) in hvps("show", selector).out


def test_a_point_that_is_not_there_is_5_and_one_line(hvps: Hvps, repository: Path) -> None:
    fill(repository)
    for selector in ("nobody@latest", "web 01@latest~2", "web 01@2026-02-01T00:00Z", "ffffffff"):
        done = hvps("show", selector)
        assert done.code == 5
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("level", ["written", "hashed"])
def test_a_good_repository_verifies(level: str, hvps: Hvps, repository: Path) -> None:
    fill(repository)
    done = hvps("verify", "--level", level, "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["good"] is True
    assert report["report"]["points"] == 2


def test_what_a_verify_proved_is_shown_and_what_it_found_bad_is_remembered(
    hvps: Hvps, repository: Path
) -> None:
    points = fill(repository)
    assert json.loads(hvps("show", "web 01", "--json").out)["disks"][0]["proof"] is None
    assert hvps("verify", "web 01@latest").code == 0
    listed = json.loads(hvps("list", "--json").out)["points"]
    assert [point["disks"][0]["proof"] is not None for point in listed] == [False, True]
    assert listed[1]["disks"][0]["proof"]["level"] == "hashed"
    assert "hashed 20" in hvps("show", "web 01").out
    for pack in (file for file in (repository / "data").rglob("*") if file.is_file()):
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(data)
    assert hvps("verify").code == 7
    assert list((repository / "bad").iterdir()) != []
    assert [point["point_id"] for point in json.loads(hvps("list", "--json").out)["points"]] == [
        str(point.point_id) for point in points
    ]


def test_damage_is_7_and_names_the_points_it_touches(hvps: Hvps, repository: Path) -> None:
    points = fill(repository)
    for pack in (file for file in (repository / "data").rglob("*") if file.is_file()):
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(data)
    done = hvps("verify")
    assert done.code == 7
    assert any(point.short_id in done.out for point in points)
    report = json.loads(hvps("verify", "--json").out)
    assert report["good"] is False


def test_an_object_that_cannot_be_read_at_all_is_one_line(hvps: Hvps, repository: Path) -> None:
    fill(repository)
    (repository / "config").unlink()
    (repository / "config").write_bytes(b"rubbish")
    done = hvps("list")
    assert done.code in {7, 10}
    assert done.err.count("\n") == 1


def test_a_renamed_vm_is_listed_by_its_old_and_new_name(hvps: Hvps, repository: Path) -> None:
    with create_repository(str(repository)) as opened:
        for number, name in enumerate(("web01", "db02")):
            with opened.begin(uuid4()) as writer:
                tree = writer.disk(2 * MIB).finish()
                writer.commit(replace(manifest_of(number, tree), vm_name=name))
    for name in ("web01", "db02", "DB02", str(VM)):
        assert len(json.loads(hvps("list", name, "--json").out)["points"]) == 2, name
    assert json.loads(hvps("list", "db", "--json").out)["points"] == []


def test_a_point_that_cannot_be_read_is_in_the_list_and_7(hvps: Hvps, repository: Path) -> None:
    first, last = fill(repository)
    name = f"points/{last.point_id.hex}"
    (repository / name).chmod(0o600)
    (repository / name).write_bytes((repository / name).read_bytes()[:-1])
    done = hvps("list")
    assert done.code == 7
    assert first.short_id in done.out
    assert f"{last.short_id}  unknown" in done.out
    document = hvps("list", "--json")
    assert document.code == 7
    (unreadable,) = json.loads(document.out)["unreadable"]
    assert (unreadable["name"], unreadable["vm_id"]) == (name, None)
    shown = hvps("show", last.short_id)
    assert shown.code == 7
    assert name in shown.err
    assert hvps("show", first.short_id).code == 0


def test_lost_chunks_show_until_they_are_stored_again(hvps: Hvps, repository: Path) -> None:
    first, last = fill(repository)
    for pack in (file for file in (repository / "data").rglob("*") if file.is_file()):
        pack.unlink()
        break
    assert hvps("verify").code == 7
    listed = hvps("list")
    assert (listed.code, "1 chunks are listed as damaged" in listed.out) == (7, True)
    assert json.loads(hvps("list", "--json").out)["lost_chunks"] == 1
    codes = {hvps("show", point.short_id).code for point in (first, last)}
    assert codes == {0, 7}
    assert {
        json.loads(hvps("show", point.short_id, "--json").out)["lost_chunks"] for point in (first, last)
    } == {
        0,
        1,
    }
