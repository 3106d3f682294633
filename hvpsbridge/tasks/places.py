"""What the tasks of one run write on this machine: no two of them the same place.

Two VMs of one name, VMs called ``team/web`` and ``team_web``, or two plays can ask for one folder.
With ``overwrite`` the last one would win unseen. Such tasks are all refused, before any of them writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from hvpsbridge.errors import PlaceShared
from hvpsbridge.tasks.events import VmRef
from hvpsbridge.text import folded


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that a task fills for a VM.

    Attributes:
        disk: number of the only disk that is written; None for all.
    """

    folder: Path
    disk: int | None = None


@dataclass(frozen=True, slots=True)
class Writer:
    """A task of a play, for a VM.

    Attributes:
        play: number of the play in the run.
        task: number of the task in the play.
    """

    play: int
    task: int
    vm_id: UUID | None


@dataclass(frozen=True, slots=True)
class _Taken:
    writer: Writer
    vm: VmRef
    place: Place
    where: str


class Places:
    """The places of one run, and which tasks must not run because they share one.

    One thread notes them all before other threads ask.
    """

    def __init__(self) -> None:
        self._taken: list[_Taken] = []

    def note(self, writer: Writer, vm: VmRef, places: Iterable[Place]) -> None:
        """Note what a task writes for a VM."""
        for place in places:
            # Links are followed, and letter case does not count: it does not on all file systems.
            where = folded(os.path.realpath(place.folder))
            self._taken.append(_Taken(writer, vm, place, where))

    def forget(self, play: int) -> None:
        """Forget what was noted for a play."""
        self._taken = [taken for taken in self._taken if taken.writer.play != play]

    def refusal(self, writer: Writer) -> PlaceShared | None:
        """Why the task must not run, or None."""
        for mine in self._taken:
            if mine.writer == writer:
                for other in self._taken:
                    if _clash(mine, other):
                        return PlaceShared(str(mine.place.folder), _text(mine.vm), _text(other.vm))
        return None


def _clash(one: _Taken, other: _Taken) -> bool:
    if one.where != other.where or one.writer == other.writer:
        return False
    if one.writer.vm_id != other.writer.vm_id:
        return True
    return None in (one.place.disk, other.place.disk) or one.place.disk == other.place.disk


def _text(vm: VmRef) -> str:
    return f"VM {vm.name} ({vm.vm_id}) on {vm.host}"
