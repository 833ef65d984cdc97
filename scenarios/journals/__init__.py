"""Calls that end in the middle, and what recovery makes of it."""
