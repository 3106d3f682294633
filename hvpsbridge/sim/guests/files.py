"""Files of a guest: a folder of files created from a seed, and changes to it.

File systems are filled from the folder. Expected sizes and SHA-256 come from the folder, never from an image.
Names and contents depend on the seed alone. Names are valid on ext4, FAT and NTFS, and differ not only in
case.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath

from hvpsbridge.units import KIB

# A file that is rewritten in place, page by page, as by a database. It has an eighth of the data.
DATABASE = "srv/db/orders.mdf"
_PAGE_BYTES = 8 * KIB
_DEPTH = 12
_FILES_PER_FOLDER = 24
_SPARSE_SIZE_BYTES = 512 * KIB
_VOCABULARY = (
    "account archive balance budget client contract delivery draft estimate figures forecast image index "
    "invoice journal ledger letter log minutes order page payroll plan price project quote receipt record "
    "report sample schedule sheet stock summary survey table tax template text total usage view week year"
)
_WORDS = _VOCABULARY.split()
_FOREIGN = ("Übersicht", "žádost", "отчёт", "価格表", "résumé", "λογαριασμός", "møte", "ملف")
_ENDINGS = (".txt", ".log", ".csv", ".dat", ".docx", ".jpg", ".xml", "")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and SHA-256 (hexadecimal) of one file."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Change:
    """Changes of a guest's files, as sorted paths relative to the root, with forward slashes.

    Attributes:
        folders: new folders, parents first.
        added: new files.
        replaced: files that were rewritten completely.
        deleted: deleted files.
        patched: files that were changed in place, with (offset, length) of the changes.
    """

    folders: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    patched: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.added) + len(self.replaced) + len(self.deleted) + len(self.patched)


def list_files(folder: Path) -> dict[str, FileEntry]:
    """All files below a folder, sorted by relative path with forward slashes."""
    return {
        path.relative_to(folder).as_posix(): FileEntry(path.stat().st_size, _sha256(path))
        for path in sorted(_walk(folder))
    }


def grow(folder: Path, seed: int, *, files: int, data_bytes: int) -> None:
    """Fill a new folder with ``files`` files of about ``data_bytes`` bytes in total."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    database = max(_PAGE_BYTES, data_bytes // 8 // _PAGE_BYTES * _PAGE_BYTES)
    _write(folder / DATABASE, rng.randbytes(database))
    folders = [PurePosixPath()]
    for _ in range(max(1, files // _FILES_PER_FOLDER)):
        folders.append(rng.choice(folders[-6:]) / _new_name(rng, folder, ""))
    deepest = PurePosixPath(*(f"level {number}" for number in range(_DEPTH)))
    folders.append(deepest)
    mean = max(64, (data_bytes - database) // max(1, files - 1))
    for _ in range(files - 1):
        place = rng.choice(folders)
        (folder / place).mkdir(parents=True, exist_ok=True)
        path = folder / place / _new_name(rng, folder / place, rng.choice(_ENDINGS))
        _write_some(path, rng, mean)


def churn(folder: Path, seed: int, *, share: float) -> Change:
    """Change, add and delete about ``share`` of the files of a folder. Returns the changes.

    A third of them is rewritten, a third deleted, a third added (some in new folders). About ``share`` of the
    database file's pages are rewritten in place.
    """
    rng = random.Random(seed)
    present = sorted(path.relative_to(folder).as_posix() for path in _walk(folder))
    loose = [name for name in present if name != DATABASE]
    touched = rng.sample(loose, max(3, min(len(loose), round(len(loose) * share))))
    third = len(touched) // 3
    replaced, deleted = touched[:third], touched[third : 2 * third]
    mean = max(64, sum((folder / name).stat().st_size for name in touched) // len(touched))
    for name in replaced:
        _write_some(folder / name, rng, mean)
    for name in deleted:
        (folder / name).unlink()
    places = sorted({PurePosixPath(name).parent for name in present})
    folders: list[str] = []
    added: list[str] = []
    for number in range(len(touched) - 2 * third):
        place = rng.choice(places)
        if number % 5 == 0:
            place = place / _new_name(rng, folder / place, "")
            (folder / place).mkdir()
            folders.append(place.as_posix())
        path = folder / place / _new_name(rng, folder / place, rng.choice(_ENDINGS))
        _write_some(path, rng, mean)
        added.append(path.relative_to(folder).as_posix())
    patched = {DATABASE: _patch(folder / DATABASE, rng, share)} if DATABASE in present else {}
    return Change(
        tuple(sorted(folders)), tuple(sorted(added)), tuple(sorted(replaced)), tuple(sorted(deleted)), patched
    )


def _patch(path: Path, rng: random.Random, share: float) -> tuple[tuple[int, int], ...]:
    pages = path.stat().st_size // _PAGE_BYTES
    chosen = sorted(rng.sample(range(pages), max(1, min(pages, round(pages * share)))))
    with path.open("r+b") as file:
        for page in chosen:
            file.seek(page * _PAGE_BYTES)
            file.write(rng.randbytes(_PAGE_BYTES))
    return tuple((page * _PAGE_BYTES, _PAGE_BYTES) for page in chosen)


def _new_name(rng: random.Random, folder: Path, ending: str) -> str:
    """A name that is not in the folder, ignoring case."""
    taken = {entry.name.casefold() for entry in folder.iterdir()} if folder.is_dir() else set()
    while True:
        stem = rng.choice(_FOREIGN) if rng.random() < 0.1 else rng.choice(_WORDS)
        joint = rng.choice((" ", "-", "_", " & ", "'s "))
        name = f"{stem}{joint}{rng.choice(_WORDS)} {rng.randrange(10_000):04d}{ending}"
        if name.casefold() not in taken:
            return name


def _write_some(path: Path, rng: random.Random, mean_bytes: int) -> None:
    """Write one file: mostly small, sometimes large; text, random, empty or sparse."""
    kind = rng.random()
    size = min(round(rng.lognormvariate(0, 1.2) * mean_bytes / 2), mean_bytes * 40)
    if kind < 0.02:
        _write(path, b"")
    elif kind < 0.04:
        with path.open("wb") as file:  # holes and a few bytes of data
            for _ in range(3):
                file.seek(rng.randrange(_SPARSE_SIZE_BYTES // KIB) * KIB)
                file.write(rng.randbytes(KIB))
            file.truncate(_SPARSE_SIZE_BYTES)
    elif kind < 0.6:
        _write(path, _text(rng, size))
    else:
        _write(path, rng.randbytes(size))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@cache
def _page_of_words() -> bytes:
    rng = random.Random(0)
    lines = (" ".join(rng.choices(_WORDS, k=rng.randrange(4, 16))) for _ in range(3000))
    return "\n".join(lines).encode()


def _text(rng: random.Random, size: int) -> bytes:
    """Bytes like text: they are compressible, and no two files are equal."""
    page = _page_of_words()
    parts: list[bytes] = []
    left = size
    while left > 0:
        start = rng.randrange(len(page) - 1)
        part = f"\n[{rng.getrandbits(48):012x}] ".encode() + page[start : start + rng.randrange(200, 4000)]
        parts.append(part[:left])
        left -= len(part)
    return b"".join(parts)


def _walk(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
