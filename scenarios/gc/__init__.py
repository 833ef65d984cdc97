"""Garbage collection: what no disk needs goes, chains become short, no byte changes."""
