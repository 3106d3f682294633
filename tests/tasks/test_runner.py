"""The runner: each VM for itself, some at a time, signals heard, everything in the result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from hvpsbridge.errors import (
    ExitCode,
    InternalError,
    Interrupted,
    PlaceShared,
)
from hvpsbridge.tasks.backup.results import BackupResult
from hvpsbridge.tasks.cancel import Cancellation
from hvpsbridge.tasks.hosts import HostTarget
from hvpsbridge.tasks.planning.select import VmSelection
from hvpsbridge.tasks.restore.results import RestoreResult
from hvpsbridge.tasks.restore.task import RestoreOptions
from hvpsbridge.tasks.results import Outcome
from hvpsbridge.tasks.task import PlayTask, play_task
from hvpsbridge.tasks.verify import VerifyResult
from hvpsbridge.units import MIB
from tests.tasks.model_host import ModelHost
from tests.tasks.plays import BACKUP, play, run, unreachable
from tests.tasks.world import SLOT, Steps, World


def test_tasks_run_in_order_for_every_vm(world: World, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name in names:
        world.vm(name, disks=(1 * MIB,))
    result = run(play(world, tmp_path))
    assert result.exit_code is ExitCode.DONE
    for name in names:
        kinds = [type(task) for task in result.tasks if task.vm.name == name]
        assert kinds == [BackupResult, VerifyResult, RestoreResult]
        assert (tmp_path / "restored" / name / "scsi-0-0.raw").stat().st_size == 1 * MIB


def test_no_more_vms_at_a_time_than_forks(world: World, tmp_path: Path) -> None:
    for name in "abcd":
        world.vm(name, disks=(1 * MIB,))
    busy, most, lock = set[UUID](), [0], threading.Lock()

    class Counting(Steps):
        def started(self, vm: object, task: str) -> None:
            with lock:
                busy.add(vm.vm_id)  # type: ignore[attr-defined]
                most[0] = max(most[0], len(busy))

        def finished(self, vm: object, result: object) -> None:
            with lock:
                busy.discard(vm.vm_id)  # type: ignore[attr-defined]

    assert (
        run(play(world, tmp_path, tasks=(BACKUP,)), observer=Counting(), forks=2).exit_code is ExitCode.DONE
    )
    assert most[0] == 2


def test_one_vms_failure_and_one_hosts_leave_the_others_alone(world: World, tmp_path: Path) -> None:
    world.vm("good", disks=(1 * MIB,))
    world.vm("bad", disks=(1 * MIB,), shielded=True)
    hosts = (HostTarget("HV02", unreachable), HostTarget("HV01", world.host))  # type: ignore[arg-type]
    result = run(play(world, tmp_path, hosts=hosts))
    by_name = {(task.vm.name, task.task): task.outcome for task in result.tasks}
    assert by_name[("good", "restore")] is Outcome.DONE
    assert by_name[("bad", "backup")] is Outcome.FAILED
    assert ("bad", "verify") not in by_name
    assert [problem.host for problem in result.problems] == ["HV02"]
    assert result.exit_code is ExitCode.VM_FAILED


def test_a_vm_without_disks_is_skipped_under_a_pattern_and_an_error_by_name(
    world: World, tmp_path: Path
) -> None:
    world.vm("web", disks=(1 * MIB,))
    world.vm("empty", disks=())
    for check in (True, False):
        result = run(play(world, tmp_path, vms=VmSelection(("*",))), check=check)
        assert result.exit_code is ExitCode.DONE
        (skipped,) = [task for task in result.tasks if task.vm.name == "empty"]
        assert skipped.outcome is Outcome.SKIPPED
        assert str(skipped.error) == (
            "VM empty skipped: it has no virtual disk; exclude it from the play if this is intended"
        )
    named = run(play(world, tmp_path, vms=VmSelection(("*", "empty")), tasks=(BACKUP,)))
    assert named.exit_code is ExitCode.VM_FAILED


def test_a_vm_that_lost_its_disks_is_an_error_under_a_pattern_too(world: World, tmp_path: Path) -> None:
    vm_id = world.vm("web", disks=(1 * MIB,))
    world.good_backup(vm_id)
    world.model.setup.remove_disk(vm_id, SLOT)
    result = run(play(world, tmp_path, vms=VmSelection(("*",)), tasks=(BACKUP,)))
    assert result.exit_code is ExitCode.VM_FAILED


def test_a_machine_that_allows_one_more_thread_backs_up_one_vm_at_a_time(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        world.vm(name, disks=(1 * MIB,))
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name != "vm-0" and thread.name.startswith("vm-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    result = run(play(world, tmp_path, tasks=(BACKUP,)), forks=2)
    assert [task.outcome for task in result.tasks] == [Outcome.DONE, Outcome.DONE]

    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    result = run(play(world, tmp_path, tasks=(BACKUP,)), forks=2)
    assert result.exit_code is ExitCode.INVALID


def test_check_plans_and_changes_nothing(world: World, tmp_path: Path) -> None:
    vm_id = world.vm(disks=(1 * MIB,))
    files = sorted(path for path in world.store.rglob("*"))
    result = run(play(world, tmp_path), check=True)
    (task,) = result.tasks
    assert isinstance(task, BackupResult)
    assert task.outcome is Outcome.PLANNED
    assert task.plan is not None
    assert [disk.reason.word for disk in task.plan.disks] == ["first_backup"]
    assert sorted(path for path in world.store.rglob("*")) == files
    assert not world.model.checkpoints.all(vm_id, hidden=True)
    assert not world.model.reference_points.all(vm_id)


def signalled(cancel: Cancellation, times: int) -> Callable[[], None]:
    def strike() -> None:
        for _ in range(times):
            cancel.request("SIGTERM")

    return strike


def test_a_signal_undoes_what_is_under_way_and_starts_nothing_more(world: World, tmp_path: Path) -> None:
    ids = [world.vm(name, disks=(1 * MIB,)) for name in "abc"]
    cancel = Cancellation()
    observer = Steps(("READ", "before"), signalled(cancel, 1))
    result = run(play(world, tmp_path), cancel=cancel, observer=observer, forks=1)
    (task,) = result.tasks
    assert isinstance(task.error, Interrupted)
    assert result.exit_code is ExitCode.TERMINATED
    for vm_id in ids:
        world.assert_clean(vm_id, reference_points=0)


def test_a_second_signal_returns_at_once_with_what_is_left(world: World, tmp_path: Path) -> None:
    world.vm(disks=(1 * MIB,))
    cancel = Cancellation()
    held = threading.Event()

    def strike() -> None:
        signalled(cancel, 2)()
        held.wait(60)  # a host that does not answer

    started = time.monotonic()
    result = run(play(world, tmp_path), cancel=cancel, observer=Steps(("CHECK_FROZEN", "before"), strike))
    assert time.monotonic() - started < 30
    held.set()
    (task,) = result.tasks
    assert isinstance(task, BackupResult)
    assert "recovery checkpoint" in task.leftovers[0]
    assert result.exit_code is ExitCode.TERMINATED


def test_an_observer_that_raises_ends_nothing(world: World, tmp_path: Path) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    observer = Steps()
    for name in ("started", "step", "planned", "progress", "noted", "finished"):
        setattr(observer, name, fail)
    for name in "ab":
        world.vm(name, disks=(1 * MIB,))
    result = run(play(world, tmp_path, tasks=(BACKUP,)), observer=observer)
    assert [task.outcome for task in result.tasks] == [Outcome.DONE, Outcome.DONE]


def test_an_unexpected_error_is_its_vms_failure_and_not_the_exit_code_of_the_night(
    world: World, tmp_path: Path
) -> None:
    bad, good = world.vm("bad", disks=(1 * MIB,)), world.vm("good", disks=(1 * MIB,))

    class Odd(ModelHost):
        def disks(self, vm_id: UUID) -> object:  # type: ignore[override]
            if vm_id == bad:
                raise RecursionError("too deep")
            return super().disks(vm_id)

    hosts = (HostTarget("HV01", lambda: Odd(world.model)),)  # type: ignore[arg-type,return-value]
    result = run(play(world, tmp_path, hosts=hosts, tasks=(BACKUP,)))
    by_vm = {task.vm.vm_id: task for task in result.tasks}
    assert isinstance(by_vm[bad].error, InternalError)
    assert by_vm[good].outcome is Outcome.DONE
    assert result.exit_code is ExitCode.VM_FAILED


def test_what_was_done_is_reported_though_a_play_ends_with_a_bug(world: World, tmp_path: Path) -> None:
    world.vm(disks=(1 * MIB,))
    broken = play(world, tmp_path, vms=None)
    result = run(play(world, tmp_path, tasks=(BACKUP,)), broken)
    assert result.tasks[0].outcome is Outcome.DONE
    assert isinstance(result.problems[0].error, InternalError)
    assert result.exit_code is ExitCode.BUG


def drill(to: str, **options: object) -> PlayTask[object]:
    return play_task("restore", RestoreOptions(to=to, overwrite=True, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [("web?", "WEB_"), ("team/web", "team_web"), ("B\u00fcro", "Bu\u0308ro")])
def test_vms_that_would_be_restored_to_one_folder_are_refused(
    world: World, tmp_path: Path, names: tuple[str, str]
) -> None:
    ids = [world.vm(name, disks=(1 * MIB,)) for name in (*names, "other")]
    for vm_id in ids:
        world.good_backup(vm_id)
    result = run(play(world, tmp_path, tasks=(drill(f"raw:{tmp_path}/drill/{{{{ vm }}}}"),)))
    by_name = {task.vm.name: task for task in result.tasks}
    for name in names:
        error = by_name[name].error
        assert isinstance(error, PlaceShared)
        assert all(str(vm_id) in str(error) for vm_id in ids[:2])
        assert "use {{ vm_id }} or {{ host }} in the path" in str(error)
    assert by_name["other"].outcome is Outcome.DONE
    assert [path.name for path in (tmp_path / "drill").iterdir()] == ["other"]
    assert result.exit_code is ExitCode.INVALID


def test_two_plays_that_would_restore_to_one_folder_are_refused_before_either_writes(
    world: World, tmp_path: Path
) -> None:
    world.good_backup(world.vm("web", disks=(1 * MIB,)))
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    first = play(world, tmp_path, tasks=(drill(f"raw:{tmp_path}/real/{{{{ vm }}}}"),))
    second = play(
        world,
        tmp_path,
        tasks=(
            BACKUP,
            drill(f"raw:{tmp_path}/link/web"),
        ),
    )
    result = run(first, second)
    errors = [task.error for task in result.tasks if isinstance(task, RestoreResult)]
    assert [type(error) for error in errors] == [PlaceShared, PlaceShared]
    assert not list((tmp_path / "real").iterdir())


def test_tasks_for_different_disks_or_folders_of_a_vm_do_not_disturb_each_other(
    world: World, tmp_path: Path
) -> None:
    world.good_backup(world.vm("web", disks=(1 * MIB, 1 * MIB)))
    to = f"raw:{tmp_path}/{{{{ vm }}}}"
    first = play(world, tmp_path, tasks=(drill(to, disk=0), drill(to, disk=1)))
    second = play(world, tmp_path, tasks=(drill(f"{to}/again"),))
    assert run(first, second).exit_code is ExitCode.DONE
    assert len(list((tmp_path / "web").rglob("*.raw"))) == 4
