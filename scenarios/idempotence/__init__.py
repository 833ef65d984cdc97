"""Doing it twice is doing it once."""
