"""Bad input and a bad environment: one clear line, the right exit code, nothing lost, the host clean."""

from __future__ import annotations

import itertools
import json
import os
import pty
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hvpsbridge.errors import ExitCode
from hvpsbridge.repository import current_holder, open_repository
from hvpsbridge.tasks.steps import Step
from tests.cli import signalling
from tests.forked import Forked

from .conftest import Done, Hvps, Served
from .world import World


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    return made


def _lines(done: Done) -> list[str]:
    """Lines on standard error, without progress and log."""
    return [line for line in done.err.splitlines() if line.startswith("hvps: ")]


def _kinds(done: Done) -> list[str]:
    report = json.loads(done.out)
    tasks = [entry["kind"] for task in report["tasks"] for entry in task["conditions"]]
    return [entry["kind"] for entry in report["problems"]] + tasks


def test_an_unreachable_host_is_4(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening, so connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = world.run("--json", "-q", url=url)
    assert (done.code, _kinds(done)) == (4, ["HostUnreachable"])
    (line,) = _lines(done)
    assert "host hv01 cannot be reached" in line
    assert "firewall" in line


def test_a_wrong_password_is_14(world: World, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not it\n")
    wrong.chmod(0o600)
    playbook = world.playbook()
    playbook.write_text(playbook.read_text().replace(str(world.served.folder / "password"), str(wrong)))
    done = world.hvps("run", playbook, "--json", "-q")
    assert (done.code, _kinds(done)) == (14, ["HostRefused"])
    assert len(_lines(done)) == 1


def test_a_secret_file_that_others_can_read_is_5_before_anything_is_sent(world: World) -> None:
    (world.served.folder / "password").chmod(0o644)
    done = world.run()
    assert done.code == 5
    (line,) = _lines(done)
    assert "chmod 600" in line


def test_a_vm_that_is_not_there_is_5_and_the_others_are_backed_up(world: World) -> None:
    done = world.run("--json", "-q", vms="[web01, web02]")
    assert (done.code, _kinds(done)) == (5, ["VmMissing"])
    (line,) = _lines(done)
    assert "no VM 'web02' on hv01" in line
    assert len(world.points()) == 1


def test_a_name_taken_twice_is_5_and_both_ids_are_named(world: World) -> None:
    ids = [json.loads(world.hvps("sim", "create", "twin", "--json", "-f", world.served.folder).out)["vm_id"]]
    ids += [json.loads(world.hvps("sim", "create", "twin", "--json", "-f", world.served.folder).out)["vm_id"]]
    done = world.run("--json", "-q", vms="[twin]")
    assert (done.code, _kinds(done)) == (5, ["AmbiguousVm"])
    (line,) = _lines(done)
    assert all(vm_id in line for vm_id in ids)
    assert world.points() == []


def test_a_missing_repository_is_10_before_the_host_is_asked(world: World, tmp_path: Path) -> None:
    done = world.run(repository=tmp_path / "nothing")
    assert done.code == 10
    nothing = tmp_path / "nothing"
    assert _lines(done) == [
        f"hvps: no repository at {nothing}: there is no such directory; "
        "check the URL and that its storage is mounted, or create one with `hvps repo init`"
    ]


def test_a_repository_held_by_another_is_11_and_names_the_holder(world: World) -> None:
    assert world.run().code == 0
    vm_id = UUID(world.points()[0]["vm_id"])
    with (
        open_repository(str(world.repository)) as repository,
        repository.lease(vm_id, current_holder(uuid4())),
    ):
        done = world.run("--json", "-q")
    assert (done.code, _kinds(done)) == (11, ["RepositoryLocked"])
    (line,) = _lines(done)
    assert str(os.getpid()) in line
    world.assert_clean()


@contextmanager
def _files_up_to(size_bytes: int) -> Iterator[None]:
    """Limits the size of files, so that writes fail as on a full disk (with EFBIG in place of ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_repository_s_disk_full_half_way_is_13_and_nothing_is_lost(world: World) -> None:
    assert world.run().code == 0
    world.sim("write", "web01", "0", "--random", "2MiB", "--seed", "99")
    with _files_up_to(1 << 20):
        done = world.run("--json", "-q")
    assert (done.code, _kinds(done)) == (13, ["NoSpace"])
    assert len(_lines(done)) == 1
    world.assert_clean()
    assert world.run().code == 0
    assert world.assert_every_point_restores_equal() == 2


def test_a_restore_that_does_not_fit_is_13_and_leaves_no_file(world: World, tmp_path: Path) -> None:
    assert world.run().code == 0
    target = tmp_path / "out" / "disk.raw"
    with _files_up_to(1 << 20):
        done = world.hvps(
            *("restore", "web01", "--disk", "0", "--to", f"raw:{target}", "--repo", world.repository, "-q")
        )
    assert done.code == 13
    assert len(_lines(done)) == 1
    assert list(target.parent.iterdir()) == []


def test_a_point_with_a_bad_chunk_is_7_and_no_file_appears(world: World, tmp_path: Path) -> None:
    assert world.run().code == 0
    for pack in (path for path in (world.repository / "data").rglob("*") if path.is_file()):
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o600)
        pack.write_bytes(data)
    target = tmp_path / "out" / "disk.raw"
    done = world.hvps(
        *("restore", "web01", "--disk", "0", "--to", f"raw:{target}", "--repo", world.repository, "-q")
    )
    assert done.code == 7
    assert len(_lines(done)) == 1
    assert list(target.parent.iterdir()) == []


def test_a_checkpoint_that_fails_is_2_with_the_text_of_the_host(world: World) -> None:
    world.sim("fault", "checkpoint_fails", "9")
    done = world.run("--json", "-q")
    assert done.code == 2
    assert len(_lines(done)) >= 1
    world.sim("fault", "checkpoint_fails", "0")
    world.assert_clean()
    assert world.run().code == 0


def test_application_consistency_that_fails_falls_back_and_is_recorded(world: World) -> None:
    world.sim("fault", "guest_backup_fails", "1")
    done = world.run("--json", "-q")
    assert json.loads(done.out)["tasks"][0]["backup"]["consistency"] == "crash"
    world.sim("fault", "guest_backup_fails", "1")
    strict = world.run("--json", "-q", tasks="[{backup: {consistency: application}}]")
    assert (strict.code, _kinds(strict)) == (2, ["ConsistencyNotReached"])
    world.assert_clean()


def test_an_unexpected_compare_is_8_when_the_playbook_says_stop_and_3_when_it_says_warn(world: World) -> None:
    world.sim("knob", "new_id_at_conversion", "true")
    first = world.run("--json", "-q")
    assert first.code == 3
    assert "the next backup compares" in json.loads(first.out)["tasks"][0]["warnings"][0]
    done = world.run("--json", "-q", tasks="[{backup: {on_unexpected_full: stop}}]")
    assert (done.code, _kinds(done)) == (8, ["StoppedByPolicy"])
    world.assert_clean()
    world.guest_writes()
    warned = world.run("--json", "-q", tasks="[{backup: {on_unexpected_full: warn}}]")
    assert warned.code == 3
    (task,) = json.loads(warned.out)["tasks"]
    assert task["backup"]["disks"][0]["reason"] == "ids_unproved"
    assert world.assert_every_point_restores_equal() == 2


def test_data_that_is_safe_on_a_host_that_is_not_clean_is_6_and_the_next_run_settles(world: World) -> None:
    assert world.run().code == 0
    world.sim("fault", "destroy_reference_point_fails", "9")
    done = world.run("--json", "-q")
    assert (done.code, _kinds(done)) == (6, ["HostNotClean"])
    left, event = _lines(done)
    assert "left on host" in left
    assert "event 18012 of Hyper-V-VMMS-Admin" in event
    assert world.on_host()["reference_points"] == 2
    assert len(world.points()) == 2
    world.sim("fault", "destroy_reference_point_fails", "0")
    assert world.run().code == 0
    world.assert_clean()
    assert world.assert_every_point_restores_equal() == 3


def test_a_volume_too_full_for_a_checkpoint_is_13(world: World) -> None:
    done = world.run("--json", "-q", tasks="[{backup: {limits: {free_space_floor: 900TiB}}}]")
    assert (done.code, _kinds(done)) == (13, ["HostNoSpace"])
    world.assert_clean()


def test_another_product_s_checkpoint_is_75_in_the_plan(world: World) -> None:
    world.sim("checkpoint", "web01", "other product", "--recovery")
    done = world.run("--json", "-q", "--check")
    assert (done.code, _kinds(done)) == (75, ["Gated"])
    assert json.loads(done.out)["tasks"][0]["backup"]["findings"] != []


# -- signals ---------------------------------------------------------------------------------------------


def _interrupted(world: World, names: str, step: Step, moment: str) -> subprocess.CompletedProcess[str]:
    arguments = ["run", str(world.playbook()), "--json"]
    process = Forked(signalling.run, names, step.name, moment, arguments)
    said, complained = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, said, complained)


_SIGNALS = (("SIGTERM", 143), ("SIGINT", 130))
_MOMENTS = ("before", "after")
_EVERY = tuple(itertools.product(Step, _SIGNALS, _MOMENTS))
# Every step once, with signals and moments in turn; `make soak` runs all combinations.
_SAMPLE = tuple((step, _SIGNALS[number // 4 % 2], _MOMENTS[number % 2]) for number, step in enumerate(Step))
_Stop = tuple[Step, tuple[str, int], str]


def _stop_at_each(world: World, stops: Sequence[_Stop]) -> None:
    """One world for several stops: each run cleans up after the last one and builds an increment on it."""
    assert world.run().code == 0
    committed = 1
    for step, (name, code), moment in stops:
        world.guest_writes()
        done = _interrupted(world, name, step, moment)
        where = f"{name} {moment} {step.label}: {done.stderr}"
        assert done.returncode == code, where
        report = json.loads(done.stdout)
        assert report["exit_code"] == code, where
        said = [line for line in done.stderr.splitlines() if line.startswith("hvps: ")]
        assert len(said) == 1, where
        assert f"stopped by {name}" in said[0], where
        world.assert_clean()
        committed += report["tasks"][0]["backup"]["point_id"] is not None
        assert len(world.points()) == committed, where
    world.guest_writes()
    assert world.run().code == 0
    assert world.assert_every_point_restores_equal() == committed + 1


@pytest.mark.parametrize("part", range(4))
def test_a_signal_at_every_step_undoes_and_loses_nothing(part: int, world: World) -> None:
    _stop_at_each(world, _SAMPLE[part::4])


@pytest.mark.soak
@pytest.mark.parametrize("part", range(8))
def test_every_signal_at_every_moment_undoes_and_loses_nothing(part: int, world: World) -> None:
    _stop_at_each(world, _EVERY[part::8])


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN], ids=["plain", "nohup"])
def test_a_closed_terminal_undoes_and_loses_nothing(disposition: signal.Handlers, world: World) -> None:
    """Sends all output to a terminal, with bars, and slows reading down until the terminal is closed."""
    log = world.folder / "hvps.log"
    rate = "64KiB" if disposition is signal.SIG_DFL else "1MiB"
    command = ("--log-file", log, "run", world.playbook(), "--rate", rate)
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGHUP, disposition)
        os.execv(sys.executable, [sys.executable, "-m", "hvpsbridge", *map(str, command)])
    while world.on_host()["checkpoints"] == 0:
        assert os.waitpid(process, os.WNOHANG) == (0, 0)
        _read_what_is_there(terminal)
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    world.assert_clean()
    assert "Traceback" not in log.read_text()
    if disposition is signal.SIG_IGN:
        assert (code, len(world.points())) == (0, 1)
    else:
        assert (code, world.points()) == (143, [])
        assert world.run().code == 0
    assert world.assert_every_point_restores_equal() == 1


def _read_what_is_there(terminal: int) -> None:
    while select.select([terminal], [], [], 0.05)[0]:
        os.read(terminal, 65536)


def test_a_second_signal_gives_up_and_reports_what_is_left(world: World) -> None:
    world.sim("knob", "job_seconds", "3")
    done = _interrupted(world, "SIGTERM+SIGINT", Step.RECORD_CHECKPOINT, "after")
    assert done.returncode == 143
    said = [line for line in done.stderr.splitlines() if line.startswith("hvps: ")]
    # Of the report, or of the error if the undo was given up while it looked at the host.
    assert any("left on the host" in line or "left on host hv01" in line for line in said), done.stderr
    world.sim("knob", "job_seconds", "0.01")
    assert world.run().code in {0, 3}
    world.assert_clean()
    assert world.assert_every_point_restores_equal() == 1


@pytest.mark.parametrize("host", ["https://bob:canary-p@hv01", "bob:canary-p@hv01", "https://bob:canary-p"])
def test_a_password_in_the_address_of_a_host_is_repeated_nowhere(
    hvps: Hvps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("PW", "p")
    account = ("--user", "u", "--password-env", "PW")
    (tmp_path / "p.yaml").write_text(
        f"version: 1\nhosts: {{hv01: {{address: '{host}'}}}}\nrepositories: {{r: {{url: /r}}}}\n"
        "plays: [{name: p, hosts: [hv01], repository: r, tasks: [backup]}]\n"
    )
    for command in (
        ("-vv", "--log-file", tmp_path / "log", "inventory", host, *account),
        ("inventory", "--json", host, *account),
        ("inventory", host, "--port", "5986", *account),
        ("host", "check", host, *account),
        ("backup", host, "*", "--repo", tmp_path / "r", *account),
        ("validate", tmp_path / "p.yaml"),
        ("run", tmp_path / "p.yaml", "--json"),
    ):
        done = hvps(*command)
        assert done.code in (ExitCode.USAGE, ExitCode.INVALID), done
        assert "canary" not in done.out + done.err, done
    assert "canary" not in (tmp_path / "log").read_text()
