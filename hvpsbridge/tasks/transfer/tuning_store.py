"""What was learned about hosts, in a small JSON file on the client beside the repository caches.

If the file is lost or corrupt, hosts are measured again. It holds names of hosts and figures, no secrets.
"""

from __future__ import annotations

import logging
import math
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from hvpsbridge.files import StateFile
from hvpsbridge.receiver.settings import ReadSettings
from hvpsbridge.tasks.transfer.tuning import BOUNDS, Learned

logger = logging.getLogger(__name__)

VERSION = 1
FILE_NAME = "tuning.json"


class TuningFile:
    """A :class:`~hvpsbridge.tasks.transfer.tuning.TuningStore` in a folder, which is created if missing."""

    def __init__(self, folder: Path) -> None:
        self._file = StateFile(folder / FILE_NAME, VERSION)

    def load(self) -> dict[str, Learned]:
        """What is known by host; empty if the file is missing or corrupt."""
        try:
            document = self._file.read()
            hosts = {} if document is None else document["hosts"]
            return {
                host: learned for host, entry in hosts.items() if (learned := _learned(entry)) is not None
            }
        except (OSError, ValueError, LookupError, AttributeError) as err:
            logger.info("cannot read %s, measuring hosts again: %s", self._file.path, err)
            return {}

    def save(self, host: str, learned: Learned) -> None:
        """Add or replace one host. Never raises."""
        try:
            with self._file.locked():
                known = {**self.load(), host: learned}
                self._file.write({"hosts": {name: _entry(one) for name, one in known.items()}})
        except (OSError, ValueError, OverflowError) as err:
            logger.info("cannot write %s: %s", self._file.path, err)


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
