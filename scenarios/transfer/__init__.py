"""Disks over HTTP: what is exported is what was written, and imports into another disk."""
