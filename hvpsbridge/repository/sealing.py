"""How stored bytes are authenticated and, with a key, encrypted. The only module that encrypts.

Both sealers bind every object to its place (``formats.envelope.context``) and every chunk to its id. The
plain one uses SHA-256, which detects damage. The one with a key uses AES-256-GCM, which also detects
manipulation and hides the content.

All keys are derived by HKDF-SHA-256 from the 32-byte master key, with the repository's id as salt:

- the data root and the metadata root, from which the keys of each epoch are derived. Chunks are encrypted
  with the data key, nodes and all other objects with the metadata key, so the metadata root reads the whole
  structure, but no content;
- the id key, which turns SHA-256 digests into chunk ids;
- the name key, for parts of object names that represent VMs;
- the check key, which authenticates the settings object.

AES-GCM with random 96-bit nonces is safe for 2^32 uses of a key. A writer chooses a random 32-bit epoch when
it starts, and another one after 2^24 uses. So no key comes near that limit, and nothing has to be counted
across runs.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hvpsbridge.errors import NoDataKey
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
KEY_BYTES = 32
EPOCH_USES = 1 << 24
# Derived keys kept. A restore needs one for each run that wrote a part of its disk.
EPOCHS_KEPT = 256


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys derived from the master key. A key slot for prunes has those that reading data does not need."""

    metadata_root: bytes = field(repr=False)
    name_key: bytes = field(repr=False)
    check_key: bytes = field(repr=False)
    data_root: bytes | None = field(default=None, repr=False)
    id_key: bytes | None = field(default=None, repr=False)

    def for_prunes(self) -> bytes:
        """What a key slot for prunes contains."""
        return self.metadata_root + self.name_key + self.check_key


def derive_keys(master: bytes, repository_id: UUID) -> Keys:
    """All keys of a repository."""
    if len(master) != MASTER_BYTES:
        raise ValueError(f"a master key has {MASTER_BYTES} bytes, not {len(master)}")
    salt = repository_id.bytes
    return Keys(
        metadata_root=derive(master, salt, b"hvps metadata root"),
        name_key=derive(master, salt, b"hvps name key"),
        check_key=derive(master, salt, b"hvps check key"),
        data_root=derive(master, salt, b"hvps data root"),
        id_key=derive(master, salt, b"hvps id key"),
    )


def keys_for_prunes(data: bytes) -> Keys:
    """The keys in a key slot for prunes."""
    return Keys(*(data[at : at + KEY_BYTES] for at in range(0, 3 * KEY_BYTES, KEY_BYTES)))


class Sealer(ABC):
    """Binds stored bytes to their place, and encrypts them if there is a key. Used from several threads."""

    sealed: bool
    """Whether there is a key."""
    reads_data: bool
    """Whether it opens chunks, and not only nodes and other objects."""

    @abstractmethod
    def identify(self, digest: bytes) -> bytes:
        """Id of a chunk or node from the SHA-256 of its raw bytes."""

    @abstractmethod
    def confirms(self, identity: bytes, raw: bytes | memoryview) -> bool:
        """Whether a frame that was opened is what its id says."""

    @abstractmethod
    def opaque(self, label: str, identity: UUID) -> str:
        """Part of an object name (32 hex digits) that represents ``identity`` under ``label``."""

    @abstractmethod
    def settings_check(self, settings: Settings) -> bytes:
        """The correct value of ``check`` in the settings."""

    @abstractmethod
    def seal_frame(self, frame: Frame, body: bytes) -> tuple[Frame, bytes]:
        """Frame and body as they are stored, from a plain frame and its body."""

    @abstractmethod
    def open_frame(self, frame: Frame, body: bytes | memoryview) -> bytes | memoryview:
        """The body as it was given to :meth:`seal_frame`.

        Raises:
            Malformed: it was not sealed by this sealer, or was changed.
        """

    @abstractmethod
    def seal_object(self, kind: Kind, codec: Codec, raw_bytes: int, payload: bytes, place: bytes) -> bytes:
        """The whole envelope, bound to ``place``."""

    @abstractmethod
    def open_object(self, data: bytes, kind: Kind, place: bytes) -> tuple[Header, bytes | memoryview]:
        """Header and payload (still encoded) of an envelope.

        Raises:
            Malformed: it was not sealed for ``place`` by this sealer, or was changed.
            UnknownVersion: a newer hvps wrote it.
        """


def _header_of(data: bytes, kind: Kind, seal: Seal) -> Header:
    header = unpack_header(data)
    if header.kind is not kind:
        raise Malformed(f"an object of kind {header.kind.name} instead of {kind.name}")
    if header.seal is not seal:
        raise Malformed("encrypted, in a plain repository" if seal is Seal.PLAIN else "not encrypted")
    return header


class PlainSealer(Sealer):
    """Without a key: ids are digests, objects have checksums."""

    sealed = False
    reads_data = True

    def __init__(self, repository_id: UUID) -> None:
        self._repository_id = repository_id

    def identify(self, digest: bytes) -> bytes:
        return digest

    def confirms(self, identity: bytes, raw: bytes | memoryview) -> bool:
        return hashlib.sha256(raw).digest() == identity

    def opaque(self, label: str, identity: UUID) -> str:
        text = label.encode() + b"\0" + self._repository_id.bytes + identity.bytes
        return hashlib.sha256(text).hexdigest()[:32]

    def settings_check(self, settings: Settings) -> bytes:
        return hashlib.sha256(settings.checked_text()).digest()

    def seal_frame(self, frame: Frame, body: bytes) -> tuple[Frame, bytes]:
        return frame, body

    def open_frame(self, frame: Frame, body: bytes | memoryview) -> bytes | memoryview:
        # Damage is found by the id, which is checked after decompression.
        if frame.seal is not Seal.PLAIN:
            raise Malformed("an encrypted frame in a plain repository")
        return body

    def seal_object(self, kind: Kind, codec: Codec, raw_bytes: int, payload: bytes, place: bytes) -> bytes:
        head = Header(
            kind=kind, codec=codec, seal=Seal.PLAIN, epoch=0, raw_bytes=raw_bytes, stored_bytes=len(payload)
        ).pack()
        return head + payload + hashlib.sha256(place + head + payload).digest()

    def open_object(self, data: bytes, kind: Kind, place: bytes) -> tuple[Header, bytes | memoryview]:
        header = _header_of(data, kind, Seal.PLAIN)
        end = HEADER_BYTES + header.stored_bytes
        sha = hashlib.sha256(place)
        sha.update(memoryview(data)[:end])
        if sha.digest() != data[end:]:
            raise Malformed("the checksum does not match")
        return header, memoryview(data)[HEADER_BYTES:end]


class KeySealer(Sealer):
    """With keys: ids are keyed, chunks and objects are encrypted.

    Args:
        keys: all keys, or those for prunes, which do not open chunks.
    """

    sealed = True

    def __init__(self, keys: Keys) -> None:
        self._data_root = keys.data_root
        self._metadata_root = keys.metadata_root
        # Copied for each id: setting the key costs more than computing the HMAC.
        self._id_hmac = None if keys.id_key is None else HMAC(keys.id_key, SHA256())
        self._name_key = keys.name_key
        self._check_key = keys.check_key
        self.reads_data = keys.data_root is not None
        self._cipher = lru_cache(maxsize=EPOCHS_KEPT)(self._derive_cipher)
        self._lock = threading.Lock()
        self._epoch = 0
        self._uses_left = 0

    def identify(self, digest: bytes) -> bytes:
        if self._id_hmac is None:
            raise NoDataKey
        mac = self._id_hmac.copy()
        mac.update(digest)
        return mac.finalize()

    def confirms(self, identity: bytes, raw: bytes | memoryview) -> bool:
        # Without the id key, the tag of the frame is the proof: its associated data has the id.
        return self._id_hmac is None or self.identify(hashlib.sha256(raw).digest()) == identity

    def opaque(self, label: str, identity: UUID) -> str:
        return hmac.digest(self._name_key, label.encode() + b"\0" + identity.bytes, "sha256").hex()[:32]

    def settings_check(self, settings: Settings) -> bytes:
        return hmac.digest(self._check_key, settings.checked_text(), "sha256")

    def seal_frame(self, frame: Frame, body: bytes) -> tuple[Frame, bytes]:
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
        if frame.seal is not Seal.AES_256_GCM:
            raise Malformed("a frame that is not encrypted")
        try:
            cipher = self._cipher(frame.kind is Kind.DATA_PACK, frame.epoch)
            return cipher.decrypt(frame.nonce, body, frame.associated())
        except InvalidTag as err:
            raise Malformed("the authentication tag does not match") from err

    def seal_object(self, kind: Kind, codec: Codec, raw_bytes: int, payload: bytes, place: bytes) -> bytes:
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
        header = _header_of(data, kind, Seal.AES_256_GCM)
        view = memoryview(data)
        try:
            cipher = self._cipher(False, header.epoch)
            payload = cipher.decrypt(header.nonce, view[HEADER_BYTES:], place + view[:HEADER_BYTES])
        except InvalidTag as err:
            raise Malformed("the authentication tag does not match") from err
        return header, payload

    def _next_epoch(self) -> int:
        with self._lock:
            if not self._uses_left:
                # Epoch 0 means "not encrypted".
                self._epoch, self._uses_left = 1 + secrets.randbelow((1 << 32) - 1), EPOCH_USES
            self._uses_left -= 1
            return self._epoch

    def _derive_cipher(self, data: bool, epoch: int) -> AESGCM:
        root = self._data_root if data else self._metadata_root
        if root is None:
            raise NoDataKey
        return AESGCM(derive(root, b"", b"hvps epoch " + epoch.to_bytes(4, "little")))


def wrap(key: bytes, secret: bytes, associated: bytes) -> tuple[bytes, bytes]:
    """Nonce and ciphertext of ``secret`` under ``key``."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce, seal_with(key, nonce, secret, associated)


def seal_with(key: bytes, nonce: bytes, secret: bytes, associated: bytes) -> bytes:
    """Ciphertext of ``secret`` under a nonce that the caller uses only once."""
    return AESGCM(key).encrypt(nonce, secret, associated)


def unwrap(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """The secret that :func:`wrap` encrypted; None when the key is wrong or the bytes were changed."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None


def stretch(passphrase: str, salt: bytes, memory_kib: int, iterations: int, lanes: int) -> bytes:
    """32 bytes derived from a passphrase by Argon2id."""
    kdf = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    return kdf.derive(passphrase.encode())


def derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    """32 bytes derived by HKDF-SHA-256; independent for each purpose."""
    return HKDF(SHA256(), 32, salt, purpose).derive(key)
