"""Clients that people have, on real disks: what they say happened is on the block devices."""
