#!/usr/bin/env python3
"""Read an hvps backup repository (formats 1 and 2) without hvps: list its points and restore its disks.

This file is in every repository. It needs Python 3.11 or later, the package zstandard for compressed content,
and the package cryptography for encrypted repositories. It reads a repository in a local directory (copy or
mount it there first), never writes to it, and checks every digest.

    python3 restore.py REPOSITORY list
    python3 restore.py REPOSITORY restore POINT --disk "scsi 0:0" --to disk.raw
    python3 restore.py REPOSITORY restore POINT --disk "scsi 0:0" --format vhdx --to disk.vhdx
    python3 restore.py REPOSITORY files POINT --to FOLDER
    python3 restore.py --key-file FILE REPOSITORY list      (encrypted repositories)

FILE contains the exported key (one line that starts with hvps-key-1) or a passphrase. POINT is an id or its
first digits. The format is described in docs/format.md of the project.
"""

import argparse
import hashlib
import hmac
import json
import os
import random
import re
import stat
import struct
import sys
import unicodedata
import uuid
from pathlib import Path

FORMATS = (1, 2)
ENVELOPE_VERSION = 1
DATA, NODE, INDEX, MANIFEST, TOMBSTONE, FENCE, TAG, TOMBSTONES = 1, 2, 3, 4, 9, 13, 14, 18
MIB = 1024 * 1024
ZERO_ID = bytes(32)
FAN_OUT = 256
NODE_BYTES = FAN_OUT * 32
HEADER = struct.Struct("<4sBBBBIII12s")
FRAME = struct.Struct("<32sBBBxIII12s")
ASSOCIATED = struct.Struct("<B32sBII")
INDEX_HEAD = struct.Struct("<II")
INDEX_PACK = struct.Struct("<16sB3xIQ")
PACK_HEAD = struct.Struct("<4sBB2x")
ENTRY = struct.Struct("<32sIII")
CHECKED_ENTRY = struct.Struct("<32sIII16x")
TRAILER = struct.Struct("<I4s")
FOLDERS = {DATA: "data", NODE: "nodes"}
# The most that hvps writes. Anyone may have put larger objects there, or small ones that expand to gigabytes.
MAX_PAYLOAD_BYTES = {DATA: 4 * MIB, NODE: 4 * MIB, INDEX: 8 * MIB, MANIFEST: 8 * MIB}
MAX_PAYLOAD_BYTES.update({TOMBSTONE: MIB // 16, FENCE: 8 * MIB, TAG: MIB // 16, TOMBSTONES: 8 * MIB})
MAX_PACK_BYTES = 64 * MIB
MAX_CONFIG_BYTES = 64 * 1024
MAX_SLOT_BYTES = 4096
MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = MIB // 16, MIB
MAX_DISK_BYTES = 64 << 40  # of VHDX
MAX_DIGITS = 20
MAX_CONTAINERS, MAX_TEXTS = 200_000, 500_000
# Costs of a key slot, and of all that are tried: 64 slots of hvps.
MIN_MEMORY_KIB, MAX_MEMORY_KIB, MAX_LANES = 1024, 256 * 1024, 16
MAX_COST_KIB, MAX_TRIED_KIB = 12 * 64 * 1024, 64 * 3 * 64 * 1024
MAX_SLOTS_READ = 256
# A file name may have 255 bytes; the rest is for a digest and a number.
MAX_NAME_BYTES = 200


class Failure(Exception):
    """An error; the text says what is wrong."""


class Damage(Failure):
    """Stored bytes are not what was written."""


def parse_json(data, name):
    """The JSON value in ``data``."""

    def integer(text):
        if len(text) > MAX_DIGITS:
            raise ValueError(f"a number of {len(text)} digits")
        return int(text)

    def refuse(text):
        raise ValueError(f"the number {text}")

    containers = data.count(b"[") + data.count(b"{")
    texts = (data.count(b'"') - data.count(b'\\"')) // 2
    if containers > MAX_CONTAINERS or texts > MAX_TEXTS:
        raise Damage(f"{name}: too many values")
    try:
        return json.loads(data, parse_int=integer, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Damage(f"{name}: {error}") from None


def is_bytes(value, length):
    """Whether ``value`` is the hex text of so many bytes."""
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{2 * length}}}", value) is not None


def is_number(value, low, high):
    """Whether ``value`` is an integer within bounds."""
    return type(value) is int and low <= value <= high


def is_uuid(value):
    """Whether ``value`` is the usual text of a UUID."""
    return (
        isinstance(value, str)
        and re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value) is not None
    )


def shown(value):
    """Text from the repository without characters that control a terminal."""
    return "".join(each if each.isprintable() else "?" for each in str(value))


# -- optional packages ---------------------------------------------------------------------------------


def expand(codec, data, raw_bytes):
    """The decoded bytes of ``data``, exactly ``raw_bytes`` long."""
    if codec == 0:
        raw = bytes(data)
    elif codec == 1:
        try:
            import zstandard
        except ImportError:
            raise Failure("this content is compressed: install the Python package zstandard") from None
        try:
            if zstandard.get_frame_parameters(data).content_size != raw_bytes:
                raise Damage("compressed content has an unexpected size")
            raw = zstandard.ZstdDecompressor().decompress(data, max_output_size=raw_bytes)
        except zstandard.ZstdError as error:
            raise Damage(f"zstd: {error}") from None
    else:
        raise Damage(f"unknown codec {codec}")
    if len(raw) != raw_bytes:
        raise Damage(f"{len(raw)} bytes instead of {raw_bytes}")
    return raw


def hkdf(key, salt, info):
    """32 bytes of HKDF-SHA-256 (RFC 5869)."""
    secret = hmac.new(salt or bytes(32), key, hashlib.sha256).digest()
    return hmac.new(secret, info + b"\x01", hashlib.sha256).digest()


def open_gcm(key, nonce, data, associated):
    """Decrypt with AES-256-GCM; None when the key is wrong or the bytes were changed."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise Failure("this repository is encrypted: install the Python package cryptography") from None
    try:
        return AESGCM(key).decrypt(nonce, bytes(data), associated)
    except InvalidTag:
        return None


def argon2id(passphrase, slot):
    """The key that Argon2id derives from a passphrase with the costs of a key slot."""
    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    except ImportError:
        raise Failure(
            "a passphrase needs the Python package cryptography 44 or later; use the exported key"
        ) from None
    kdf = Argon2id(
        salt=bytes.fromhex(slot["salt"]),
        length=32,
        iterations=slot["iterations"],
        lanes=slot["lanes"],
        memory_cost=slot["memory_kib"],
    )
    return kdf.derive(passphrase.encode())


# -- the repository ---------------------------------------------------------------------------------------


def canonical(value):
    """Canonical JSON."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Damage("text that is not valid Unicode") from None


class Repository:
    """A repository in a directory; encrypted ones need a key."""

    def __init__(self, folder, key):
        self.folder = Path(folder)
        self.settings = self._settings()
        self.id = uuid.UUID(self.settings["repository_id"])
        self.chunk_bytes = self.settings["chunk_bytes"]
        self.master = None
        if self.settings["sealed"]:
            self.master = self._unlock(key)
        elif key:
            raise Failure("the repository is not encrypted, but a key was given")
        self._check_settings()
        self._ciphers = {}
        self._node = (None, b"")
        self.index = {}
        self.indexed = set()
        self.footers_read = False
        self.problems = []
        self._load_index()

    def _open(self, name):
        """The open file of an object, and its size. Somebody may have put a link or a pipe there."""
        flags = (
            os.O_RDONLY
            | getattr(os, "O_NOFOLLOW", 0)
            | getattr(os, "O_NONBLOCK", 0)
            | getattr(os, "O_BINARY", 0)
        )
        try:
            file = os.fdopen(os.open(self.folder / name, flags), "rb")
            found = os.fstat(file.fileno())
        except OSError as error:
            raise Damage(f"{name}: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise Damage(f"{name} is not a regular file")
        return file, found.st_size

    def _read(self, name, max_bytes):
        file, size = self._open(name)
        with file:
            if size > max_bytes:
                raise Damage(f"{name} has {size} bytes, but may have at most {max_bytes}")
            return self._piece(file, name, 0, size)

    def _piece(self, file, name, offset, length):
        """So many bytes of a file, or fewer at its end."""
        try:
            file.seek(offset)
            return file.read(length)
        except OSError as error:
            raise Damage(f"{name}: {error.strerror}") from None

    def _settings(self):
        # An upgrade that was interrupted left the new settings in the second place.
        name = next((name for name in ("config", "upgrade") if os.path.lexists(self.folder / name)), None)
        if name is None:
            raise Failure(f"no repository in {self.folder}")
        settings = parse_json(self._read(name, MAX_CONFIG_BYTES), name)
        if not isinstance(settings, dict) or settings.get("magic") != "hvps repository":
            raise Failure(f"no repository in {self.folder}")
        found = settings.get("format")
        if found not in FORMATS:
            raise Failure(f"the repository has format {shown(found)[:40]}; this restore.py supports 1 and 2")
        missing = {"repository_id", "created", "chunk_bytes", "sealed"} - set(settings)
        if missing:
            raise Damage("config: fields {} are missing".format(", ".join(sorted(missing))))
        chunk = settings["chunk_bytes"]
        if (
            not is_uuid(settings["repository_id"])
            or not is_number(chunk, MIN_CHUNK_BYTES, MAX_CHUNK_BYTES)
            or chunk & (chunk - 1)
            or not isinstance(settings["sealed"], bool)
        ):
            raise Damage("config: a field has an invalid value")
        return settings

    def _check_settings(self):
        if self.settings.get("check") != self._check(self.master):
            raise Damage("config: its check does not match")

    def _check(self, master):
        """What the check of the settings must be."""
        text = canonical({name: value for name, value in self.settings.items() if name != "check"})
        if master is None:
            return hashlib.sha256(text).hexdigest()
        return hmac.new(hkdf(master, self.id.bytes, b"hvps check key"), text, hashlib.sha256).hexdigest()

    def _derived(self, purpose):
        return hkdf(self.master, self.id.bytes, purpose)

    def _unlock(self, key):
        if not key:
            raise Failure("the repository is encrypted: pass --key-file")
        exported = re.fullmatch(r"hvps-key-1\s+([0-9a-f-]{36})\s+([0-9a-f\s-]+)", key.strip(), re.IGNORECASE)
        if exported:
            digits = re.sub(r"[\s-]", "", exported[2]).lower()
            if len(digits) != 72:
                raise Failure(f"an exported key has 72 digits, not {len(digits)}")
            try:
                master, owner = bytes.fromhex(digits[:64]), uuid.UUID(exported[1])
            except ValueError:
                raise Failure("the repository id in the exported key is not valid") from None
            if hashlib.sha256(b"hvps-key-1" + owner.bytes + master).hexdigest()[:8] != digits[64:]:
                raise Failure("the exported key has a typing mistake: its check digits do not match")
            if owner != self.id:
                raise Failure(f"the exported key belongs to repository {owner}")
            return master
        # Anyone who can create objects can add slots, so the number and costs of those that are tried are
        # bounded, in a random order, and a key counts only when config confirms it.
        # As given, then with accents composed and decomposed: systems differ in that.
        forms = list(dict.fromkeys([key, *(unicodedata.normalize(form, key) for form in ("NFC", "NFD"))]))
        names = self.names("keys")
        random.SystemRandom().shuffle(names)
        cost, too_many = 0, len(names) > MAX_SLOTS_READ
        for name in names[:MAX_SLOTS_READ]:
            slot = self._slot(name)
            if slot is None or slot["repository_id"] != str(self.id):
                continue
            cost += slot["memory_kib"] * slot["iterations"] * len(forms)
            if cost > MAX_TRIED_KIB:
                too_many = True
                break
            bound = canonical({field: slot[field] for field in slot if field not in ("wrapped", "label")})
            for form in forms:
                master = open_gcm(
                    argon2id(form, slot), bytes.fromhex(slot["nonce"]), bytes.fromhex(slot["wrapped"]), bound
                )
                confirmed = self._check(master or bytes(32)) == self.settings.get("check")
                if master is not None and confirmed:
                    return master
        if too_many:
            raise Failure(
                f"the key opens none of the key slots that were tried, but there are {len(names)}, more than "
                "are tried at once; try again, remove the slots that are not yours, or use the exported key"
            )
        raise Failure("the key is wrong: it opens no key slot")

    def _slot(self, name):
        """A key slot without its check; None when it is damaged or nothing that hvps makes."""
        try:
            slot = parse_json(self._read(name, MAX_SLOT_BYTES), name)
            check = slot.pop("check")
            valid = (
                hashlib.sha256(canonical(slot)).hexdigest() == check
                and slot["kdf"] == "argon2id"
                and is_bytes(slot["salt"], 16)
                and is_bytes(slot["nonce"], 12)
                and is_bytes(slot["wrapped"], 48)
                and is_number(slot["lanes"], 1, MAX_LANES)
                and is_number(slot["memory_kib"], MIN_MEMORY_KIB, MAX_MEMORY_KIB)
                and is_number(slot["iterations"], 1, MAX_COST_KIB // slot["memory_kib"])
                and slot["slot_id"].replace("-", "") == name.split("/")[1]
                and isinstance(slot["repository_id"], str)
            )
        except (Damage, ValueError, KeyError, AttributeError, TypeError):
            valid = False
        if not valid:
            print(f"{name} is damaged", file=sys.stderr)
            return None
        return slot

    def _key(self, kind, epoch):
        root = b"hvps data root" if kind == DATA else b"hvps metadata root"
        if (root, epoch) not in self._ciphers:
            info = b"hvps epoch " + struct.pack("<I", epoch)
            self._ciphers[root, epoch] = hkdf(self._derived(root), b"", info)
        return self._ciphers[root, epoch]

    def identify(self, digest):
        """Id of a chunk or node from its SHA-256."""
        if self.master is None:
            return digest
        if "id" not in self._ciphers:
            self._ciphers["id"] = self._derived(b"hvps id key")
        return hmac.new(self._ciphers["id"], digest, hashlib.sha256).digest()

    def open_object(self, name, kind):
        """Payload of the envelope stored under ``name``."""
        data = self._read(name, HEADER.size + MAX_PAYLOAD_BYTES[kind] + 32)
        return self.open_envelope(data, name, kind)

    def open_envelope(self, data, name, kind):
        """Payload of the envelope ``data``, which was written for ``name``."""
        if len(data) < HEADER.size:
            raise Damage(f"{name} is truncated")
        magic, version, found, codec, seal, epoch, raw, stored, nonce = HEADER.unpack_from(data)
        if magic != b"HVPS" or found != kind:
            raise Damage(f"{name} is an object of another kind")
        if version != ENVELOPE_VERSION:
            raise Damage(f"{name} has version {version}; this restore.py supports {ENVELOPE_VERSION}")
        if raw > MAX_PAYLOAD_BYTES[kind] or seal != (0 if self.master is None else 1):
            raise Damage(f"{name} has an invalid header")
        place = self.id.bytes + name.encode()
        head, body = data[: HEADER.size], data[HEADER.size :]
        if self.master is None:
            payload, check = body[:stored], body[stored:]
            if hashlib.sha256(place + head + payload).digest() != check:
                raise Damage(f"{name}: its checksum does not match")
        else:
            payload = open_gcm(self._key(NODE, epoch), nonce, body, place + head)
            if payload is None or len(payload) != stored:
                raise Damage(f"{name}: its authentication tag does not match")
        return expand(codec, payload, raw)

    def names(self, prefix, digits=32):
        """Names of the objects under a prefix, with so many hex digits; other files there are ignored."""
        return sorted(
            f"{prefix}/{path.name}"
            for path in (self.folder / prefix).glob("*")
            if re.fullmatch(f"[0-9a-f]{{{digits}}}", path.name) and path.lstat().st_size
        )

    def _load_index(self):
        damaged, superseded = {}, set()
        for name in self.names("index"):
            try:
                superseded.update(self._take_index(self.open_object(name, INDEX), name))
            except Damage as error:
                damaged[name] = str(error)
        self.problems += [text for name, text in damaged.items() if name not in superseded]

    def _take_index(self, payload, name):
        """Names of the index objects that this one supersedes."""
        if len(payload) < INDEX_HEAD.size:
            raise Damage(f"{name} is too short")
        superseded, packs = INDEX_HEAD.unpack_from(payload)
        if INDEX_HEAD.size + 16 * superseded + INDEX_PACK.size * packs > len(payload):
            raise Damage(f"{name}: its counts do not match its length")
        names = [
            payload[at : at + 16].hex()
            for at in range(INDEX_HEAD.size, INDEX_HEAD.size + 16 * superseded, 16)
        ]
        at = INDEX_HEAD.size + 16 * superseded
        heads = [INDEX_PACK.unpack_from(payload, at + number * INDEX_PACK.size) for number in range(packs)]
        at += packs * INDEX_PACK.size
        known = all(kind in FOLDERS for _, kind, _, _ in heads)
        rest = len(payload) - at - ENTRY.size * sum(count for _, _, count, _ in heads)
        if not known or rest not in (0, 16):  # the last 16 bytes name the run
            raise Damage(f"{name}: its counts do not match its length")
        for pack, kind, count, _ in heads:
            text = pack.hex()
            end = at + count * ENTRY.size
            self._take_entries(f"{FOLDERS[kind]}/{text[:2]}/{text}", kind, payload[at:end])
            at = end
        return [f"index/{name}" for name in names]

    def _take_entries(self, path, kind, entries, form=ENTRY):
        if len(entries) % form.size:
            raise Damage(f"{path}: its footer has an invalid length")
        for identity, offset, frame, _ in form.iter_unpack(entries):
            self.index.setdefault((kind, identity), []).append((path, offset, frame))
        self.indexed.add(path)

    def _load_footers(self):
        """Read the footers of packs that are in no index, which replaces a lost index."""
        self.footers_read = True
        for kind, folder in FOLDERS.items():
            for path in sorted((self.folder / folder).glob("*/*")):
                name = f"{folder}/{path.parent.name}/{path.name}"
                if name not in self.indexed and re.fullmatch("[0-9a-f]{32}", path.name):
                    try:
                        form, entries = self._footer(name, kind)
                        self._take_entries(name, kind, entries, form)
                    except (Damage, OSError, struct.error) as error:
                        self.problems.append(f"{name}: its footer cannot be read: {error}")

    def _footer(self, name, kind):
        """The form of the entries in the footer of a pack, and the entries."""
        pack, size = self._open(name)
        with pack:
            end = size - TRAILER.size
            if end < 0 or size > MAX_PACK_BYTES:
                raise Damage(f"a pack cannot have {size} bytes")
            length, magic = TRAILER.unpack(self._piece(pack, name, end, TRAILER.size))
            if magic != b"HVPF" or length > min(end, HEADER.size + MAX_PAYLOAD_BYTES[kind] + 32):
                raise Damage("no trailer")
            magic, version, _ = PACK_HEAD.unpack(self._piece(pack, name, 0, PACK_HEAD.size))
            if magic != b"HVPK" or version not in FORMATS:
                raise Damage("no head")
            entries = self.open_envelope(self._piece(pack, name, end - length, length), name, kind)
            return (ENTRY if version == 1 else CHECKED_ENTRY), entries

    def fetch(self, identity, kind):
        """Raw bytes of a chunk or node, from the first copy that is good."""
        error = Damage(f"no pack contains {identity.hex()[:16]}")
        tried = 0
        while True:
            places = self.index.get((kind, identity), [])
            for path, offset, length in places[tried:]:
                try:
                    return self._fetch_from(path, offset, length, identity, kind)
                except Damage as problem:
                    error = problem
            if self.footers_read:
                raise error
            tried = len(places)
            self._load_footers()

    def _fetch_from(self, path, offset, length, identity, kind):
        where = f"{path} at {offset}"
        limit = self.chunk_bytes if kind == DATA else NODE_BYTES
        if not FRAME.size <= length <= FRAME.size + limit + 16:
            raise Damage(f"{where}: a frame cannot have {length} bytes")
        pack, _ = self._open(path)
        with pack:
            data = self._piece(pack, path, offset, length)
        if len(data) != length:
            raise Damage(f"{where} is truncated")
        found, found_kind, codec, seal, epoch, raw, stored, nonce = FRAME.unpack_from(data)
        body = data[FRAME.size :]
        if found != identity or found_kind != kind or raw > limit or stored != len(body):
            raise Damage(f"{where}: another chunk is stored there")
        if seal != (0 if self.master is None else 1):
            raise Damage(f"{where}: an invalid header")
        if self.master is not None:
            associated = ASSOCIATED.pack(kind, identity, codec, epoch, raw)
            body = open_gcm(self._key(kind, epoch), nonce, body, associated)
            if body is None:
                raise Damage(f"{where}: its authentication tag does not match")
        content = expand(codec, body, raw)
        if self.identify(hashlib.sha256(content).digest()) != identity:
            raise Damage(f"{where}: its digest does not match")
        return content

    # -- points and trees -----------------------------------------------------------------------------

    def points(self):
        """Manifests of points, sorted by VM, then oldest first."""
        found = []
        pruned, fences, protected = self._pruned(), self._fences(), self._protected()
        for name in self.names("points"):
            try:
                payload = self.open_object(name, MANIFEST)
                manifest = parse_json(payload, name)
                if not is_manifest(manifest):
                    raise Damage(f"{name}: a field has an invalid value")
                if uuid.UUID(manifest["point_id"]).hex != name.split("/")[1]:
                    raise Damage(f"{name} is the manifest of another point")
                point = manifest["point_id"]
                named = fences.get(manifest.get("writer"))
                if named is not None and point not in named:
                    continue  # of a run that counted as dead before
                if point in pruned and (point, hashlib.sha256(payload).hexdigest()) not in protected:
                    continue
                found.append(manifest)
            except Damage as error:
                self.problems.append(str(error))
        return sorted(found, key=lambda point: (point["vm_id"], point.get("sequence", 0)))

    def _records(self, prefix, kind, digits=32):
        """Names and contents of the records under a prefix; those that cannot be read are problems."""
        for name in self.names(prefix, digits):
            try:
                record = parse_json(self.open_object(name, kind), name)
                if not isinstance(record, dict):
                    raise Damage(f"{name}: a field has an invalid value")
                yield name, record
            except Damage as error:
                self.problems.append(str(error))

    def _series(self, prefix, kind):
        """As _records, of all series under a prefix, in the order of their counters."""
        if self.settings["format"] > 1:
            for path in sorted((self.folder / prefix).glob("*")):
                if re.fullmatch("[0-9a-f]{32}", path.name):
                    yield from self._records(f"{prefix}/{path.name}", kind, 16)

    def _pruned(self):
        """Ids of the points that were pruned. In format 1 their manifests are gone."""
        if self.settings["format"] == 1:
            return set()
        found = [record for _, record in self._records("tombstones", TOMBSTONE)]
        for _, record in self._records("pruned", TOMBSTONES):
            found += record.get("tombstones", ())
        return {record.get("point_id") for record in found if isinstance(record, dict)}

    def _fences(self):
        """Ids of the points of each run that counts as dead; any other manifest of such a run is no point."""
        found = {}
        for _, record in self._series("fences", FENCE):
            if isinstance(record.get("points"), list) and isinstance(record.get("run"), str):
                found.setdefault(record["run"], set(map(str, record["points"])))
        return found

    def _protected(self):
        """Id and digest of the points that are protected, so that no prune removes them."""
        found = {}
        for name, record in self._series("tags", TAG):
            if record.get("protect") is not None:
                point = str(uuid.UUID(name.split("/")[1]))
                found[point, record.get("manifest_digest")] = record["protect"] is True
        return {key for key, protect in found.items() if protect}

    def chunks(self, tree):
        """Offset and verified content of each chunk of a tree that is not zero, ascending."""
        size, root = tree["size_bytes"], bytes.fromhex(tree["root"])
        count = -(-size // self.chunk_bytes)
        level = 1
        while FAN_OUT**level < count:
            level += 1
        for number, identity in self._walk(root, level, 0):
            if number >= count:
                raise Damage("a tree has chunks beyond the end of its disk")
            start = number * self.chunk_bytes
            content = self.fetch(identity, DATA)
            if len(content) != min(self.chunk_bytes, size - start):
                raise Damage(f"chunk {number} has an unexpected size")
            yield start, content

    def _walk(self, identity, level, number):
        if identity == ZERO_ID:
            return
        node = self.fetch(identity, NODE)
        if len(node) != NODE_BYTES:
            raise Damage("a node has an unexpected size")
        for place in range(FAN_OUT):
            below = node[place * 32 : place * 32 + 32]
            if below == ZERO_ID:
                continue
            if level == 1:
                yield number * FAN_OUT + place, below
            else:
                yield from self._walk(below, level - 1, number * FAN_OUT + place)

    def write_tree(self, tree, target, image=None):
        """Write the content of a tree to a new file, as it is or into an image; zeros become holes."""
        out = new_file(target)
        digest = hashlib.sha256() if tree.get("sha256") else None
        done = False
        try:
            with out:
                position = 0
                for start, content in self.chunks(tree["tree"] if digest else tree):
                    out.seek(start if image is None else image.place(start))
                    out.write(content)
                    if digest:
                        digest.update(bytes(start - position))
                        digest.update(content)
                    position = start + len(content)
                size = tree["size_bytes"]
                if digest:
                    digest.update(bytes(size - position))
                    if digest.hexdigest() != tree["sha256"]:
                        raise Damage(f"{target.name}: the digest of the file does not match")
                if image is None:
                    out.truncate(size)
                else:
                    image.finish(out)
                out.flush()
                os.fsync(out.fileno())
            done = True
        finally:
            if not done:
                target.unlink()


class Vhdx:
    """A dynamic VHDX (MS-VHDX) whose blocks are in the file in the order in which they are written.

    0 identifier, 64 KiB and 128 KiB headers, 192 KiB and 256 KiB region tables, 1 MiB log (empty),
    2 MiB metadata, 3 MiB block allocation table, then blocks of 32 MiB.
    """

    BLOCK = 32 * MIB
    BAT = 3 * MIB

    def __init__(self, size, sector):
        if not size or size % sector or sector not in (512, 4096):
            raise Failure(f"a VHDX cannot have {size} bytes in sectors of {sector}; restore it as raw")
        self.size, self.sector = size, sector
        blocks = -(-size // self.BLOCK)
        # After so many blocks comes an entry for a sector bitmap, which this kind of file does not have.
        self.ratio = (1 << 23) * sector // self.BLOCK
        self.entries = [0] * (blocks + (blocks - 1) // self.ratio)
        self.bat_bytes = -(-8 * len(self.entries) // MIB) * MIB
        self.end = self.BAT + self.bat_bytes

    def place(self, start):
        """Where byte ``start`` of the disk is in the file."""
        block = start // self.BLOCK
        index = block + block // self.ratio
        if not self.entries[index]:
            self.entries[index] = self.end | 6
            self.end += self.BLOCK
        return (self.entries[index] & ~(MIB - 1)) + start % self.BLOCK

    def finish(self, out):
        """Write all but the blocks."""
        guid, disk = uuid.uuid4().bytes_le, uuid.uuid4().bytes_le
        items = (
            ("caa16737-fa36-4d43-b3b6-33f0aa44e76b", 4, struct.pack("<II", self.BLOCK, 0)),
            ("2fa54224-cd1b-4876-b211-5dbed83bf4b8", 6, struct.pack("<Q", self.size)),
            ("beca12ab-b2e6-4523-93ef-c309e000c746", 6, disk),
            ("8141bf1d-a96f-4709-ba47-f233a8faab5f", 6, struct.pack("<I", self.sector)),
            ("cda348c7-445d-4471-9cc9-e9885251c556", 6, struct.pack("<I", 4096)),
        )
        table, content = struct.pack("<8sHH20x", b"metadata", 0, len(items)), b""
        for name, flags, item in items:
            entry = uuid.UUID(name).bytes_le, 64 * 1024 + len(content), len(item), flags, 0
            table += struct.pack("<16sIIII", *entry)
            content += item
        regions = struct.pack("<4sIII", b"regi", 0, 2, 0)
        for name, offset, length in (
            ("2dc27766-f623-4200-9d64-115e9bfd4a08", self.BAT, self.bat_bytes),
            ("8b7ca206-4790-4b9a-b8fe-575f050f886e", 2 * MIB, MIB),
        ):
            regions += struct.pack("<16sQII", uuid.UUID(name).bytes_le, offset, length, 1)
        regions = with_crc(regions.ljust(64 * 1024, b"\0"))
        pieces = [(0, b"vhdxfile"), (192 * 1024, regions), (256 * 1024, regions)]
        for offset, number in ((64 * 1024, 1), (128 * 1024, 2)):
            head = b"head", 0, number, guid, guid, bytes(16), 0, 1, MIB, MIB
            pieces.append((offset, with_crc(struct.pack("<4sIQ16s16s16sHHIQ", *head).ljust(4096, b"\0"))))
        pieces.append((2 * MIB, table.ljust(64 * 1024, b"\0") + content))
        pieces.append((self.BAT, struct.pack(f"<{len(self.entries)}Q", *self.entries)))
        for offset, content in pieces:
            out.seek(offset)
            out.write(content)
        out.truncate(self.end)


def with_crc(data):
    """The same bytes with their CRC-32C at offset 4, which is zero before."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return data[:4] + struct.pack("<I", crc ^ 0xFFFFFFFF) + data[8:]


def new_file(path):
    """A new file that only this account may read, open for writing."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise Failure(f"{path} already exists; if a restore was killed, remove it") from None


def is_manifest(value):
    """Whether a manifest has what is read of it."""
    try:
        return (
            is_uuid(value["point_id"])
            and is_uuid(value["vm_id"])
            and is_number(value.get("sequence", 0), 0, 1 << 63)
            and all(isinstance(value[name], str) for name in ("created", "vm_name", "host"))
            and isinstance(value.get("definition", ""), str)
            and isinstance(value["disks"], list)
            and isinstance(value.get("files", []), list)
            and all(isinstance(disk["slot"], str) and is_sized_tree(disk) for disk in value["disks"])
            and all(
                isinstance(file["name"], str) and is_bytes(file["sha256"], 32) and is_sized_tree(file)
                for file in value.get("files", [])
            )
        )
    except (KeyError, TypeError, AttributeError):
        return False


def is_sized_tree(value):
    """Whether a disk or a file has a size and a tree of that size."""
    tree = value["tree"]
    return (
        is_number(value["size_bytes"], 0, MAX_DISK_BYTES)
        and tree["size_bytes"] == value["size_bytes"]
        and is_bytes(tree["root"], 32)
    )


# -- commands ------------------------------------------------------------------------------------------------


def command_list(repository, _):
    """Print all points with their disks."""
    for point in repository.points():
        identity = point["point_id"].replace("-", "")[:8]
        print(
            "{}  {}  {} on {}".format(
                identity, shown(point["created"][:19]) + "Z", shown(point["vm_name"]), shown(point["host"])
            )
        )
        for disk in point["disks"]:
            print(f"          disk {shown(disk['slot']):12} {disk['size_bytes']} bytes{sectors(disk)}")
        for file in point.get("files", ()):
            print(f"          file {shown(file['name'])}, {file['size_bytes']} bytes")


def sectors(disk):
    """What to add about a disk whose sectors are not of 512 bytes; programs that read it must be told."""
    size = disk.get("sector_bytes", 512)
    return "" if size == 512 else f", sectors of {shown(str(size))} bytes (losetup --sector-size)"


def find_point(repository, text):
    """The point whose id starts with ``text``."""
    start = text.lower().removeprefix("id:").replace("-", "")
    ids = {point["point_id"].replace("-", ""): point for point in repository.points()}
    found = [identity for identity in ids if identity.startswith(start)]
    if len(found) != 1 or not start:
        which = "".join(f" {identity[:12]}" for identity in found[:10]) if start else ""
        raise Failure(f"{len(found)} points have an id that starts with {text!r}; specify exactly one{which}")
    return ids[found[0]]


def file_name(text, taken):
    """A file name for any text: not a path, and not one of ``taken``, to which it is added."""
    name = re.sub(r"[^\w.{} -]", "_", unicodedata.normalize("NFC", text)).strip(". ") or "unnamed"
    if name.startswith("-") or re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)", name):
        name = f"_{name}"
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        cut = name.encode(errors="replace")[:MAX_NAME_BYTES].decode(errors="ignore")
        name = f"{cut}~{hashlib.sha256(text.encode(errors='replace')).hexdigest()[:8]}"
    free, number = name, 2
    while free.casefold() in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free.casefold())
    return free


def command_restore(repository, options):
    """Write one disk of a point to a file, raw or as a VHDX."""
    point = find_point(repository, options.point)
    disks = [disk for disk in point["disks"] if options.disk in (None, disk["slot"])]
    if len(disks) != 1:
        slots = ", ".join(shown(disk["slot"]) for disk in point["disks"])
        raise Failure(f"choose one disk with --disk: {slots}")
    image = None
    if options.format == "vhdx":
        image = Vhdx(disks[0]["size_bytes"], disks[0].get("sector_bytes", 512))
    repository.write_tree(disks[0]["tree"], options.to, image)
    told = sectors(disks[0]) if image is None else ""
    print(f"{options.to}: {disks[0]['size_bytes']} bytes, all verified{told}")


def command_files(repository, options):
    """Write the configuration files and the definition of a point to a folder."""
    point = find_point(repository, options.point)
    options.to.mkdir(parents=True, exist_ok=True)
    taken = {"definition.json"}
    for file in point.get("files", ()):
        # A name from the repository becomes a file name in this folder, never a path.
        name = file_name(file["name"], taken)
        repository.write_tree(file, options.to / name)
        print(f"{options.to / name}" + ("" if name == file["name"] else f" (was {file['name']!r})"))
    if point.get("definition"):
        with new_file(options.to / "definition.json") as out:
            out.write(point["definition"].encode(errors="replace"))
        print(options.to / "definition.json")
        for section in missing_sections(point["definition"]):
            print(f"  lacks {section!r}: the host could not read it")


def missing_sections(definition):
    """Names of the sections that a definition lacks."""
    try:
        problems = json.loads(definition).get("problems", ())
        return sorted({str(problem["section"])[:200] for problem in problems})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def main(arguments=None):
    """Run a command; the exit code is 7 for damage and 5 for other errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--key-file", type=Path, help="file with the exported key or a passphrase")
    parser.add_argument("repository", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list points").set_defaults(run=command_list)
    restore = commands.add_parser("restore", help="write a disk to a file")
    restore.add_argument("point")
    restore.add_argument("--disk", help="its slot, as listed")
    restore.add_argument("--format", choices=("raw", "vhdx"), default="raw", help="of the file")
    restore.add_argument("--to", type=Path, required=True)
    restore.set_defaults(run=command_restore)
    files = commands.add_parser("files", help="write configuration files to a folder")
    files.add_argument("point")
    files.add_argument("--to", type=Path, required=True)
    files.set_defaults(run=command_files)
    options = parser.parse_args(arguments)
    try:
        key = options.key_file.read_text(encoding="utf-8").rstrip("\r\n") if options.key_file else None
        repository = Repository(options.repository, key)
        options.run(repository, options)
        for problem in repository.problems:
            print(f"damaged: {shown(problem)}", file=sys.stderr)
        return 7 if repository.problems else 0
    except Damage as error:
        print(f"restore.py: damaged: {error}", file=sys.stderr)
        return 7
    except (Failure, OSError) as error:
        print(f"restore.py: {error}", file=sys.stderr)
        return 5


if __name__ == "__main__":
    sys.exit(main())
