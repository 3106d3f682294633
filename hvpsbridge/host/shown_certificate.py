"""What a host's certificate says. Reads certificates of anyone, so nothing in it is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from hvpsbridge.host.fingerprints import fingerprint_of
from hvpsbridge.text import one_line

# Enough to recognise a host by.
MAX_NAMES = 20
MAX_TEXT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCertificate:
    """A certificate that a host shows.

    Attributes:
        subject: whom it is for, as an X.500 name.
        names: its DNS names and IP addresses, at most ``MAX_NAMES``.
        issuer: who issued it, as an X.500 name.
        self_signed: whether that is itself.
        not_before: when it begins to be valid, UTC.
        not_after: when it expires, UTC.
        fingerprint: by which hvps pins it.
        thumbprint: its SHA-1 in hexadecimal capitals, as Windows shows it.
        refusal: why hvps does not accept it unless it is pinned; empty if it does.
    """

    subject: str
    names: tuple[str, ...]
    issuer: str
    self_signed: bool
    not_before: datetime
    not_after: datetime
    fingerprint: str
    thumbprint: str
    refusal: str = ""

    def days_left(self, now: datetime) -> int:
        """Whole days until it expires; negative when it has."""
        return (self.not_after - now).days


def read_certificate(der: bytes, refusal: str = "") -> ShownCertificate:
    """The certificate in DER form.

    Raises:
        ValueError: it cannot be read.
    """
    read = x509.load_der_x509_certificate(der)
    return ShownCertificate(
        subject=_text(read.subject),
        names=tuple(_names(read))[:MAX_NAMES],
        issuer=_text(read.issuer),
        self_signed=read.issuer == read.subject,
        not_before=read.not_valid_before_utc.astimezone(UTC),
        not_after=read.not_valid_after_utc.astimezone(UTC),
        fingerprint=fingerprint_of(der),
        thumbprint=hashlib.sha1(der, usedforsecurity=False).hexdigest().upper(),
        refusal=refusal,
    )


def _text(name: x509.Name) -> str:
    return one_line(name.rfc4514_string(), MAX_TEXT)


def _names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for name in found.get_values_for_type(x509.DNSName):
        yield one_line(name, MAX_TEXT)
    for address in found.get_values_for_type(x509.IPAddress):
        yield str(address)
