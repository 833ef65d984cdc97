"""A real NFS server inside a guest, and a mount of it."""

from testbed.devices.disk import MiB
from testbed.devices.nfs import make_client
from testbed.host import Host

_MOUNT = 'mkdir -p /run/there && mount.nfs "127.0.0.1:$0" /run/there -o "soft,timeo=5,vers=$1"'


def test_an_export_is_mounted_written_restarted_and_withdrawn() -> None:
    """With both versions: what one client writes is in the directory and at the other one."""
    with Host() as host:
        export = host.add_export(64 * MiB)

        def sh(script: str, *arguments: str) -> str:
            done = host.kernel.run(["sh", "-c", script, *arguments])
            assert done.returncode == 0, done.stderr
            return done.stdout

        for version in ("3", "4.2"):
            sh(_MOUNT, export.path, version)
            assert f"vers={version}," in sh("tail -1 /proc/mounts")
            sh("echo written > /run/there/file && sync /run/there/file")
            host.nfs.restart()
            assert sh('cat /run/there/file "$0/file"', export.directory) == "written\n" * 2
            sh("rm /run/there/file && umount /run/there")
        host.export(export.directory, read_only=True)
        host.power_cut()
        host.restart()
        make_client(host.kernel)
        sh(_MOUNT, export.path, "3")
        assert "Read-only" in host.kernel.run(["touch", "/run/there/file"]).stderr
        sh("umount /run/there")
        host.remove_export(export)
        assert host.kernel.run(["sh", "-c", _MOUNT, export.path, "3"]).returncode != 0
