"""A guard per kernel: starts it, and makes sure that nothing of it outlives its owner.

    python -I -S guard.py SOCKET LOCK [DIRECTORY...] -- PROGRAM ARGUMENT...

Run as a script. SOCKET is an inherited descriptor; the owner holds the other end, and its
closing, for whatever reason, is the order to kill. The guard says two lines on it: the
kernel's process id once it runs, and its exit status (negative: a signal) once everything is
gone. LOCK is the descriptor of the state directory's lock: the guard shares it to its end, so
that nobody takes the directory over while a kernel still writes to the disks in it.

Why a process of its own: a User-Mode Linux guest has children that it traces without
EXITKILL, so when only its main process dies they run on, natively, on this machine; and a
parent-death signal was seen to leave some behind. The guard is no part of the kernel's
process group, gets every orphan of it (PR_SET_CHILD_SUBREAPER), and reports the end only
after it buried them all.

With directories given, a Landlock ruleset lets the kernel write below them and nowhere else,
not even as root: guest root could otherwise remount its root file system read-write and
change this machine's files. What Landlock does not know (owners, modes, times, attributes, and
truncation before Linux 6.2) a seccomp filter refuses. Numbers: `linux/landlock.h`,
`linux/prctl.h`, `linux/filter.h`, and the x86-64 system call table.
"""

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import struct
import sys

_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH, _VERSION = 1, 1

_WRITE_FILE, _REMOVE, _MAKE = 1 << 1, 0b11 << 4, 0b1111111 << 6
_REFER, _TRUNCATE = 1 << 13, 1 << 14

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X86_64, _X32 = 0xC000003E, 0x40000000

#: truncate; chmod, fchmodat, fchmodat2; chown, fchown, lchown, fchownat; utime, utimes,
#: futimesat, utimensat; setxattr and removexattr in all their forms.
_REFUSED = (
    *(76, 90, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280),
    *(188, 189, 190, 197, 198, 199, 463, 466),
)
#: fchmod: the kernel calls it once, for its memory file, and gives up when that fails.
_PRETENDED = (91,)

#: Devices that the kernel itself opens for writing.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/ptmx", "/dev/pts", "/dev/tty")

_ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h

_libc = ctypes.CDLL(None, use_errno=True)


def _system_call(what: str, number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        sys.exit(f"guard: {what}: {os.strerror(code)}")
    return result


def confine_writes(directories: list[str]) -> None:
    """Allow writes below `directories` only. Exits where the kernel has no Landlock."""
    version = int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION))
    if version < 1:
        if os.environ.get("SR_TESTBED_UNCONFINED") == "1":
            return
        sys.exit(
            "guard: this machine's kernel has no Landlock (Linux 5.13 or later has), so a guest"
            " could write this user's files; set SR_TESTBED_UNCONFINED=1 to accept that"
        )
    rights = _WRITE_FILE | _REMOVE | _MAKE
    rights |= _REFER if version >= 2 else 0
    rights |= _TRUNCATE if version >= 3 else 0
    ruleset = _system_call("ruleset", _CREATE_RULESET, struct.pack("<Q", rights), 8, 0)
    for path in [*directories, *filter(os.path.exists, _DEVICES)]:
        allowed = rights if os.path.isdir(path) else rights & (_WRITE_FILE | _TRUNCATE)
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("<Qi", allowed, beneath)
        _system_call(path, _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        os.close(beneath)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _system_call("restrict", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    _refuse_calls()


def _refuse_calls() -> None:
    """Install the seccomp filter. What a guest's programs call never gets here: it is emulated."""
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    program = [
        (_LOAD, 0, 0, 4),  # the architecture of the call
        (_EQUAL, 1, 0, _X86_64),
        refuse,
        (_LOAD, 0, 0, 0),  # its number
        (_AT_LEAST, 0, 1, _X32),
        refuse,
    ]
    for number in _REFUSED:
        program += [(_EQUAL, 0, 1, number), refuse]
    for number in _PRETENDED:
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO)]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    header = struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(code))
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) < 0:
        sys.exit(f"guard: seccomp: {os.strerror(ctypes.get_errno())}")


def settle_on_one_cpu() -> socket.socket | None:
    """Keep the kernel on one CPU, a free one if there is: it runs three times as fast there.

    A guest is a ping-pong between its main process and the one it traces; on two CPUs every
    stroke wakes an idle CPU, which is dear in a virtual machine. A CPU is taken by binding an
    abstract socket with its number: whoever dies gives it back. Returns that socket.
    """
    cpus = sorted(os.sched_getaffinity(0))
    for cpu in cpus:
        taken = socket.socket(socket.AF_UNIX)
        try:
            taken.bind(f"\0sr-testbed-cpu-{cpu}")
        except OSError:
            taken.close()
            continue
        os.sched_setaffinity(0, {cpu})
        return taken
    os.sched_setaffinity(0, {cpus[os.getpid() % len(cpus)]})
    return None


def _start(owner: socket.socket, directories: list[str], argv: list[str]) -> int:
    """Fork and exec; returns when the program runs (or its start has failed)."""
    running, announce = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        owner.close()
        os.setsid()
        # User-Mode Linux has a page descriptor for every page between its program and its heap.
        # Where that gap is random, up to 1 GiB, it costs a guest 0 to 16 MiB of its memory.
        _libc.personality(_ADDR_NO_RANDOMIZE)
        if directories:
            confine_writes(directories)
        os.execv(argv[0], argv)
    os.close(announce)
    os.read(running, 1)  # end of file: exec closed the other end, or the child is dead
    os.close(running)
    return pid


def _let_go(keep: set[int]) -> None:
    """Close what was inherited for the kernel: the ends of its pipes tell when it is gone."""
    null = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, 1 << 16)


def _children() -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    parent = file.read().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == os.getpid():
                found.append(int(entry))
    return found


def _bury(pid: int) -> int:
    """Kill the group, then whatever left it; returns the status of `pid` when all are gone."""
    status = 0
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    while True:
        try:
            dead, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return os.waitstatus_to_exitcode(status)
        if dead == pid:
            status = how
        if dead == 0:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            dead, how = os.waitpid(-1, 0)
            if dead == pid:
                status = how


def main(arguments: list[str]) -> None:
    """See the module's text."""
    split = arguments.index("--")
    owner, lock = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    owner.set_inheritable(False)
    os.set_inheritable(lock, False)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Ctrl-C and friends are for the owner: it closes the socket when it is done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    cpu = settle_on_one_cpu()
    pid = _start(owner, arguments[2:split], arguments[split + 1 :])
    _let_go({owner.fileno(), lock, cpu.fileno() if cpu else lock})
    poll = select.poll()
    poll.register(owner, select.POLLIN)
    poll.register(os.pidfd_open(pid), select.POLLIN)
    try:
        owner.sendall(b"%d\n" % pid)
        poll.poll()
    except OSError:
        pass  # the owner is gone already
    status = _bury(pid)
    with contextlib.suppress(OSError):
        owner.sendall(b"%d\n" % status)


if __name__ == "__main__":
    main(sys.argv[1:])
