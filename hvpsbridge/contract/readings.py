"""Results of operations that read the content of disks and files; the rules of ``contract.results`` apply."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExtentPage:
    """A part of a list of extents, changed or allocated.

    Attributes:
        offset_bytes: where the page starts.
        processed_bytes: how much of the disk it covers.
        extents: packed u64 pairs (``formats.extents``); None if there are none.
    """

    offset_bytes: int
    processed_bytes: int
    extents: bytes | None


@dataclass(frozen=True, slots=True)
class DigestPage:
    """SHA-256 of consecutive whole chunks of a frozen disk, 32 bytes each, starting with ``first_chunk``."""

    first_chunk: int
    digests: bytes


@dataclass(frozen=True, slots=True)
class BlockMessage:
    """One block of a reader pipeline (``formats.wire``)."""

    block: bytes


@dataclass(frozen=True, slots=True)
class ReaderState:
    """Disks that are still attached in the host process after a close."""

    open_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePiece:
    """A part of a configuration file; the pieces of a file come in order.

    Attributes:
        name: file name without the folder.
        size_bytes: size of the file.
        sha256: of ``data``, in lower-case hex.
        data: None only for an empty file.
    """

    path: str
    name: str
    size_bytes: int
    offset_bytes: int
    sha256: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class ReaderCheck:
    """Result of compiling the reader's C# and calling its native library."""

    compiled: bool
    seconds: float
