"""What a fresh kernel needs before drivers can run: mounts, modules, LVM's configuration.

A guest's root is the host's own file system, read only. Everything that drivers write to is
laid over it in memory, so that a host is born clean and leaves nothing behind.
"""

import os
from typing import Any

from testbed.guest import linux

#: Where the untouched root of the machine stays visible after /tmp is hidden.
HOST_ROOT = "/run/host"

_LVM_CONF = """\
# Written for this host alone: no udev, no daemons, loop and SCSI devices only.
devices {
    dir = "/dev"
    scan = [ "/dev" ]
    obtain_device_list_from_udev = 0
    external_device_info_source = "none"
    use_devicesfile = 0
    filter = [ FILTER, "r|.*|" ]
    sysfs_scan = 1
    md_component_detection = 0
    multipath_component_detection = 0
    scan_lvs = 0
    issue_discards = 0
}
activation {
    udev_sync = 0
    udev_rules = 0
    monitoring = 0
    reserved_memory = 0
    reserved_stack = 0
    process_priority = 0
    mlock_filter = [ "0" ]
    verify_udev_operations = 0
    checks = 0
}
backup {
    backup = 0
    archive = 0
}
global {
    event_activation = 0
    use_lvmpolld = 0
    use_lvmlockd = 0
    locking_dir = "/run/lock/lvm"
    wait_for_locks = 1
    notify_dbus = 0
    use_aio = 1
}
"""

#: Programs that the drivers start, and libraries, look here.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/run",
    "LVM_SUPPRESS_FD_WARNINGS": "1",
    "DM_DISABLE_UDEV": "1",
}


def mount_all(*, own_kernel: bool) -> None:
    """Lay the writable directories over the read-only root.

    Args:
        own_kernel: True in a kernel of our own; False on this machine's kernel, where proc,
            sys and dev are there already and must stay as they are.
    """
    if own_kernel:
        linux.mount("proc", "/proc", "proc")
        linux.mount("sysfs", "/sys", "sysfs")
        os.makedirs("/dev/shm", exist_ok=True)
        os.makedirs("/dev/pts", exist_ok=True)
        linux.mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=50%")
        linux.mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666")
    # Before /run and /tmp are hidden: code that is imported later may live below them. A
    # machine's own root has other file systems mounted on it, and disks lie on one of them.
    linux.mount("/", "/mnt", None, linux.MS_BIND | (0 if own_kernel else linux.MS_REC))
    linux.mount("tmpfs", "/run", "tmpfs", 0, "size=50%,mode=755")
    os.mkdir(HOST_ROOT)
    linux.mount("/mnt", HOST_ROOT, None, linux.MS_MOVE)
    for directory in ("/tmp", "/var/lib", "/mnt"):
        linux.mount("tmpfs", directory, "tmpfs", 0, "size=50%,mode=1777")
    for directory in (
        "/run/lock/lvm",
        "/run/lvm",
        "/run/lock/sm",
        "/run/sr-mount",
        "/run/blktap-control/spare",
        "/var/lib/xcp",
        "/mnt/disks",
    ):
        os.makedirs(directory, exist_ok=True)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)


def configure_lvm(devices: str) -> None:
    """Give LVM a configuration of this host's own, in place of the machine's.

    Args:
        devices: regular expression for the devices that LVM may look at.
    """
    text = _LVM_CONF.replace("FILTER", f'"a|{devices}|"')
    os.makedirs("/run/lvm-conf/master", exist_ok=True)
    for directory in ("/run/lvm-conf", "/run/lvm-conf/master"):
        with open(f"{directory}/lvm.conf", "w", encoding="ascii") as file:
            file.write(text)
    linux.mount("/run/lvm-conf", "/etc/lvm", None, linux.MS_BIND)


def prepare(config: dict[str, Any]) -> None:
    """Everything, in order. `config` comes from the host (see testbed/kernel/guestconfig.py)."""
    own_kernel = bool(config["own_kernel"])
    if not own_kernel:
        linux.new_mount_namespace()
    mount_all(own_kernel=own_kernel)
    if own_kernel:
        # Without this every failing request for a module would exec modprobe: 400 ms each.
        with open("/proc/sys/kernel/modprobe", "w", encoding="ascii") as file:
            file.write("\n")
        linux.bring_up_loopback()
        for name, address, netmask in config["nics"]:
            linux.bring_up(name, address, netmask)
        with open("/proc/sys/kernel/hostname", "w", encoding="ascii") as file:
            file.write(config["hostname"])
    for path, parameters in config["modules"]:
        linux.load_module(path, parameters)
    configure_lvm(config["lvm_devices"])
