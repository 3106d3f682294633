"""What is remembered about hosts, per machine and build."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.formats.os_build import OsBuild, parse_os_build
from hvpsbridge.tasks.host_records import FILE_NAME, HostRecords, IdWay, ProvedBuild
from tests.tasks import builders as make

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_record_is_there_in_the_next_process(tmp_path: Path) -> None:
    HostRecords(tmp_path).save(make.host(), proved=NOON, way=IdWay.FROZEN, hash_bytes=5e8)
    HostRecords(tmp_path).save(make.host(), differ=False)
    assert HostRecords(tmp_path).load(make.host()) == ProvedBuild(
        proved=NOON, way=IdWay.FROZEN, differ=False, hash_bytes=5e8
    )


@pytest.mark.parametrize(
    "other",
    [
        {"os_revision": 2701},
        {"os_revision": None},
        {"os_build": 26100},
        {"name": "HV02"},
        {"machine_id": UUID(int=7)},
    ],
    ids=str,
)
def test_another_machine_or_build_has_none(tmp_path: Path, other: dict[str, object]) -> None:
    records = HostRecords(tmp_path)
    records.save(make.host(), proved=NOON, way=IdWay.FROZEN)
    assert records.load(make.host(**other)) == ProvedBuild()
    assert records.load(make.host(name="hv01")).proved == NOON


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"version": 2}', '{"version": 1, "hosts": [1]}', '{"version": 1, "hosts": {"hv01": 3}}'],
)
def test_a_file_that_hvps_did_not_write_proves_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    assert HostRecords(tmp_path).load(make.host()) == ProvedBuild()


@pytest.mark.parametrize(
    "wrong",
    [{"proved": "2026-03-01"}, {"way": "guess"}, {"differ": "no"}, {"hash_bytes": -1}, {"refuted": 3}],
)
def test_an_entry_that_hvps_did_not_write_proves_nothing(tmp_path: Path, wrong: dict[str, object]) -> None:
    HostRecords(tmp_path).save(make.host(), proved=NOON, way=IdWay.FROZEN)
    document = json.loads((tmp_path / FILE_NAME).read_text())
    for builds in document["hosts"].values():
        for entry in builds.values():
            entry.update(wrong)
    (tmp_path / FILE_NAME).write_text(json.dumps(document))
    assert HostRecords(tmp_path).load(make.host()) == ProvedBuild()


def test_a_folder_that_cannot_be_written_costs_the_record_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    records = HostRecords(tmp_path / "file")
    assert records.save(make.host(), proved=NOON).proved == NOON
    assert HostRecords(tmp_path / "file").load(make.host()).proved is None


def test_builds_have_a_text_and_back() -> None:
    assert str(OsBuild(20348, 2700)) == "10.0.20348.2700"
    assert parse_os_build("10.0.20348.2700") == OsBuild(20348, 2700)
    assert parse_os_build("10.0.20348") == OsBuild(20348)
    for text in ("20348", "10.0.20348.x", "6.3.9600", "10.0.20348.2700.1"):
        with pytest.raises(ValueError, match="is not a build of Windows"):
            parse_os_build(text)
