"""How stored bytes are bound and, with a key, sealed: the one door to ``cryptography``.

Both sealers bind every object to its place (``formats.envelope.context``) and every chunk to its id. The
plain one does it with SHA-256, which finds damage; the keyed one with AES-256-GCM, which also finds
intent and hides content.

Keys, all by HKDF-SHA-256 from the 32-byte master key, salted with the repository's id:

- the data root and the metadata root, from which each epoch's key is derived: chunks under the data key,
  nodes and every other object under the metadata key, so the metadata root alone reads the whole
  structure and no content;
- the id key, which makes chunk ids from SHA-256 digests;
- the name key, which makes object names that say nothing;
- the check key, which authenticates the settings object.

Epochs: AES-GCM with random 96-bit nonces stays safe for 2^32 uses of one key. A writer draws a random
32-bit epoch when it starts and another after 2^24 uses, so no key comes near that however many
repositories, runs and years there are, and nobody has to count across runs.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from functools import lru_cache
from typing import Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hvpsbridge.formats.chunk import Frame
from hvpsbridge.formats.envelope import (
    HEADER_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    Codec,
    Header,
    Kind,
    Seal,
    unpack_header,
)
from hvpsbridge.formats.malformed import Malformed
from hvpsbridge.formats.settings import Settings

MASTER_BYTES = 32
EPOCH_USES = 1 << 24
# Keys of epochs kept derived. A restore meets one epoch for each run that wrote part of its disk.
EPOCHS_KEPT = 256


class Sealer(Protocol):
    """What a repository needs of its key, or of there being none. Used from several threads."""

    @property
    def sealed(self) -> bool:
        """Whether there is a key."""
        ...

    def identify(self, digest: bytes) -> bytes:
        """Id of a chunk or node from the SHA-256 of its raw bytes."""
        ...

    def opaque(self, label: str, identity: UUID) -> str:
        """Name part (32 hex digits) that stands for ``identity`` within ``label``."""
        ...

    def settings_check(self, settings: Settings) -> bytes:
        """What ``check`` of the settings must be."""
        ...

    def seal_frame(self, frame: Frame, body: bytes) -> tuple[Frame, bytes]:
        """Frame and body as stored, from a plain frame and its body."""
        ...

    def open_frame(self, frame: Frame, body: bytes | memoryview) -> bytes | memoryview:
        """Body as it was before sealing.

        Raises:
            Malformed: it is not what was sealed.
        """
        ...

    def seal_object(self, kind: Kind, codec: Codec, raw_bytes: int, payload: bytes, place: bytes) -> bytes:
        """Whole envelope, bound to ``place``."""
        ...

    def open_object(self, data: bytes, kind: Kind, place: bytes) -> tuple[Header, bytes | memoryview]:
        """Header and payload (still encoded) of an envelope.

        Raises:
            Malformed: it is not what was sealed there.
            UnknownVersion: a newer hvps wrote it.
        """
        ...


def _header_of(data: bytes, kind: Kind, seal: Seal) -> Header:
    header = unpack_header(data)
    if header.kind is not kind:
        raise Malformed(f"an object of kind {header.kind.name}, expected {kind.name}")
    if header.seal is not seal:
        raise Malformed("sealed in a plain repository" if seal is Seal.PLAIN else "not sealed")
    return header


class PlainSealer:
    """No key: ids are digests, objects carry checksums."""

    sealed = False

    def __init__(self, repository_id: UUID) -> None:
        self._repository_id = repository_id

    def identify(self, digest: bytes) -> bytes:
        """See :class:`Sealer`."""
        return digest

    def opaque(self, label: str, identity: UUID) -> str:
        """See :class:`Sealer`."""
        text = label.encode() + b"\0" + self._repository_id.bytes + identity.bytes
        return hashlib.sha256(text).hexdigest()[:32]

    def settings_check(self, settings: Settings) -> bytes:
        """See :class:`Sealer`."""
        return hashlib.sha256(settings.checked_text()).digest()

    def seal_frame(self, frame: Frame, body: bytes) -> tuple[Frame, bytes]:
        """See :class:`Sealer`."""
        return frame, body

    def open_frame(self, frame: Frame, body: bytes | memoryview) -> bytes | memoryview:
        """See :class:`Sealer`. The id itself, checked after expanding, is what finds damage."""
        if frame.seal is not Seal.PLAIN:
            raise Malformed("a sealed frame in a plain repository")
        return body

    def seal_object(self, kind: Kind, codec: Codec, raw_bytes: int, payload: bytes, place: bytes) -> bytes:
        """See :class:`Sealer`."""
        head = Header(
            kind=kind, codec=codec, seal=Seal.PLAIN, epoch=0, raw_bytes=raw_bytes, stored_bytes=len(payload)
        ).pack()
        return head + payload + hashlib.sha256(place + head + payload).digest()

    def open_object(self, data: bytes, kind: Kind, place: bytes) -> tuple[Header, bytes | memoryview]:
        """See :class:`Sealer`."""
        header = _header_of(data, kind, Seal.PLAIN)
        end = HEADER_BYTES + header.stored_bytes
        sha = hashlib.sha256(place)
        sha.update(memoryview(data)[:end])
        if sha.digest() != data[end:]:
            raise Malformed("checksum differs")
        return header, memoryview(data)[HEADER_BYTES:end]


class KeySealer:
    """A master key at work."""

    sealed = True

    def __init__(self, master: bytes, repository_id: UUID) -> None:
        if len(master) != MASTER_BYTES:
            raise ValueError(f"a master key has {MASTER_BYTES} bytes, not {len(master)}")
        salt = repository_id.bytes
        self._data_root = derive(master, salt, b"hvps data root")
        self._metadata_root = derive(master, salt, b"hvps metadata root")
        # Copied for each id: making an HMAC from its key costs more than the HMAC.
        self._id_hmac = HMAC(derive(master, salt, b"hvps id key"), SHA256())
        self._name_key = derive(master, salt, b"hvps name key")
        self._check_key = derive(master, salt, b"hvps check key")
        self._cipher = lru_cache(maxsize=EPOCHS_KEPT)(self._derive_cipher)
        self._lock = threading.Lock()
        self._epoch = 0
        self._uses_left = 0

    def identify(self, digest: bytes) -> bytes:
        """See :class:`Sealer`."""
        mac = self._id_hmac.copy()
        mac.update(digest)
        return mac.finalize()

    def opaque(self, label: str, identity: UUID) -> str:
        """See :class:`Sealer`."""
        return hmac.digest(self._name_key, label.encode() + b"\0" + identity.bytes, "sha256").hex()[:32]

    def settings_check(self, settings: Settings) -> bytes:
        """See :class:`Sealer`."""
        return hmac.digest(self._check_key, settings.checked_text(), "sha256")

    def seal_frame(self, frame: Frame, body: bytes) -> tuple[Frame, bytes]:
        """See :class:`Sealer`."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = Frame(
            id=frame.id,
            kind=frame.kind,
            codec=frame.codec,
            seal=Seal.AES_256_GCM,
            epoch=self._next_epoch(),
            raw_bytes=frame.raw_bytes,
            stored_bytes=len(body) + TAG_BYTES,
            nonce=nonce,
        )
        cipher = self._cipher(frame.kind is Kind.DATA_PACK, sealed.epoch)
        return sealed, cipher.encrypt(nonce, body, sealed.associated())

    def open_frame(self, frame: Frame, body: bytes | memoryview) -> bytes:
        """See :class:`Sealer`."""
        if frame.seal is not Seal.AES_256_GCM:
            raise Malformed("a frame that is not sealed")
        try:
            cipher = self._cipher(frame.kind is Kind.DATA_PACK, frame.epoch)
            return cipher.decrypt(frame.nonce, body, frame.associated())
        except InvalidTag as err:
            raise Malformed("the seal is broken") from err

    def seal_object(self, kind: Kind, codec: Codec, raw_bytes: int, payload: bytes, place: bytes) -> bytes:
        """See :class:`Sealer`."""
        nonce = os.urandom(NONCE_BYTES)
        epoch = self._next_epoch()
        head = Header(
            kind=kind,
            codec=codec,
            seal=Seal.AES_256_GCM,
            epoch=epoch,
            raw_bytes=raw_bytes,
            stored_bytes=len(payload),
            nonce=nonce,
        ).pack()
        return head + self._cipher(False, epoch).encrypt(nonce, payload, place + head)

    def open_object(self, data: bytes, kind: Kind, place: bytes) -> tuple[Header, bytes]:
        """See :class:`Sealer`."""
        header = _header_of(data, kind, Seal.AES_256_GCM)
        view = memoryview(data)
        try:
            cipher = self._cipher(False, header.epoch)
            payload = cipher.decrypt(header.nonce, view[HEADER_BYTES:], place + view[:HEADER_BYTES])
        except InvalidTag as err:
            raise Malformed("the seal is broken") from err
        return header, payload

    def _next_epoch(self) -> int:
        with self._lock:
            if not self._uses_left:
                # Epoch 0 stands for "not sealed".
                self._epoch, self._uses_left = 1 + secrets.randbelow((1 << 32) - 1), EPOCH_USES
            self._uses_left -= 1
            return self._epoch

    def _derive_cipher(self, data: bool, epoch: int) -> AESGCM:
        root = self._data_root if data else self._metadata_root
        return AESGCM(derive(root, b"", b"hvps epoch " + epoch.to_bytes(4, "little")))


def wrap(key: bytes, secret: bytes, associated: bytes) -> tuple[bytes, bytes]:
    """Nonce and sealed form of ``secret`` under ``key``."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce, seal_with(key, nonce, secret, associated)


def seal_with(key: bytes, nonce: bytes, secret: bytes, associated: bytes) -> bytes:
    """Sealed form of ``secret`` under a nonce that the caller drew and uses once."""
    return AESGCM(key).encrypt(nonce, secret, associated)


def unwrap(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """What :func:`wrap` sealed; None when key or bytes are not the same."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None


def stretch(passphrase: str, salt: bytes, memory_kib: int, iterations: int, lanes: int) -> bytes:
    """32 bytes made of a passphrase by Argon2id."""
    kdf = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    return kdf.derive(passphrase.encode())


def derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    """32 bytes by HKDF-SHA-256; independent for each purpose."""
    return HKDF(SHA256(), 32, salt, purpose).derive(key)
