"""The task ``verify``: what it reports, and what it records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvpsbridge.errors import Damaged, ExitCode, PointLost, StoreError
from hvpsbridge.repository import Repository, VerifyReport
from hvpsbridge.repository.check.coverage import Budget
from hvpsbridge.repository.check.findings import Level
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.restore.task import RestoreOptions, restore_vm
from hvpsbridge.tasks.verify import verify_vm
from hvpsbridge.tasks.verify_options import Points, VerifyOptions, parse_budget
from tests.tasks.world import SLOT, World


def a_pack(world: World) -> Path:
    return next(file for file in (world.store / "data").rglob("*") if file.is_file())


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)


def test_what_cannot_be_recorded_is_a_warning_and_hides_no_damage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    context = world.context(VmRef("HV01", vm_id, "web"))

    def put(store: LocalStore, name: str, data: bytes) -> None:
        raise StoreError(store.url, "create", name, "Read-only file system")

    monkeypatch.setattr(LocalStore, "put", put)
    good = verify_vm(context, VerifyOptions())
    assert good.error is None
    assert "not recorded" in good.warnings[0]
    assert good.exit_code is ExitCode.DEGRADED
    flip(a_pack(world))
    bad = verify_vm(context, VerifyOptions())
    assert isinstance(bad.error, Damaged)
    assert bad.points[0].faults
    assert bad.exit_code is ExitCode.DAMAGE
    assert "not recorded" in bad.warnings[0]


def test_a_damaged_newest_manifest_is_damage_and_no_older_point_is_verified(world: World) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    world.churn(vm_id, SLOT)
    world.good_backup(vm_id)
    _, newest = world.repository.catalog.points(vm_id)
    flip(world.store / "points" / newest.point_id.hex)
    world.reopen()
    context = world.context(VmRef("HV01", vm_id, "web"))
    for wanted in Points:
        result = verify_vm(context, VerifyOptions(points=wanted))
        assert result.error is not None
        assert result.exit_code is ExitCode.DAMAGE
        assert newest.point_id.hex in str(result.error)
    restored = restore_vm(context, RestoreOptions(to=f"raw:{world.folder}/drill"))
    assert isinstance(restored.error, PointLost)
    assert not (world.folder / "drill").exists()
    # The next backup does not take the number of the lost point.
    world.churn(vm_id, SLOT)
    assert world.backup(vm_id).error is None
    assert [point.manifest.sequence for point in world.repository.catalog.points(vm_id)] == [1, 3]


def test_a_budget_covers_the_points_of_a_vm_step_by_step(world: World) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    context = world.context(VmRef("HV01", vm_id, "web"))
    options = VerifyOptions(budget=Budget(size_bytes=1), points=Points.ALL)
    never = []
    for _ in range(3):
        done = verify_vm(context, options)
        assert done.error is None
        covered = done.points[0].coverage
        assert covered is not None
        never.append(covered.never_packs)
    assert never == [1, 0, 0]
    assert world.repository.unverified_since(world.repository.catalog.points()[0]) is not None


@pytest.mark.parametrize("options", [{"level": Level.WRITTEN}, {"subset": (1, 14)}], ids=["level", "subset"])
def test_a_budget_that_does_not_fit_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="budget"):
        VerifyOptions(budget=Budget(seconds=60), **options)


@pytest.mark.parametrize(
    ("text", "budget"), [("45m", Budget(seconds=2700)), ("2 GiB", Budget(size_bytes=1 << 31))]
)
def test_a_budget_is_a_time_or_a_size(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "5", "x", "1 parsec", "-1m"])
def test_a_budget_has_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="45m or 500GiB"):
        parse_budget(text)


def test_only_hashing_is_done_part_by_part(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    vm_id = world.vm()
    world.good_backup(vm_id)
    context = world.context(VmRef("HV01", vm_id, "web"))
    parts = []
    verify = Repository.verify

    def noted(repository: Repository, *args: Any, **more: Any) -> VerifyReport:
        parts.append(more["subset"])
        return verify(repository, *args, **more)

    monkeypatch.setattr(Repository, "verify", noted)
    assert verify_vm(context, VerifyOptions(subset=(2, 2))).error is None
    assert sorted(parts) == [(1, 2), (2, 2)]
    parts.clear()
    assert verify_vm(context, VerifyOptions(level=Level.WRITTEN, subset=(2, 2))).error is None
    assert parts == [(1, 1)]
