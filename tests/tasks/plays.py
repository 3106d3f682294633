"""Plays of a world, and runs of them."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from hvpsbridge.errors import HostUnreachable
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.play import PlayRun
from hvpsbridge.tasks.restore.task import RestoreOptions
from hvpsbridge.tasks.results import RunResult
from hvpsbridge.tasks.runner import Runner
from hvpsbridge.tasks.task import play_task
from hvpsbridge.tasks.verify_options import VerifyOptions
from tests.tasks.world import QUICK, Steps, World

BACKUP = play_task("backup", QUICK)
VERIFY = play_task("verify", VerifyOptions())


def unreachable() -> object:
    raise HostUnreachable("HV02", "no route")


def play(world: World, tmp_path: Path, **changes: object) -> PlayRun:
    facts: dict[str, object] = {
        "name": "nightly",
        "hosts": (HostTarget("HV01", world.host),),  # type: ignore[arg-type]
        "repository": world.repository,
        "vms": VmSelection(),
        "tasks": (
            BACKUP,
            VERIFY,
            play_task("restore", RestoreOptions(to=f"raw:{tmp_path}/restored/{{{{ vm }}}}")),
        ),
    }
    return PlayRun(**{**facts, **changes})  # type: ignore[arg-type]


def run(
    *plays: PlayRun, cancel: Cancellation | None = None, observer: Steps | None = None, **options: object
) -> RunResult:
    return Runner(uuid4(), observer or Steps(), cancel or Cancellation(), **options).run(plays)  # type: ignore[arg-type]
