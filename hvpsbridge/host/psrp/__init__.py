"""Shells and pipelines over pypsrp. Objects of pypsrp do not leave this package."""
