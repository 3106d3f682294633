"""Upgrades a repository to the current format.

Only the settings are replaced: everything else of an older format is part of the current one. A store has no
overwrite, so the new settings are first written to a second place, from which a repository opens while its
settings are missing. An upgrade that died is finished by the next one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from hvpsbridge.errors import (
    Damaged,
    ObjectExists,
    ObjectMissing,
    RepositoryLocked,
    StoreError,
    UpgradeRefused,
)
from hvpsbridge.formats.envelope import FORMAT
from hvpsbridge.formats.record import encode_record
from hvpsbridge.formats.settings import CONFIG_NAME, MAX_SETTINGS_BYTES, UPGRADE_NAME, Settings
from hvpsbridge.repository.check.restore_tool import replace_restore_tool
from hvpsbridge.repository.layout import FOLDERS, LEASES, RUNS
from hvpsbridge.repository.lease import Lease
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.runs import refuse_other_runs, start_run

logger = logging.getLogger(__name__)

# How often runs of others are looked for again.
WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class UpgradeReport:
    """What an upgrade did, or would do.

    Attributes:
        found: the format before.
        format: the format afterwards.
        finished: whether this finished an upgrade that died.
    """

    found: int
    format: int
    finished: bool


def upgrade(
    objects: Objects,
    settings: Settings,
    run_id: UUID,
    *,
    wait: bool,
    check: bool = False,
    sleep: Callable[[float], object] = time.sleep,
) -> UpgradeReport:
    """Upgrade a repository. A run that began before, of an older hvps, has to end first.

    Args:
        objects: the repository.
        settings: those it was opened with.
        run_id: of this run.
        wait: wait for other runs; otherwise they are an error.
        check: change nothing.
        sleep: for tests.

    Raises:
        RepositoryLocked: another run is in progress.
        UpgradeRefused: the store does not let anyone delete the settings.
        StoreError: the store fails; the repository opens as before, or upgraded.
    """
    store = objects.store
    begun, there = store.exists(UPGRADE_NAME), store.exists(CONFIG_NAME)
    # Settings of the second place are of the new format already.
    found = settings.format if there else 1
    report = UpgradeReport(found, FORMAT, finished=begun)
    if check or (settings.format == FORMAT and not begun):
        return report
    with start_run(objects, run_id) as own:
        _wait_for_others(objects, own, wait=wait, sleep=sleep)
        # The new restore.py reads all formats.
        replace_restore_tool(objects)
        new = replace(settings, format=FORMAT, check=b"")
        data = encode_record(replace(new, check=objects.sealer.settings_check(new)))
        _put_aside(objects, data)
        if there and settings.format != FORMAT:
            own.check()
            _delete_settings(objects)
        with contextlib.suppress(ObjectExists):  # an upgrade died just before its end
            store.put(CONFIG_NAME, data)
        store.commit_barrier()
        store.make_folders(FOLDERS)
        with contextlib.suppress(StoreError):  # it does no harm
            store.delete(UPGRADE_NAME)
    return report


def _put_aside(objects: Objects, data: bytes) -> None:
    """Have the new settings in the second place, durably, whatever somebody else may have put there."""
    store = objects.store
    try:
        if store.get(UPGRADE_NAME, MAX_SETTINGS_BYTES) == data:
            return
        store.delete(UPGRADE_NAME)
    except Damaged:  # too large, or a folder
        store.delete(UPGRADE_NAME)
    except ObjectMissing:
        pass
    store.put(UPGRADE_NAME, data)
    store.commit_barrier()


def _delete_settings(objects: Objects) -> None:
    store = objects.store
    try:
        store.delete(CONFIG_NAME)
        refused = "it is still there afterwards" if store.exists(CONFIG_NAME) else ""
    except StoreError as err:
        refused = err.reason
    if refused:
        with contextlib.suppress(StoreError):
            store.delete(UPGRADE_NAME)
        raise UpgradeRefused(store.url, f"the store did not delete `{CONFIG_NAME}`: {refused}")
    store.commit_barrier()


def _wait_for_others(objects: Objects, own: Lease, *, wait: bool, sleep: Callable[[float], object]) -> None:
    said = False
    while True:
        try:
            # A run of several VMs has no run object between two of them, but holds their leases.
            refuse_other_runs(objects, own, folders=(RUNS, LEASES))
            return
        except RepositoryLocked as err:
            if not wait:
                raise
            if not said:
                logger.warning("%s; waiting until it has ended", err.describe())
                said = True
            sleep(WAIT_SECONDS)
