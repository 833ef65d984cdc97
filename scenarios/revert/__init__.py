"""A revert in place: content, size, identity."""
