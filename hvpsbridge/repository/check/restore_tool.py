"""Holds the restore.py in a repository against those that hvps shipped.

It is the program that is run after a disaster, and it is given the key.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from hvpsbridge.errors import Damaged, ObjectExists, ObjectMissing
from hvpsbridge.repository.check.findings import VerifyProblem
from hvpsbridge.repository.objects import Objects
from hvpsbridge.resources import resource_folder

RESTORE_NAME = "restore.py"
# It has 25 KB.
MAX_BYTES = 1 << 20
# SHA-256 of earlier versions. A repository keeps the one of the hvps that created it, so add the
# digest of the version before when you change restore.py.
EARLIER = frozenset(
    {
        "7d15276fda40720bafabd686bc7ea557b1593e9d1966a1eb2ec0df2fdd526bf0",
        "c07043efefc556925a7c5157ed9038d005159664db526c145a46dade67d19a82",
        "0e1fae9087d24d02f2859b569fa378729a9bf83067579038ec3268863f783865",
        "9869f3802ca994af79a88ea33aba2eaf7a5589e24505a97522db48e9103e96f5",
        "e3df0cd9369e759e04f621d1495dd0be54efea8ba180a4d835093de4a7783e97",
        "eb64950ab188b2bbcd2ace1c8231601011730877f13a726be26886fa6a704e4e",
        "751c4c73cc1c08724164c444ab067ffc375019e220545208dbd62955afb4cfef",
        "80c04f9ea34f9e794de5569a05b239c4afb5db8a44068e4ebb7dd2bdebec68c3",
        "663f2f8ec2e6d8be3225475b3ecd614d4a2dcd78ad5ad54889c0d90f2c28b4c0",
        "a69613b5ef9545d6b4624def56db046698780cd0934e22d41c37e82178812a0a",
        "463b19bea421f2225da575f42c98f7f11f516bc2aecf66e85149ec75a840b276",
        "70558283c4ad94fb7ccfa177f664fdf2ce0a7779e7b85ea74fea735ec4027c54",
        "a7d6e15a477c9fe58b89db1ca5cd212d4294d17cc623a42d9c15c5bbfadb2f1f",
        "a5ec5246a4aa32ab0e09d37ebd04cacc45d1b68a5f596cceb859cc246473c4ee",
        "93ac36910482836ade855167fa06e97aa5e0f974d006cf862a8e7377d2906d5f",
    }
)


def shipped() -> bytes:
    """The restore.py of this hvps."""
    return (resource_folder("restore_tool") / RESTORE_NAME).read_bytes()


def replace_restore_tool(objects: Objects) -> None:
    """Put the restore.py of this hvps into the repository, unless it is there.

    Raises:
        StoreError: the store refuses; the one that is there stays.
    """
    with contextlib.suppress(ObjectMissing, Damaged):
        if objects.store.get(RESTORE_NAME, MAX_BYTES) == shipped():
            return
    objects.store.delete(RESTORE_NAME)
    with contextlib.suppress(ObjectExists):  # another hvps was faster
        objects.store.put(RESTORE_NAME, shipped())
    objects.store.commit_barrier()


def in_repository(objects: Objects) -> bytes:
    """The restore.py in the repository if it is one that hvps shipped, else that of this hvps."""
    own = shipped()
    return own if _fault(objects, own) is not None else objects.store.get(RESTORE_NAME)


def restore_tool_problems(objects: Objects) -> Iterator[VerifyProblem]:
    """What is wrong with the restore.py in the repository."""
    fault = _fault(objects, shipped())
    if fault is not None:
        yield VerifyProblem(RESTORE_NAME, f"{fault}; `hvps repo repair` puts it back")


def _fault(objects: Objects, own: bytes) -> str | None:
    try:
        there = objects.store.get(RESTORE_NAME, MAX_BYTES)
    except ObjectMissing:
        return "it is missing"
    except Damaged as err:
        return err.what
    digest = hashlib.sha256(there).hexdigest()
    if there == own or digest in EARLIER:
        return None
    return f"this hvps does not know it (SHA-256 {digest}): do not run it, and give it no key"
