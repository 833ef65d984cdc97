"""Where things live on a host: the places that storage managers of XenServer share.

`SRS_ROOT` in the environment puts them all below another directory, so that a driver can be
run as an ordinary user on a plain directory tree.
"""

import os

_ROOT = os.environ.get("SRS_ROOT", "").rstrip("/")

#: One directory per namespace (an SR's uuid, a VDI's uuid), one file per lock.
LOCKS = f"{_ROOT}/var/lock/sm"
#: `lvm-<SR uuid>/<VDI uuid>`: how many users an active volume has.
REFCOUNTS = f"{_ROOT}/run/sm/refcount"
#: The mount point of an SR is `<SR_MOUNT>/<SR uuid>`.
SR_MOUNT = f"{_ROOT}/run/sr-mount"
#: `<SR uuid>/<VDI uuid>`: a link to the file or volume behind an active VDI.
PHY_LINKS = f"{_ROOT}/dev/sm/phy"
#: `<SR uuid>/<VDI uuid>`: the NBD socket of an active VDI.
NBD_SOCKETS = f"{_ROOT}/run/blktap-control/nbd"
#: `<SR uuid>/<VDI uuid>`: the control socket of the process behind the NBD socket.
CONTROL_SOCKETS = f"{_ROOT}/run/blktap-control/ctl"
#: Sockets of data paths that wait for a disk. Whoever makes this directory lets them wait.
SPARE_SERVERS = f"{_ROOT}/run/blktap-control/spare"
#: `<SR uuid>/<flag>`: words between processes that work on one SR.
SM_IPC = f"{_ROOT}/run/sm/ipc"
#: Seconds that a collector waits before it begins, or `never`; see srs.gc.control.
GC_PAUSE = f"{_ROOT}/run/sm/gc-pause"
#: `<SR uuid>.speed_log`: how fast base copies of an SR were coalesced.
RUN = f"{_ROOT}/run"
#: `<target IQN>`: the SRs that use a session with an iSCSI target, see srs.sessionrefs.
SESSION_REFS = f"{_ROOT}/run/sr-ref"
#: `<SR uuid>/<VDI uuid>`: a call on this host keeps the VDI paused.
PAUSES = f"{_ROOT}/run/sm/paused"
#: The toolstack listens here; local root needs no password.
XAPI_SOCKET = f"{_ROOT}/var/lib/xcp/xapi"
#: `<FIST><name>`: the file that switches a FIST point on, see srs.fist.
FIST = f"{_ROOT}/tmp/fist_"
