"""Files of a chunk index as a failing disk, or a program that is not hvps, might change them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hvpsbridge.repository.chunk_index import manifest as manifests
from hvpsbridge.repository.chunk_index.runs import ROW
from hvpsbridge.repository.chunk_index.tables import ENTRY, PACK


def rewrite_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest's fields; its checksum fits."""
    fields = json.loads(path.read_bytes()[9:])
    change(fields)
    data = json.dumps(fields).encode()
    path.write_bytes(b"%08x\n" % zlib.crc32(data) + data)


def rot_rows(folder: Path, what: str) -> None:
    """Change something in all rows of a kind. Checksums in the manifest stay as they are."""
    (run,) = manifests.decode((folder / "manifest").read_bytes()).runs
    (entries,), (packs,) = folder.glob("entries-*"), folder.glob("packs-*")
    if what in ("sizes", "ids"):
        rows = np.fromfile(entries, ENTRY)
        if what == "sizes":
            rows["size"] += 1
        else:
            rows["id"] = np.roll(rows["id"], 1)
        entries.write_bytes(rows.tobytes())
    elif what in ("names", "lengths"):
        rows = np.fromfile(packs, PACK)
        if what == "names":
            rows["name"] = np.void(bytes(16))
        else:
            rows["bytes"] = 5
        packs.write_bytes(rows.tobytes())
    else:
        data = bytearray((folder / run.name).read_bytes())
        if what == "filter":
            data[run.filter_at : run.rows_at] = bytes(run.rows_at - run.filter_at)
        else:
            rows = np.frombuffer(bytes(data[run.rows_at :]), ROW).copy()
            field = rows["number"] if what == "numbers" else rows["key"]
            field[:] = np.roll(field, 1)
            data[run.rows_at :] = rows.tobytes()
        (folder / run.name).write_bytes(data)
