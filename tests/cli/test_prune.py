"""``prune``, ``forget``, ``tag``, ``protect`` and ``repo collect`` on a repository filled from Python."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.repository import Point, create_repository, open_repository
from hvpsbridge.repository.catalog import Catalog
from hvpsbridge.repository.collect.report import CollectOptions
from hvpsbridge.repository.opening import create_on_store
from hvpsbridge.repository.stores.registry import open_store
from hvpsbridge.secret import Secret

from .conftest import Done, Hvps, on_a_terminal
from .schemas import assert_valid
from .test_points import manifest_of

DISK = UUID(int=7)
VMS = {"web": UUID(int=1), "db": UUID(int=2)}


def fill(
    url: Path, days: int, vm: str = "web", first: int = 0, key: Secret | None = None, **changes: object
) -> None:
    """A point a day of a VM, the newest made today."""
    newest = datetime.now(UTC) - timedelta(minutes=5)
    with open_repository(str(url), key=key) as repository:
        for number in range(first, first + days):
            with repository.begin(uuid4()) as writer:
                disk = writer.disk(2 << 20)
                content = random.Random(f"{vm}{number}").randbytes(repository.grid.chunk_bytes)
                disk.put(0, content)
                made = manifest_of(number, disk.finish())
                disks = tuple(replace(each, disk_id=DISK) for each in made.disks)
                created = newest - timedelta(days=days + first - 1 - number)
                made = replace(
                    made, vm_id=VMS[vm], vm_name=vm, disks=disks, created=created, consistency="application"
                )
                writer.commit(replace(made, **changes))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    url = tmp_path / "repo"
    monkeypatch.setenv("HVPS_REPO", str(url))
    create_repository(str(url), chunk_bytes=1 << 16).close()
    return url


def points(hvps: Hvps) -> list[dict[str, Any]]:
    done = hvps("list", "--json")
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)["points"]
    return found


def short(point: dict[str, Any]) -> str:
    return str(point["point_id"])[:8]


def error_of(done: Done) -> str:
    (line,) = [line for line in done.err.splitlines() if line.startswith("hvps: ")]
    return line


def test_a_prune_removes_what_no_rule_keeps_and_says_why(hvps: Hvps, repository: Path) -> None:
    fill(repository, 6)
    fill(repository, 3, "db")
    before = points(hvps)
    check = hvps("prune", "--keep-daily", "3", "--check")
    assert check.code == 0, check.err
    assert "daily 1/3" in check.out
    assert "newest of the VM" in check.out
    assert "3 points to remove, 6 to keep, 2 VMs" in check.out
    assert points(hvps) == before
    done = hvps("prune", "--keep-daily", "3")
    assert done.code == 0, done.err
    assert "3 points removed, 6 kept, 2 VMs" in done.out
    assert "hvps repo collect" in done.out
    left = points(hvps)
    web = [point for point in before if point["vm"] == "web"]
    assert [point["point_id"] for point in left if point["vm"] == "web"] == [
        point["point_id"] for point in web[3:]
    ]
    again = hvps("prune", "--keep-daily", "3", "--json")
    document = json.loads(again.out)
    assert_valid("prune", document)
    assert (document["check"], document["removed"], document["kept"]) == (False, 0, 6)


def test_a_prune_of_one_vm_leaves_the_others(hvps: Hvps, repository: Path) -> None:
    fill(repository, 3)
    fill(repository, 3, "db")
    assert hvps("prune", "db", "--keep-last", "1").code == 0
    assert [point["vm"] for point in points(hvps)] == ["web"] * 3 + ["db"]


def test_no_rule_is_a_refusal(hvps: Hvps, repository: Path) -> None:
    fill(repository, 2)
    done = hvps("prune")
    assert done.code == 5
    assert "no retention rule is set; set at least one of keep_last" in error_of(done)
    assert len(points(hvps)) == 2


def test_far_more_than_usual_needs_its_number(hvps: Hvps, repository: Path) -> None:
    fill(repository, 15)
    done = hvps("prune", "--keep-last", "1")
    assert done.code == 8
    assert "14 of 15 points" in error_of(done)
    assert "run it with --remove 14" in error_of(done)
    check = hvps("prune", "--keep-last", "1", "--check", "--json")
    assert check.code == 8
    document = json.loads(check.out)
    assert_valid("prune", document)
    assert document["removed"] == 14
    assert document["out_of_line"]
    assert hvps("prune", "--keep-last", "1", "--remove", "13").code == 8
    assert len(points(hvps)) == 15
    assert hvps("prune", "--keep-last", "1", "--remove", "14").code == 0
    assert len(points(hvps)) == 1


def test_a_simulation_needs_no_repository(hvps: Hvps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HVPS_REPO", raising=False)
    done = hvps("prune", "--keep-daily", "7", "--keep-weekly", "5", "--simulate", "1y")
    assert done.code == 0, done.err
    assert "365 points of one VM made at 02:00 in 365 days" in done.out or "366 points" in done.out
    two = ("--backup-at", "02:00", "--backup-at", "14:00")
    document = json.loads(hvps("prune", "--keep-last", "9", "--simulate", "30d", *two, "--json").out)
    assert_valid("prune", document)
    assert (document["made"], document["times"], len(document["held"])) == (60, ["02:00", "14:00"], 9)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("prune", "--keep-last", "x"), 64, "--keep-last"),
        (("prune", "--keep-last", "-2"), 64, "--keep-last"),
        (("prune", "--keep-within", "30"), 64, "use for example 30d, 2w or 1y6m"),
        (("prune", "--keep-last", "1", "--time-zone", "Mars"), 64, "does not know the time zone"),
        (("prune", "--keep-last", "1", "--remove", "0"), 64, "--remove"),
        (("prune", "--keep-last", "1", "--check", "--remove", "1"), 64, "not both"),
        (("prune", "--keep-last", "1", "--simulate", "11y"), 64, "must be between 1d and 3660d"),
        (("prune", "--keep-last", "1", "--simulate", "soon"), 64, "use for example 30d"),
        (("prune", "--keep-last", "1", "--simulate", "9d", "--check"), 64, "it looks at no repository"),
        (("prune", "--keep-last", "1", "--backup-at", "02:00"), 64, "--backup-at is for --simulate"),
        (("prune", "--keep-last", "1", "--simulate", "9d", "--backup-at", "25:00"), 64, "not a time such as"),
        (("prune", "nobody", "--keep-last", "1"), 5, "no recovery point 'nobody'"),
        (("forget",), 64, "POINT|VM"),
        (("forget", "nobody", "--yes"), 5, "no recovery point 'nobody'"),
        (("forget", "web@latest~1"), 64, "asks for confirmation; use --yes or --check"),
        (("tag", "web"), 64, "needs --add or --remove"),
        (("tag", "web", "--add", "a,,b"), 64, "must be a tag"),
        (("tag", "web", "--add", "a", "--remove", "a"), 64, "cannot be added and removed at once"),
        (("tag", "nobody", "--add", "a"), 5, "no recovery point 'nobody'"),
        (("protect", "nobody"), 5, "no recovery point 'nobody'"),
        (("unprotect",), 64, "POINT"),
        (("repo", "collect", "--max-unused", "5"), 64, "between 0% and 100%"),
        (("repo", "collect", "--max-unused", "101%"), 64, "between 0% and 100%"),
        (("repo", "collect", "--grace", "long"), 64, "is not a duration"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], code: int, text: str, hvps: Hvps, repository: Path
) -> None:
    fill(repository, 2)
    done = hvps(*arguments)
    assert (done.code, text in error_of(done)) == (code, True), done.err
    assert len(points(hvps)) == 2


def test_format_1_is_refused_with_what_to_do(
    hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tmp_path / "old"
    monkeypatch.setenv("HVPS_REPO", str(url))
    create_on_store(open_store(str(url), create=True), ChunkGrid(1 << 16), format=1).close()
    fill(url, 3)
    assert hvps("prune", "--keep-last", "1", "--check").code == 0
    for command in (
        ("prune", "--keep-last", "1"),
        ("forget", "web@latest~1", "--yes"),
        ("tag", "web", "--add", "a"),
        ("protect", "web"),
        ("repo", "collect"),
    ):
        done = hvps(*command)
        assert (done.code, "run `hvps repo upgrade` first" in error_of(done)) == (8, True), done.err
    assert len(points(hvps)) == 3


def test_tags_and_protection_are_shown_and_keep_points(hvps: Hvps, repository: Path) -> None:
    fill(repository, 4)
    first, second, third, newest = points(hvps)
    done = hvps("tag", short(first), "web@latest~2", "--add", "gold,audit", "--add", "x", "--json")
    assert done.code == 0, done.err
    assert_valid("tag", json.loads(done.out))
    assert hvps("tag", short(first), "--remove", "x").code == 0
    done = hvps("protect", short(third))
    assert done.code == 0
    assert "(protected)" in done.out
    shown = points(hvps)
    assert [point["tags"] for point in shown] == [["audit", "gold"], ["audit", "gold", "x"], [], []]
    assert [point["protected"] for point in shown] == [False, False, True, False]
    assert "audit, gold" in hvps("list").out
    assert "tags         (protected)" in hvps("show", short(third)).out
    assert json.loads(hvps("show", short(first), "--json").out)["tags"] == ["audit", "gold"]
    assert hvps("prune", "--keep-tag", "gold,x").code == 0
    assert [point["point_id"] for point in points(hvps)] == [
        point["point_id"] for point in (second, third, newest)
    ]
    refused = hvps("forget", short(third), "--newest", "--yes")
    assert refused.code == 8
    assert f"web@{short(third)} is protected; run `hvps unprotect` first" in error_of(refused)
    done = hvps("unprotect", short(third), "--json")
    assert_valid("unprotect", json.loads(done.out))
    assert hvps("forget", short(third), "--yes").code == 0
    assert [point["point_id"] for point in points(hvps)] == [point["point_id"] for point in (second, newest)]


def test_the_newest_point_is_forgotten_only_when_asked_for(hvps: Hvps, repository: Path) -> None:
    fill(repository, 3)
    newest = points(hvps)[-1]
    refused = hvps("forget", "web@latest", "--yes")
    assert refused.code == 8
    assert "is needed (newest of the VM); use --newest" in error_of(refused)
    check = hvps("forget", "web@latest", "--newest", "--check", "--json")
    document = json.loads(check.out)
    assert_valid("forget", document)
    assert document["points"][0]["needed"] == ["newest of the VM"]
    assert len(points(hvps)) == 3
    done = hvps("forget", "web@latest", "--newest", "--yes")
    assert done.code == 0, done.err
    assert "the next backup of web may have to read or compare whole disks" in done.out
    assert newest not in points(hvps)
    # A VM means all its points.
    assert hvps("forget", "web", "--yes").code == 8
    done = hvps("forget", "web", "--newest", "--yes")
    assert done.code == 0, done.err
    assert (
        "no point of web is left; if it is not backed up any more, run `hvps host forget hv01 web`"
        in done.out
    )
    assert points(hvps) == []


def test_forget_asks_on_a_terminal(repository: Path, hvps: Hvps) -> None:
    fill(repository, 2)
    for answer, left in (("n", 2), ("y", 1)):
        done = on_a_terminal("forget", "web@latest~1", answers=[answer])
        assert "forget web@" in done.out
        assert done.code == 0
        assert len(points(hvps)) == left


def test_a_collect_says_what_it_will_do_and_frees_it_later(hvps: Hvps, repository: Path) -> None:
    fill(repository, 5)
    assert hvps("prune", "--keep-last", "1", "--remove", "4").code == 0
    check = hvps("repo", "collect", "--check")
    assert check.code == 0, check.err
    assert "would be doomed" in check.out
    first = hvps("repo", "collect")
    assert "dooms" in first.err
    assert "a later collect frees them, after the grace time" in first.out
    second = hvps("repo", "collect", "-q")
    assert second.err == ""
    assert "waiting until 20" in second.out
    third = hvps("repo", "collect", "--grace", "0s", "--max-unused", "0%", "--json")
    document = json.loads(third.out)
    assert_valid("repo collect", document)
    assert document["report"]["deleted_packs"] > 0
    assert document["report"]["deleted_points"] == 4
    assert hvps("verify", "--level", "hashed").code == 0


def test_a_collect_names_the_runs_that_it_waits_for(hvps: Hvps, repository: Path) -> None:
    fill(repository, 5)
    with open_repository(str(repository)) as opened, opened.begin(uuid4()):
        assert hvps("prune", "--keep-last", "1", "--remove", "4").code == 0
        assert hvps("repo", "collect", "--grace", "0s").code == 0
        waits = hvps("repo", "collect", "--grace", "0s", "--check")
    assert "waiting for the end of" in waits.out
    assert "process" in waits.out


@pytest.mark.parametrize("command", ["restore", "verify", "files"])
def test_a_point_that_is_pruned_while_it_is_read_is_one_clear_error(
    command: str, hvps: Hvps, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(repository, 3)
    find = Catalog.find_point

    def find_and_lose(catalog: Catalog, selector: str) -> Point:
        point = find(catalog, selector)
        with open_repository(str(repository)) as other:
            other.pruner.prune([point])
            for _ in range(2):
                other.collect(uuid4(), CollectOptions(grace=timedelta(0), max_unused=0, merge_from=2))
        return point

    monkeypatch.setattr(Catalog, "find_point", find_and_lose)
    more: tuple[str, ...] = {
        "restore": ("restore", "web@latest~2", "--to", f"raw:{tmp_path / 'out'}", "-q"),
        "verify": ("verify", "web@latest~2", "--level", "hashed"),
        "files": ("files", "ls", "web@latest~2"),
    }[command]
    done = hvps(*more)
    assert done.code == 5, done.out + done.err
    assert "is gone: it was pruned at" in error_of(done)
    assert "is damaged" not in done.err
    assert not list(tmp_path.glob("out/*.raw"))


def test_a_key_for_prunes_is_enough(hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = tmp_path / "sealed"
    monkeypatch.setenv("HVPS_REPO", str(url))
    monkeypatch.setenv("KEY", "first passphrase")
    monkeypatch.setenv("PRUNER", "second passphrase")
    create_repository(str(url), chunk_bytes=1 << 16, key=Secret("first passphrase")).close()
    fill(url, 3, key=Secret("first passphrase"))
    added = hvps("key", "add", "--prune-only", "--key-env", "KEY", "--new-key-env", "PRUNER")
    assert added.code == 0, added.err
    pruner = ("--key-env", "PRUNER")
    for command in (
        ("tag", "web", "--add", "gold"),
        ("prune", "--keep-last", "2", "--check"),
        ("prune", "--keep-last", "2"),
        ("forget", "web@latest~1", "--yes"),
        ("repo", "collect", "--grace", "0s", "--max-unused", "0%", "-q"),
        ("repo", "collect", "--grace", "0s", "--max-unused", "0%", "-q"),
        ("list",),
        ("show", "web"),
    ):
        done = hvps(*command, *pruner)
        assert done.code == 0, f"{command}: {done.err}"
    assert hvps("verify", "--level", "hashed", "--key-env", "KEY").code == 0
