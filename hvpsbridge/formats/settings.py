"""The settings object, ``config``: the one object that is read before a key is at hand.

Plain canonical JSON, so that any version can see the format number first. It says nothing about hosts or
VMs. ``check`` authenticates the rest: SHA-256 over the canonical text without it in a plain repository,
HMAC-SHA-256 with a key derived from the master key in a sealed one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from hvpsbridge.formats.envelope import FORMAT
from hvpsbridge.formats.malformed import Malformed, UnknownVersion
from hvpsbridge.formats.record import decode_record, encode_record

CONFIG_NAME = "config"
MAGIC_TEXT = "hvps repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What holds for a repository for ever."""

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


def new_settings(repository_id: UUID, created: datetime, chunk_bytes: int, *, sealed: bool) -> Settings:
    """Settings of this format, not yet checked."""
    return Settings(
        magic=MAGIC_TEXT,
        format=FORMAT,
        repository_id=repository_id,
        created=created,
        chunk_bytes=chunk_bytes,
        sealed=sealed,
    )


def decode_settings(data: bytes) -> Settings:
    """The settings in ``data``; ``check`` is the caller's to verify.

    Raises:
        UnknownVersion: another hvps wrote it.
        Malformed: it is no settings object.
    """
    try:
        loose = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        raise Malformed(f"config: {err}") from err
    if not isinstance(loose, dict) or loose.get("magic") != MAGIC_TEXT:
        raise Malformed("config is not an hvps repository's")
    found = loose.get("format")
    if type(found) is not int:
        raise Malformed("config has no format number")
    if found != FORMAT:
        raise UnknownVersion(found, FORMAT)
    return decode_record(Settings, data)
