"""What was learned about hosts, in a small JSON file on the client beside the repository caches.

If the file is lost or corrupt, hosts are measured again. It holds names of hosts and figures, no secrets.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from hvpsbridge.files import FOLDER_MODE, replace_file
from hvpsbridge.receiver.settings import ReadSettings
from hvpsbridge.tasks.transfer.tuning import BOUNDS, Learned

logger = logging.getLogger(__name__)

VERSION = 1
FILE_NAME = "tuning.json"
# A host takes 200 bytes; a larger file was not written by hvps.
MAX_BYTES = 1 << 20


class TuningFile:
    """A :class:`~hvpsbridge.tasks.transfer.tuning.TuningStore` in a folder, which is created if missing."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def load(self) -> dict[str, Learned]:
        """What is known by host; empty if the file is missing or corrupt."""
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(MAX_BYTES + 1))
            if document["version"] != VERSION:
                return {}
            hosts = document["hosts"].items()
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as err:
            logger.info("cannot read %s, measuring hosts again: %s", self._path, err)
            return {}
        return {host: learned for host, entry in hosts if (learned := _learned(entry)) is not None}

    def save(self, host: str, learned: Learned) -> None:
        """Add or replace one host. Never raises."""
        try:
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            with self._locked():
                self._write({**self.load(), host: learned})
        except (OSError, ValueError, OverflowError) as err:
            logger.info("cannot write %s: %s", self._path, err)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Another run may write about another host at the same time."""
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, known: dict[str, Learned]) -> None:
        document = {"version": VERSION, "hosts": {name: _entry(one) for name, one in known.items()}}
        replace_file(self._path, json.dumps(document, indent=1, sort_keys=True))


def _entry(learned: Learned) -> dict[str, Any]:
    return {
        **asdict(learned.settings),
        "rate_bytes": round(learned.rate_bytes),
        "measured": learned.measured.isoformat(),
    }


def _learned(entry: Any) -> Learned | None:
    """The entry of one host; None if hvps cannot have written it."""
    try:
        values = {one.name: entry[one.name] for one in fields(ReadSettings)}
        measured = datetime.fromisoformat(entry["measured"])
        rate = float(entry["rate_bytes"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return None
    if type(values["deflate"]) is not bool or measured.tzinfo is None or not 0 < rate < math.inf:
        return None
    for name, (least, most) in BOUNDS.items():
        if type(values[name]) is not int or not least <= values[name] <= most:
            return None
    return Learned(ReadSettings(**values), rate, measured)
