"""Blocks in, chunks out: the sans-io stream, the window planner, the pump and the assembly of chunks.

Knows nothing of hosts or repositories: a pump is handed a way to open block sources and a sink.
"""
