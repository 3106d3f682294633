"""How users select points."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import AmbiguousPoint, PointNotFound
from hvpsbridge.repository.points import Point, in_order, select, select_of
from tests.repository.conftest import START, VM, manifest_of

OTHER = uuid4()


def point(number: int, **changes: object) -> Point:
    fields: dict[str, object] = {
        "point_id": UUID(int=(number << 120) | 0xABCDEF),
        "created": START + timedelta(days=number),
        "sequence": number,
    }
    return Point(manifest_of([], **(fields | changes)))


POINTS = in_order(
    [
        *(point(number) for number in (1, 2, 3)),
        point(0x21, vm_id=OTHER, vm_name="mail@edge", sequence=1),
        point(0x22, vm_id=OTHER, vm_name="mail@edge", sequence=2),
    ]
)


@pytest.mark.parametrize(
    ("selector", "number"),
    [
        ("web@latest", 3),
        ("WEB@latest", 3),
        ("web", 3),
        ("web@latest~0", 3),
        ("web@latest~2", 1),
        (f"{VM}@latest~1", 2),
        ("web@2026-03-03", 2),
        ("web@2026-03-03T02:00Z", 2),
        ("web@2026-03-03T01:59Z", 1),
        ("web@2026-03-03T03:00+01:00", 2),
        ("web@2027-01-01", 3),
        ("mail@edge@latest", 0x22),
        ("02000000", 2),
        ("web@0200", 2),
        (str(UUID(int=(3 << 120) | 0xABCDEF)), 3),
        ("id:0200", 2),
        ("web@id:0200", 2),
        ("web@0200-0000", 2),
    ],
)
def test_selectors_find_their_point(selector: str, number: int) -> None:
    assert select(POINTS, selector, "repo").point_id == UUID(int=(number << 120) | 0xABCDEF)


@pytest.mark.parametrize(
    "selector",
    [
        "web@latest~3",
        "nobody@latest",
        "web@2026-03-01",
        "web@2222",
        "web@20xx",
        "99999999",
        "",
        "web@2026-13-77",
        "----",
        "web@----",
        "id:",
        "id:web",
        "web@latest~" + "9" * 5000,
    ],
)
def test_selectors_without_a_point_say_so(selector: str) -> None:
    with pytest.raises(PointNotFound):
        select(POINTS, selector, "repo")


def test_a_short_id_of_several_names_them() -> None:
    twins = [Point(manifest_of([], point_id=UUID(int=(0xABCD << 112) | end))) for end in (1, 2)]
    with pytest.raises(AmbiguousPoint) as caught:
        select(twins, "abcd", "repo")
    assert set(caught.value.candidates) == {str(each.point_id) for each in twins}


def test_a_name_of_several_vms_names_them() -> None:
    with pytest.raises(AmbiguousPoint) as caught:
        select([*POINTS, point(9, vm_id=(third := uuid4()))], "web@latest", "repo")
    assert set(caught.value.candidates) == {str(VM), str(third)}


def test_a_renamed_vm_keeps_its_points() -> None:
    renamed = in_order([*POINTS, point(4, vm_name="web-new")])
    assert select(renamed, "web-new@latest~3", "repo").point_id == UUID(int=(1 << 120) | 0xABCDEF)


def named(number: int, name: str) -> tuple[UUID, Point]:
    vm_id = UUID(int=number)
    return vm_id, point(number, vm_id=vm_id, vm_name=name, sequence=1)


@pytest.mark.parametrize("name", ["0200", "BEEF", "dc01", "02000000", str(UUID(int=(2 << 120) | 0xABCDEF))])
def test_the_name_of_a_vm_comes_before_a_short_id(name: str) -> None:
    vm_id, newcomer = named(0x55, name)
    points = in_order([*POINTS, newcomer])
    for selector in (name, f"{name}@latest"):
        assert select(points, selector, "repo").vm_id == vm_id
    assert select(points, "id:0200", "repo").vm_id == VM
    with pytest.raises(PointNotFound):
        select(points, "id:beef", "repo")


@pytest.mark.parametrize("name", ["a@b", "web@0200", "web@two", "web@", "@latest", "@", "id:x@y"])
def test_a_name_may_contain_the_separator(name: str) -> None:
    vm_id, newcomer = named(0x55, name)
    points = in_order([*POINTS, newcomer])
    for selector in (name, f"{name}@latest", f"{name}@5500"):
        assert select(points, selector, "repo").vm_id == vm_id


@pytest.mark.parametrize("name", ["web@latest", "web@2027-01-01", "web@id:0200", "web@latest~1"])
def test_a_name_that_ends_as_a_selector_of_another_vm_is_ambiguous(name: str) -> None:
    vm_id, newcomer = named(0x55, name)
    points = in_order([*POINTS, newcomer])
    with pytest.raises(AmbiguousPoint) as caught:
        select(points, name, "repo")
    assert set(caught.value.candidates) == {str(VM), str(vm_id)}
    assert select(points, f"{name}@latest", "repo").vm_id == vm_id
    assert select(points, f"{VM}@latest", "repo").vm_id == VM


def test_a_vm_that_is_called_as_another_ones_id_is_ambiguous() -> None:
    vm_id, newcomer = named(0x55, str(VM))
    points = in_order([*POINTS, newcomer])
    with pytest.raises(AmbiguousPoint) as caught:
        select(points, f"{VM}@latest", "repo")
    assert set(caught.value.candidates) == {str(VM), str(vm_id)}
    assert select_of(points, VM, "latest", "web", "repo").vm_id == VM


def test_letter_case_decides_between_vms_that_differ_in_it_only() -> None:
    first, second = named(0x55, "Web2"), named(0x56, "WEB2")
    points = in_order([first[1], second[1]])
    assert select(points, "WEB2@latest", "repo").vm_id == second[0]
    with pytest.raises(AmbiguousPoint):
        select(points, "web2@latest", "repo")


def test_a_name_is_found_in_either_unicode_form() -> None:
    vm_id, newcomer = named(0x55, "Bu\u0308ro")
    assert select([newcomer], "b\u00fcRO", "repo").vm_id == vm_id
