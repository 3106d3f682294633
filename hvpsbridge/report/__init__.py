"""Reports: JSON documents, and views of them for people.

``documents`` holds the typed, versioned documents. The tables and lines in ``views`` are made from the
document of a run, so they cannot say anything that the document does not.
"""
