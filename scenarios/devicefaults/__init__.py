"""Devices below an SR that fail, lie, hang and fill up."""
