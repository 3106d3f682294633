"""Verifying a repository and repairing its index."""
