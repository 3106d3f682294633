"""The document of ``hvps repo stats``."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hvpsbridge.report.documents.document import Document
from hvpsbridge.repository.stats import RepositoryStats


@dataclass(frozen=True, slots=True)
class RepositoryStatsShown(Document):
    """What takes space in a repository, and how fast it grows."""

    repository_id: UUID
    url: str
    stats: RepositoryStats
