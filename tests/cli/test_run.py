"""``hvps run`` and ``hvps backup`` end to end: the simulated host serves in another process."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .conftest import Hvps, Served, serving
from .world import World


@pytest.fixture
def world(hvps: Hvps, served: Served, tmp_path: Path) -> World:
    made = World(hvps, served, tmp_path)
    made.build("web01")
    return made


def test_full_then_increments_and_every_point_restores_equal(world: World) -> None:
    tasks = "[backup, {verify: {points: all}}]"
    modes = []
    for _ in range(3):
        done = world.run("--json", tasks=tasks)
        assert done.code == 0, done.err
        backup, verify = json.loads(done.out)["tasks"]
        modes.append(backup["backup"]["disks"][0]["mode"])
        assert all(point["faults"] == [] for point in verify["verify"])
        world.assert_clean()
        world.guest_writes()
    assert modes == ["full", "incremental", "incremental"]
    assert world.assert_every_point_restores_equal() == 3


def test_check_plans_and_changes_nothing_on_the_host_or_in_the_repository(world: World) -> None:
    assert world.run().code == 0
    world.guest_writes()
    host, repository = world.on_host(), world.snapshot()
    done = world.run("--check", "--json", tasks="[backup, verify]")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    (task,) = report["tasks"]
    assert (report["check"], task["outcome"]) == (True, "planned")
    (disk,) = task["backup"]["plan"]
    assert (disk["mode"], disk["reason"]) == ("incremental", "tracked")
    assert task["backup"]["disks"] == []
    assert world.on_host() == host
    assert world.snapshot() == repository
    shown = world.run("--check")
    assert "change tracking reports what changed" in shown.out


def test_check_on_the_real_engine_compiles_the_reader_and_changes_nothing(
    hvps: Hvps, tmp_path: Path, pwsh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HVPS_PWSH", str(pwsh))
    with serving(tmp_path / "world", "--engine", "powershell") as served:
        world = World(hvps, served, tmp_path)
        world.build("web01")
        host, repository = world.on_host(), world.snapshot()
        done = world.run("--check", "--json", "-vv")
        assert done.code == 0, done.err
        assert json.loads(done.out)["tasks"][0]["backup"]["plan"][0]["mode"] == "full"
        assert "Test-HvpsReader on hv01" in done.err
        assert world.on_host() == host
        assert world.snapshot() == repository


def test_the_recap_and_the_figures_are_shown(world: World) -> None:
    done = world.run(tasks="[backup, verify]")
    assert re.search(r"hv01 +web01 +scsi 0:0 +full +no point of this VM yet +4 MiB", done.out)
    assert re.search(r"^hv01 +web01 +2 +0 +0 +0 ", done.out, re.MULTILINE)
    assert re.search(r"^test: 2 tasks ended: done \(exit 0\)", done.out, re.MULTILINE)
    assert "hv01/web01: backup started" in done.err


def test_json_lines_are_one_document_each(world: World) -> None:
    done = world.run("--json-lines", "-q", tasks="[backup, verify]")
    assert [json.loads(line)["event"] for line in done.out.splitlines()] == ["task", "task", "run"]
    assert done.err == ""


def test_limit_and_tags_choose(world: World) -> None:
    world.sim("create", "db01")
    world.sim("disk", "db01", "1MiB")
    tasks = "[{backup: {}, tags: [night]}, {verify: {}, tags: [deep]}]"
    report = json.loads(
        world.run("--json", "--limit", "DB*", "--tags", "night", vms='["*"]', tasks=tasks).out
    )
    assert [(task["vm"], task["task"]) for task in report["tasks"]] == [("db01", "backup")]
    assert world.run("--tags", "nigth", tasks=tasks).code == 64
    nothing = world.run("--limit", "nobody", tasks=tasks)
    assert nothing.code == 5
    assert "no VM was selected" in nothing.err


def test_a_playbook_restores_into_a_folder_for_each_vm(world: World, tmp_path: Path) -> None:
    target = tmp_path / "drill"
    tasks = f'[backup, {{restore: {{to: "raw:{target}/{{{{ vm }}}}"}}}}]'
    done = world.run("--json", tasks=tasks)
    assert done.code == 0, done.err
    restored = json.loads(done.out)["tasks"][1]["restore"]["disks"][0]
    assert restored["path"] == str(target / "web01" / "scsi-0-0.raw")
    kept = world.sim("kept", world.points()[0]["checkpoint_id"], "--json")["path"]
    assert Path(restored["path"]).read_bytes() == Path(kept).read_bytes()
    again = world.run(tasks=tasks)
    assert again.code == 5
    assert "exists" in again.err


def test_backup_without_a_playbook(world: World, hvps: Hvps) -> None:
    done = hvps(
        *("backup", world.served.url, "web01", "--repo", world.repository, "--json"),
        *world.served.connection,
    )
    assert done.code == 0, done.err
    (task,) = json.loads(done.out)["tasks"]
    assert task["host"] == world.served.url.removeprefix("http://")
    assert world.assert_every_point_restores_equal() == 1


def test_inventory_lists_vms_disks_and_findings(world: World, hvps: Hvps) -> None:
    world.sim("create", "empty01")
    done = hvps("inventory", world.served.url, *world.served.connection, "--json")
    assert done.code == 0, done.err
    vms = {vm["name"]: vm for vm in json.loads(done.out)["vms"]}
    assert vms["web01"]["disks"][0]["slot"] == "scsi 0:0"
    assert vms["web01"]["findings"] == []
    assert vms["empty01"]["findings"] != []
    shown = hvps("inventory", world.served.url, *world.served.connection).out
    assert "web01" in shown
    assert "empty01: " in shown


def test_restore_by_disk_number_names_the_file(world: World, hvps: Hvps, tmp_path: Path) -> None:
    assert world.run().code == 0
    target = tmp_path / "one.raw"
    repo = ("--repo", world.repository)
    assert hvps("restore", "web01@latest", "--disk", "0", "--to", f"raw:{target}", *repo).code == 0
    refused = hvps("restore", "web01", "--disk", "0", "--to", f"raw:{target}", *repo, "--json")
    assert refused.code == 5
    assert json.loads(refused.out)["tasks"][0]["conditions"][0]["kind"] == "TargetExists"
    assert hvps("restore", "web01", "--disk", "0", "--to", f"raw:{target}", *repo, "--overwrite").code == 0
    assert hvps("restore", "web01", "--disk", "3", "--to", f"raw:{target}", *repo).code == 5
    assert hvps("restore", "web01", "--to", f"vhdx:{target}", *repo).code == 5
    assert hvps("restore", "nobody", "--to", f"raw:{target}", *repo).code == 5
