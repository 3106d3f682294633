"""JSON documents that commands print, one dataclass each.

Names are stable: a field is added, never renamed; a change of meaning raises :data:`VERSION`. Sizes are
bytes and end in ``_bytes``, durations are seconds, times are ISO 8601 UTC, ids are text. ``hvps schema
report`` prints their JSON Schemas. Documents of ``hvps sim`` and ``hvps demo`` are in ``cli``, the only
package that may know the simulator.
"""

from hvpsbridge.report.documents.document import VERSION, Document, document_schema, document_text

__all__ = ["VERSION", "Document", "document_schema", "document_text"]
