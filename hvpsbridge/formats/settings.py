"""The settings object, ``config``, which is read before there is a key.

It is plain canonical JSON, so that any version can read the format number first. It contains nothing about
hosts or VMs. ``check`` authenticates the rest of its text: with SHA-256 in a plain repository, with
HMAC-SHA-256 under a key derived from the master key in an encrypted one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.envelope import FORMAT, FORMATS
from hvpsbridge.formats.grid import ChunkGrid
from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.formats.record import decode_record, encode_record, parse_json

CONFIG_NAME = "config"
# The new settings, while an upgrade replaces the old ones.
UPGRADE_NAME = "upgrade"
SETTINGS_NAMES = (CONFIG_NAME, UPGRADE_NAME)
# They take 300 bytes; a newer format may have more.
MAX_SETTINGS_BYTES = 64 * 1024
MAGIC_TEXT = "hvps repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a repository; only an upgrade changes them. ``sealed`` means that it is encrypted."""

    magic: str
    format: int
    repository_id: UUID
    created: datetime
    chunk_bytes: int
    sealed: bool
    check: bytes = b""

    def checked_text(self) -> bytes:
        """What ``check`` is computed over."""
        return encode_record(replace(self, check=b""))


def new_settings(
    repository_id: UUID, created: datetime, chunk_bytes: int, *, sealed: bool, format: int = FORMAT
) -> Settings:
    """Settings of a new repository, still without ``check``."""
    return Settings(
        magic=MAGIC_TEXT,
        format=format,
        repository_id=repository_id,
        created=created,
        chunk_bytes=chunk_bytes,
        sealed=sealed,
    )


def decode_settings(data: bytes) -> Settings:
    """The settings in ``data``. The caller has to verify ``check``.

    Raises:
        UnknownVersion: the repository has another format.
        Malformed: it is not a settings object.
    """
    loose = parse_json(data)
    if not isinstance(loose, dict) or loose.get("magic") != MAGIC_TEXT:
        raise Malformed("it does not belong to an hvps repository")
    found = loose.get("format")
    if type(found) is not int:
        raise Malformed("it has no format number")
    if found not in FORMATS:
        raise UnknownVersion(found, FORMAT)
    settings = decode_record(Settings, data)
    try:
        ChunkGrid(settings.chunk_bytes)
    except ValueError as err:
        raise Malformed(str(err)) from err
    return settings
