"""Where objects are kept: the store contract and its implementations."""
