"""Fixtures of the task tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvpsbridge.host.hyperv import HyperVHost
from hvpsbridge.sim.hosts import SimulatedHost
from tests.connections import basic
from tests.tasks.world import World


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead process has written stays in the kernel; power loss has tests of its own."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A fresh world."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def builtin(world: World) -> Iterator[HyperVHost]:
    """A connection to the world as a host, by the engine that is Python."""
    yield from _served(world, "builtin")


@pytest.fixture(params=["builtin", "powershell"])
def host(request: pytest.FixtureRequest, world: World) -> Iterator[HyperVHost]:
    """A connection to the world as a host, by each engine."""
    if request.param == "powershell":
        request.getfixturevalue("pwsh")
    yield from _served(world, request.param)


def _served(world: World, engine: str) -> Iterator[HyperVHost]:
    with (
        SimulatedHost(world.model, engine=engine) as served,
        HyperVHost.connect(basic(served.url, "HV01", operation_timeout=5)) as host,
    ):
        yield host
