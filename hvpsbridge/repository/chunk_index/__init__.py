"""The client's index of a repository's chunks: where each is, made only from published index objects.

Rows of packs are appended to a few files in the order of packs, so that a pack's entries are read at once.
Beside them are *runs*: immutable files sorted by id that lead to these rows, each with a filter in front,
merged as they grow. A small manifest names what counts of all files; it is replaced at once, under a lock
that all processes of the user share.
"""
