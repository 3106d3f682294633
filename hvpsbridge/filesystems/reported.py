"""Errors of the libraries as ours."""

from __future__ import annotations

from hvpsbridge.filesystems.disks import DiskFile, UnreadableError


class Reported:
    """Turns errors of the library, and reads that failed beneath it, into ``UnreadableError``."""

    def __init__(self, file: DiskFile, what: str) -> None:
        self._file = file
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, err: BaseException | None, trace: object) -> None:
        if err is None or isinstance(err, OSError):
            self._file.check()
        if isinstance(err, OSError):
            raise UnreadableError(f"{self._what}: {' '.join(str(err).split())[:300]}") from err
