"""Proves on a scratch VM that hvps and a Hyper-V host fit, and records how the host behaves."""
