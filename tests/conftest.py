"""Fixtures every test package may use. Small on purpose: what only one package needs lives there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

# Temporary folders go to memory where there is plenty: tests wait for thousands of fsyncs, which cost a disk
# milliseconds each and prove nothing there (what a power loss takes is tried on the volatile store).
IN_MEMORY = Path("/dev/shm")
NEEDED_BYTES = 6 << 30


def _fits(folder: Path) -> bool:
    """Whether a whole run has room there, and may run what it puts there."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return False
    return shutil.disk_usage(folder).free >= NEEDED_BYTES and not os.statvfs(folder).f_flag & os.ST_NOEXEC


if _fits(IN_MEMORY):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


# No example fails because the machine was busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests in front."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


def in_ci() -> bool:
    """Whether a missing tool is a failure (set by .ci/run) rather than a reason to skip."""
    return bool(os.environ.get("CI"))


def unavailable(what: str) -> NoReturn:
    """Fail in CI, otherwise skip: something that a test needs is not there."""
    (pytest.fail if in_ci() else pytest.skip)(what)


@pytest.fixture(scope="session", autouse=True)
def _no_realm_of_this_machine() -> Iterator[None]:
    """Negotiate would ask the machine's own Kerberos realm first, over the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", "/dev/null")
        patch.setenv("KRB5CCNAME", "MEMORY:")
        yield


@cache
def _runs(engine: str) -> str:
    """Empty when the engine answers, else what it did instead."""
    try:
        asked = subprocess.run(
            [engine, "-NoProfile", "-Command", "6 * 7"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return str(err)
    return "" if asked.stdout.strip() == "42" else f"said {asked.stdout!r} {asked.stderr!r}"


@pytest.fixture(scope="session")
def pwsh() -> Path:
    """The PowerShell engine: HVPS_PWSH, then PATH.

    Fails when HVPS_PWSH names something that does not run, or when there is none in CI; skips otherwise.
    """
    named = os.environ.get("HVPS_PWSH")
    engine = str(Path(named).absolute()) if named else shutil.which("pwsh")
    if engine is None:
        unavailable("no PowerShell engine: set HVPS_PWSH, or put pwsh on PATH")
    trouble = _runs(engine)
    if trouble:
        pytest.fail(f"the PowerShell engine {engine} does not run: {trouble}")
    return Path(engine)
