"""The exported key, and the page to print."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from hvpsbridge.secret import Secret

PAGE_WIDTH = 78


@dataclass(frozen=True, slots=True)
class ExportedKey:
    """An exported key.

    Attributes:
        text: one line; can be used wherever a passphrase can.
        page: the same for printing, with instructions to restore without hvps.
        restore_sha256: digest of restore.py.
    """

    text: Secret
    page: Secret
    restore_sha256: str


def printed_page(text: str, repository_id: UUID, restore_sha256: str) -> str:
    """The page to print for an exported key, ``text``."""
    _, _, groups = text.split(" ")
    rows = groups.split("-")
    lines = ["    " + "-".join(rows[at : at + 6]) for at in range(0, len(rows), 6)]
    rule = "-" * PAGE_WIDTH
    return "\n".join(
        [
            rule,
            "KEY OF AN HVPS BACKUP REPOSITORY",
            "",
            f"Repository   {repository_id}",
            f"Printed      {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "",
            "Anyone who has this page and the repository can read every backup in it.",
            "Without this page or a passphrase, no one can read them.",
            "",
            "Key (72 digits, 0-9 and a-f; the last 8 are a check):",
            "",
            *lines,
            "",
            "In the form that hvps accepts as a key (line breaks do not matter):",
            "",
            f"    {text[: text.index(' ', 12)]}",
            f"      {groups[: len(groups) // 2]}",
            f"      {groups[len(groups) // 2 :]}",
            "",
            "Restoring without hvps: the repository holds restore.py. Its SHA-256 is",
            "",
            f"    {restore_sha256}",
            "",
            "Check it with sha256sum; then, with Python 3.11 and the packages zstandard",
            "and cryptography:  python3 restore.py --key-file KEYFILE REPOSITORY list",
            rule,
            "",
        ]
    )
