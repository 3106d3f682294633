"""Fingerprints by which a certificate is pinned: ``sha256:`` and the SHA-256 of its DER form."""

from __future__ import annotations

import hashlib
import re

from hvpsbridge.options import TextForm

_SHA256 = re.compile(r"sha256:([0-9a-f]{64})")
# What Windows shows as the thumbprint of a certificate, with or without separators.
_SHA1 = re.compile(r"([0-9A-F]{40})", re.IGNORECASE)
# Windows's certificate dialog puts U+200E before a thumbprint that is copied from it.
_SEPARATORS = re.compile("[ :\u200e]")


def fingerprint_of(certificate: bytes) -> str:
    """The fingerprint of a certificate in DER form, in small letters."""
    return f"sha256:{hashlib.sha256(certificate).hexdigest()}"


def parse_fingerprint(text: str) -> str:
    """The fingerprint in small letters and without colons between the bytes, as ``fingerprint_of`` gives it.

    Raises:
        ValueError: it is not one.
    """
    kind, _, digits = text.strip().lower().partition(":")
    plain = f"{kind}:{digits.replace(':', '')}"
    if _SHA256.fullmatch(plain):
        return plain
    if plain_thumbprint(text):
        raise ValueError(
            "is a SHA-1 thumbprint, which can be forged; use the SHA-256 that hvps host trust shows"
        )
    raise ValueError("must be sha256: and 64 hexadecimal digits, as hvps host trust shows it")


def plain_thumbprint(text: str) -> str | None:
    """A SHA-1 thumbprint as Windows shows it, in capitals and without separators; None if it is not one."""
    found = _SHA1.fullmatch(_SEPARATORS.sub("", text.strip().removeprefix("sha1:")))
    return found[1].upper() if found else None


FINGERPRINT = TextForm(
    read=parse_fingerprint,
    name="`sha256:` and 64 hexadecimal digits",
    pattern=r"^[sS][hH][aA]256:([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$",
    examples=("sha256:" + 32 * "5e",),
    metavar="FINGERPRINT",
)
