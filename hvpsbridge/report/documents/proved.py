"""The document of ``hvps host prove``, which is also its file of facts."""

from __future__ import annotations

from dataclasses import dataclass, field

from hvpsbridge.report.documents.document import Document
from hvpsbridge.report.values import INLINE
from hvpsbridge.tasks.prove.prover import ProveResult


@dataclass(frozen=True, slots=True)
class HostProved(Document):
    """What the conformance kit found out about a host.

    Attributes:
        exit_code: exit code of the command.
    """

    result: ProveResult = field(metadata=INLINE)
    exit_code: int
