"""Tests of the stand-ins against what Microsoft documents."""
