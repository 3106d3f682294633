"""What was proved and measured about hosts, by their build of Windows, in a small file on this machine.

Nothing in it can make a point wrong. A lost file costs time: hosts are proved again, points are compared. An
entry belongs to one machine and one build, so an update of Windows or another machine of the same name starts
without one. Machines that lose the file after each run declare builds in the playbook instead
(``proved_builds``).
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from hvpsbridge.contract.results import HostInfo
from hvpsbridge.files import StateFile
from hvpsbridge.folders import user_folder
from hvpsbridge.formats.ids import IdWay
from hvpsbridge.formats.os_build import OsBuild

logger = logging.getLogger(__name__)

VERSION = 1
FILE_NAME = "hosts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedBuild:
    """What is known about one machine on one build of Windows.

    Attributes:
        proved: when ``hvps host prove`` ended well; None if it never did.
        way: the way of ids for which it ended well. ``reference`` needs writes between the freeze and the
            conversion that were there in the next increment and not repeated after the conversion.
        differ: whether the last conversion gave other ids than the frozen disks had; None if none was seen.
        refuted: when the reference point's id was seen to miss changes; then ``reference`` is never used.
        hash_bytes: bytes per second that the host hashes; 0 if not measured.
    """

    proved: datetime | None = None
    way: IdWay | None = None
    differ: bool | None = None
    refuted: datetime | None = None
    hash_bytes: float = 0.0


def build_of(info: HostInfo) -> OsBuild:
    """The build of Windows that a host runs."""
    return OsBuild(info.os_build, info.os_revision or 0)


def default_state_folder() -> Path | None:
    """The folder of what hvps remembers: ``$XDG_STATE_HOME/hvps``, else ``~/.local/state/hvps``.

    None if there is no home folder.
    """
    return user_folder("XDG_STATE_HOME", ".local", "state")


class HostRecords:
    """What is known about hosts. Thread-safe.

    Args:
        folder: where the file is, created if missing; None to remember nothing after this process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = None if folder is None else StateFile(folder / FILE_NAME, VERSION)
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, ProvedBuild]] = {}

    def load(self, info: HostInfo) -> ProvedBuild:
        """What is known about this machine on its build; an empty record if nothing is.

        A machine that does not say which update it has never counts as proved: the next one would not show.
        """
        build = build_of(info)
        with self._lock:
            known = self._read().get(machine_key(info), {}).get(str(build), ProvedBuild())
        return known if build.revision else replace(known, proved=None, way=None)

    def builds(self, info: HostInfo) -> dict[str, ProvedBuild]:
        """What is known about this machine, by build."""
        with self._lock:
            return dict(self._read().get(machine_key(info), {}))

    def save(self, info: HostInfo, **changes: Any) -> ProvedBuild:
        """Change fields of the record of this machine on its build. Never raises: at worst it is forgotten.

        Returns:
            The record as it is now.
        """
        with self._lock, self._locked():
            known = self._read()
            builds = known.setdefault(machine_key(info), {})
            build = str(build_of(info))
            builds[build] = changed = replace(builds.get(build, ProvedBuild()), **changes)
            self._known = known
            if self._file is not None:
                try:
                    self._file.write(_content(known))
                except (OSError, ValueError) as err:
                    logger.warning("cannot write %s: %s", self._file.path, err)
            return changed

    def _read(self) -> dict[str, dict[str, ProvedBuild]]:
        if self._file is None:
            return self._known
        try:
            document = self._file.read()
            if document is None:
                return self._known
            return {
                host: {build: record for build, one in builds.items() if (record := _record(one)) is not None}
                for host, builds in document["hosts"].items()
            }
        except (OSError, ValueError, LookupError, AttributeError) as err:
            logger.warning("cannot read %s, so no host counts as proved: %s", self._file.path, err)
            return self._known

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Another process may write about another host at the same time."""
        with contextlib.ExitStack() as stack:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    stack.enter_context(self._file.locked())
            yield


def machine_key(info: HostInfo) -> str:
    """A machine in files: its name and its id, so that another machine of that name has no records."""
    return f"{info.name.casefold()} {info.machine_id or UUID(int=0)}"


def _content(known: dict[str, dict[str, ProvedBuild]]) -> dict[str, Any]:
    return {
        "hosts": {
            host: {build: _entry(one) for build, one in builds.items()} for host, builds in known.items()
        }
    }


def _entry(one: ProvedBuild) -> dict[str, Any]:
    return {
        "proved": None if one.proved is None else one.proved.isoformat(),
        "way": None if one.way is None else one.way.value,
        "differ": one.differ,
        "refuted": None if one.refuted is None else one.refuted.isoformat(),
        "hash_bytes": round(one.hash_bytes),
    }


def _record(entry: Any) -> ProvedBuild | None:
    """The entry of one build; None if hvps cannot have written it."""
    try:
        rate = float(entry["hash_bytes"])
        if entry["differ"] not in (None, True, False) or not 0 <= rate < math.inf:
            return None
        return ProvedBuild(
            proved=_moment(entry["proved"]),
            way=None if entry["way"] is None else IdWay(entry["way"]),
            differ=entry["differ"],
            refuted=_moment(entry["refuted"]),
            hash_bytes=rate,
        )
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


def _moment(text: str | None) -> datetime | None:
    """A time with its zone.

    Raises:
        ValueError: it has none.
    """
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment
