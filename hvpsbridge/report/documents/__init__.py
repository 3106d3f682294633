"""JSON documents that commands print, one dataclass each.

Keys are stable: fields are added, never renamed, and a change of meaning raises :data:`VERSION`. Sizes are
bytes and end in ``_bytes``, durations are seconds, times are ISO 8601 in UTC, ids are text. ``hvps schema
report`` prints the JSON Schemas. Documents of ``hvps sim`` and ``hvps demo`` are in ``cli``, since this
package may not import the simulator.
"""

from hvpsbridge.report.documents.document import (
    VERSION,
    Document,
    document_parts,
    document_schema,
    document_text,
)

__all__ = ["VERSION", "Document", "document_parts", "document_schema", "document_text"]
