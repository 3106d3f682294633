"""Faults of the wire, set by ``hvps sim fault``: a run succeeds, or says in one line why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Hvps, Served, serving
from .world import World


@pytest.fixture(scope="module")
def served_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One host for all faults: each test has a VM and a repository of its own on it."""
    with serving(tmp_path_factory.mktemp("faults") / "world") as host:
        yield host


@pytest.fixture
def world(hvps: Hvps, served_to_all: Served, tmp_path: Path) -> World:
    made = World(hvps, served_to_all, tmp_path, vm=f"vm-{tmp_path.name}")
    made.build(made.vm)
    return made


@pytest.mark.parametrize(
    "fault",
    [
        "reply_cut:bytes=100000,after=3",
        "reply_lost:after=4",
        "request_lost:action=receive,after=5",
        "unavailable:action=receive,after=3",
        "engine_killed:after=12",
        "block_lost",
        "block_doubled",
        "block_altered",
        "block_truncated",
    ],
)
def test_a_backup_comes_through_and_restores_equal(fault: str, world: World) -> None:
    world.sim("fault", fault)
    done = world.run("--json", "-q")
    assert done.code == 0, done.err
    world.assert_clean()
    assert world.assert_every_point_restores_equal() == 1


def test_an_account_that_may_not_is_14_and_nothing_was_made(world: World) -> None:
    world.sim("fault", "access_denied", "9")
    done = world.run("--json", "-q")
    assert done.code == 14
    assert [line for line in done.err.splitlines() if line.startswith("hvps: ")] != []
    world.sim("fault", "access_denied", "0")
    world.assert_clean()


def test_every_known_fault_is_listed_and_can_be_armed_and_disarmed(world: World) -> None:
    known = json.loads(world.hvps("sim", "fault", "--known", "--json", "-f", world.served.folder).out)
    assert {"reply_cut", "checkpoint_fails"} <= known["known"].keys()
    for name in known["known"]:
        world.sim("fault", name)
        world.sim("fault", name, "0")
    assert world.run("-q").code == 0
