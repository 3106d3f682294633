"""Reads blocks from a host and turns them into chunks.

Independent of hosts and repositories: a pump gets a function that opens block sources, and a sink.
"""
