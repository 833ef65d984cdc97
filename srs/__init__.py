"""The storage manager: SMAPIv1 drivers (file, ext, lvhd) and everything they stand on.

A call comes in as one XML-RPC document (`srs.command`), is carried out by a driver
(`srs.file`, `srs.ext`, `srs.lvhd`) on VHD images (`srs.vhd`) in a directory or in LVM volumes
(`srs.lvm`), and goes out as one XML-RPC document. On the way the driver talks back to the
toolstack over its unix socket (`srs.session`).

Only the standard library is imported here, and none of the other rooms.
"""
