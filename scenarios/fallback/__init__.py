"""Drivers that cannot revert: VDI.clone takes over."""
