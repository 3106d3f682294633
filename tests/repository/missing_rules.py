"""The rules that keep points beside a collect, each taken out on its own.

The check of used packs is behind most of them: it finds in time what the rule would have prevented, unless
that happens between the check and the manifest. So it is taken out with them.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from hvpsbridge.errors import ObjectMissing
from hvpsbridge.formats.doomed import DoomedList
from hvpsbridge.formats.envelope import Kind
from hvpsbridge.repository import repository
from hvpsbridge.repository.check.verify import VerifyContext
from hvpsbridge.repository.collect import collector, decision, view
from hvpsbridge.repository.collect.fences import Fences
from hvpsbridge.repository.collect.moving import FrameCheck
from hvpsbridge.repository.layout import DOOMED
from hvpsbridge.repository.objects import Objects
from hvpsbridge.repository.run_guard import RunGuard
from hvpsbridge.repository.run_packs import RunPacks

Patch = pytest.MonkeyPatch


def lists_are_not_read(patch: Patch) -> None:
    """Writers do not read doomed lists."""
    patch.setattr(repository, "doomed_packs", lambda objects: frozenset())
    used_packs_are_not_checked(patch)


def runs_are_not_waited_for(patch: Patch) -> None:
    """A list is carried out while runs go on that began before it."""
    is_ready = decision._is_ready

    def ready(listed: DoomedList, *rest: object) -> bool:
        runs = None if listed.runs is None else ()
        return is_ready(replace(listed, runs=runs), *rest)  # type: ignore[arg-type]  # passed on

    patch.setattr(decision, "_is_ready", ready)
    used_packs_are_not_checked(patch)


def there_is_no_second_mark(patch: Patch) -> None:
    """What is on a list is deleted, whether a point needs it or not."""
    patch.setattr(decision, "_is_needed", lambda *_: False)
    used_packs_are_not_checked(patch)


def there_are_no_fences(patch: Patch) -> None:
    """A run that was declared dead may go on."""
    patch.setattr(Fences, "exists", lambda *_: False)
    patch.setattr(Fences, "all", lambda *_: {})
    used_packs_are_not_checked(patch)


def bases_are_not_checked(patch: Patch) -> None:
    """A base may be pruned before a writer begins."""
    patch.setattr(RunGuard, "check_bases", lambda *_: None)


def used_packs_are_not_checked(patch: Patch) -> None:
    """Writers check only what they stored."""
    patch.setattr(RunPacks, "use", lambda *_: None)


def runs_are_listed_after_manifests(patch: Patch) -> None:
    """A run that commits and ends in between is seen neither as a run nor by its point."""
    see, manifests = view.see, view._manifests

    def early(context: VerifyContext, *rest: object) -> view.Seen:
        found = manifests(context.catalog, context.objects.store.url)
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(view, "_manifests", lambda *_: found)
            return see(context, *rest)  # type: ignore[arg-type]  # passed on

    patch.setattr(collector, "see", early)


def lists_are_published_in_one_step(patch: Patch) -> None:
    """Runs are listed before the list is there that they should have read."""
    publish = collector.publish_doomed

    def at_once(objects: Objects, listed: DoomedList) -> str:
        return f"{DOOMED}/{'0' * 32}" if listed.runs is None else publish(objects, listed)

    patch.setattr(collector, "publish_doomed", at_once)
    used_packs_are_not_checked(patch)


def lists_are_read_once(patch: Patch) -> None:
    """A list that is replaced while a writer reads it is not seen."""

    def once(objects: Objects) -> frozenset[bytes]:
        found: set[bytes] = set()
        for info in list(objects.list(DOOMED)):
            with contextlib.suppress(ObjectMissing):
                found.update(
                    each.name for each in objects.read_record(DoomedList, info.name, Kind.DOOMED).packs
                )
        return frozenset(found)

    patch.setattr(repository, "doomed_packs", once)
    used_packs_are_not_checked(patch)


def kept_copies_are_not_checked(patch: Patch) -> None:
    """Of two copies, one goes though the other is not what was written."""
    patch.setattr(FrameCheck, "bad", lambda *_: set())
