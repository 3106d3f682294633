"""Ages of newest points: who counts, and what is too old."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from hvpsbridge.repository.point_ages import VmAge, vm_ages
from hvpsbridge.repository.point_lines import PointLine
from hvpsbridge.repository.points import LostPoint

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
DAY = timedelta(hours=26)
WEB, DB = UUID(int=1), UUID(int=2)


def line(vm_id: UUID, name: str, hours: float, sequence: int = 1) -> PointLine:
    return PointLine(
        point_id=uuid4(),
        vm_id=vm_id,
        vm_name=name,
        host="hv01",
        created=NOW - timedelta(hours=hours),
        sequence=sequence,
        consistency="application",
        writer=None,
        manifest_digest=b"",
        disks=(),
    )


def ages(*lines: PointLine, names: tuple[str, ...] = (), lost: tuple[LostPoint, ...] = ()) -> list[VmAge]:
    return list(vm_ages(lines, lost, names, DAY, NOW))


def test_the_newest_point_of_each_vm_counts() -> None:
    found = ages(line(WEB, "web", 50), line(WEB, "web", 26, 2), line(DB, "db", 26.1))
    assert [(age.vm, age.good) for age in found] == [("db", False), ("web", True)]
    assert found[1].age_seconds == 26 * 3600


def test_a_vm_that_no_host_has_any_more_is_too_old() -> None:
    assert not ages(line(WEB, "web", 24 * 90))[0].good


def test_a_named_vm_without_points_was_never_backed_up() -> None:
    found = ages(line(WEB, "web", 1), names=("web", "mail"))
    assert [(age.vm, age.vm_id, age.good) for age in found] == [("mail", None, False), ("web", WEB, True)]


def test_only_named_vms_are_checked_by_any_name_they_had_or_id() -> None:
    lines = (line(WEB, "old name", 30), line(WEB, "web", 2, 2), line(DB, "db", 99))
    for name in ("web", "WEB", "old name", str(WEB)):
        (age,) = ages(*lines, names=(name,))
        assert (age.vm, age.good) == ("web", True)


def test_a_point_from_the_future_hides_nothing() -> None:
    (age,) = ages(line(WEB, "web", 40), line(WEB, "web", -24 * 365, 2))
    assert (age.good, age.note) == (False, "points from the future: 1")
    (age,) = ages(line(WEB, "web", -0.1))
    assert (age.good, age.age_seconds) == (True, 0)


def test_points_that_cannot_be_read_do_not_count() -> None:
    lost = LostPoint(point_id=uuid4(), name="points/x", what="damaged", vm_id=WEB)
    (age,) = ages(lost=(lost,))
    assert (age.vm_id, age.created, age.good) == (WEB, None, False)
    (age,) = ages(line(WEB, "web", 40), lost=(lost, replace(lost, point_id=uuid4())))
    assert (age.good, age.note) == (False, "points that cannot be read: 2")


def test_without_points_there_is_nothing() -> None:
    assert ages() == []
