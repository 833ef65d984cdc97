"""Damaged disks by the million: what the VHD engine does with any bytes at all.

`ci/fuzz 600` runs atheris for ten minutes. A bad image must give a :class:`srs.vhd.VHDError`
within a second and 64 MiB: never a hang, another exception, or a file written past its end.
"""
