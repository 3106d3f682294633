"""The task ``verify``: what it reports, and what it records."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvpsbridge.errors import Damaged, ExitCode, StoreError
from hvpsbridge.repository.stores.local import LocalStore
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.tasks.verify import VerifyOptions, verify_vm
from tests.tasks.world import World


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
