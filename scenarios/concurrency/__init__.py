"""Calls that meet on one disk: each does its work or is refused, as if one came after the other."""
