"""Runs a command that nobody trusts and leaves no process behind.     ...course.sandbox BYTES WORK HIDDEN... -- COMMAND

On Linux, where the kernel allows it, the command gets namespaces of its own: it sees no process but its own (and can
neither kill ours nor outlive us), no network, every folder read-only but WORK, which is empty, in memory and gone
afterwards; HIDDEN folders look empty. Elsewhere only this holds: SIGTERM to this process kills all that the command
started, whatever session it fled to, and so does its end, and on Linux that of the process which asked for it. All that
the command started may take BYTES of memory together. Standard library alone: it starts in no time.
"""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from upsnet_lite.files import UserError

try:
    import resource
except ImportError:  # Windows
    text = "a submission is run in isolation on Linux and macOS alone; on Windows use WSL, or run the notebook itself"
    raise UserError(text) from None

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
RECURSIVE, PRIVATE, NOSUID_NODEV = 0x4000, 1 << 18, 2 | 4
PDEATHSIG, CAPBSET_DROP, CHILD_SUBREAPER, NO_NEW_PRIVS = 1, 24, 36, 38  # of prctl
MOUNT_SETATTR, READ_ONLY = 442, 1
WORK_BYTES, FILE_BYTES, PROCESSES = 512 << 20, 256 << 20, 64
TOO_MANY, TOO_MUCH = 250, 251  # exit codes: the command started more processes, took more memory
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments) -> None:
    """A function of the C library; OSError where it fails."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


# ------------------------------------------------------------------------------------------------ a world of its own


def enter(work: Path, hidden: list[Path]) -> bool:
    """Into namespaces of its own; False where this system has none for us. The next fork is process 1 in there."""
    user, group = os.getuid(), os.getgid()
    try:
        call("unshare", NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC)
    except (OSError, AttributeError):  # forbidden; not Linux
        return False
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    call("mount", b"none", b"/", None, RECURSIVE | PRIVATE, None)
    read_only = (ctypes.c_uint64 * 4)(READ_ONLY, 0, 0, 0)
    with suppress(OSError):  # Linux before 5.12
        call("syscall", MOUNT_SETATTR, -100, b"/", 0x8000, ctypes.byref(read_only), ctypes.sizeof(read_only))
    for folder, size in [(work, WORK_BYTES), *((h, 0) for h in outermost(hidden))]:
        options = f"mode=700,size={size or 4096}".encode()
        call("mount", b"tmpfs", bytes(folder), b"tmpfs", NOSUID_NODEV | (0 if size else READ_ONLY), options)
    return True


def outermost(folders: list[Path]) -> list[Path]:
    """Those that there are, without what lies in another of them: it is hidden with that one."""
    there = {f.resolve() for f in folders if f.is_dir()}
    return sorted(f for f in there if there.isdisjoint(f.parents))


def allowed(work: Path, hidden: list[Path]) -> bool:
    """Whether all of `enter` works: some systems allow its first step and refuse the second; there is no way back."""
    probe = os.fork()
    if not probe:
        with suppress(BaseException):
            os._exit(not enter(work, hidden))
        os._exit(1)
    return wait_for(probe) == 0


def give_up_rights() -> None:
    """What is mounted stays so: the capabilities that a new namespace gives are dropped, also for programs started."""
    for capability in range(64):
        libc.prctl(CAPBSET_DROP, capability, 0, 0, 0)
    libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0)
    with suppress(OSError):
        call("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())


def limit(kind: int, most: int) -> None:
    """Lowers a limit that is higher."""
    with suppress(ValueError, OSError):
        now = resource.getrlimit(kind)[1]
        most = most if now == resource.RLIM_INFINITY else min(most, now)
        resource.setrlimit(kind, (most, most))


# ------------------------------------------------------------------------------------------------- nothing is left


def children() -> dict[int, list[int]]:
    """Process -> those that it started; {} where there is no /proc."""
    found: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):  # it ended while we looked
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            found.setdefault(parent, []).append(int(stat.parent.name))
    return found


def descendants(ancestor: int) -> list[int]:
    tree, found = children(), [ancestor]
    for process in found:
        found.extend(tree.get(process, ()))
    return found[1:]


def kill_descendants() -> None:
    """All of them, also those that are born meanwhile: orphans become our children, because we adopt them."""
    deadline = time.monotonic() + 5
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for sign in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, they start no more
            for process in left:
                with suppress(OSError):
                    os.kill(process, sign)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def wait_for(child: int) -> int:
    """The exit code of the child; other children that end on the way are buried."""
    while True:
        process, status = os.wait()
        if process == child:
            return os.waitstatus_to_exitcode(status)


def taken(processes: list[int], file: str, key: str) -> int:
    """The sum of their bytes that a line of a file in /proc tells; what cannot be read counts nothing."""
    kilobytes = 0
    for process in processes:
        with suppress(OSError, ValueError, StopIteration):
            told = Path(f"/proc/{process}/{file}").read_text().splitlines()
            kilobytes += next(int(line.split()[1]) for line in told if line.startswith(key))
    return kilobytes << 10


def too_much(processes: list[int], most: int) -> bool:
    """Whether they take more bytes: RSS is quickly had and never too small, PSS counts once what is shared."""
    return taken(processes, "status", "VmRSS:") > most and taken(processes, "smaps_rollup", "Pss:") > most


def watch(child: int, memory: int) -> int:
    """wait_for, with an eye on number and memory of all processes: the kernel's own limits bind each, or not root."""
    while len(ours := descendants(os.getpid())) <= PROCESSES:
        if memory and too_much(ours, memory):
            return TOO_MUCH
        for _ in range(5):
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == child:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0 if process else 0.05)
    return TOO_MANY


def inside(work: Path, hidden: list[Path], command: list[str]) -> None:
    """Becomes the command. In between, where there are namespaces: we, who wait, and process 1, who buries."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if allowed(work, hidden) and enter(work, hidden):
        die_with_parent()
        first = os.fork()
        if first:
            os._exit(wait_for(first) % 256)
        die_with_parent()
        with suppress(OSError):  # in a container of the kind that masks /proc
            call("mount", b"proc", b"/proc", b"proc", NOSUID_NODEV, None)
        give_up_rights()
        second = os.fork()  # nobody inside can kill process 1, and its end is the end of all
        if second:
            os._exit(wait_for(second) % 256)
    os.setsid()
    os.chdir(work)
    limit(resource.RLIMIT_FSIZE, FILE_BYTES)
    limit(resource.RLIMIT_CORE, 0)
    os.execv(command[0], command)


def die_with_parent() -> None:
    libc.prctl(PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main(work: Path, hidden: list[Path], command: list[str], memory: int = 0) -> int:
    """The command's exit code, negative where a signal ended it. memory: 0 for any."""
    signal.signal(signal.SIGTERM, lambda *_: (kill_descendants(), os._exit(143)))
    if hasattr(libc, "prctl"):
        libc.prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(PDEATHSIG, signal.SIGTERM, 0, 0, 0)  # who listened is gone
    child = os.fork()
    if not child:
        inside(work, hidden, command)
    code = watch(child, memory)
    kill_descendants()
    return code


if __name__ == "__main__":
    cut = sys.argv.index("--")
    hidden = [Path(p) for p in sys.argv[3:cut]]
    sys.exit(main(Path(sys.argv[2]), hidden, sys.argv[cut + 1 :], int(sys.argv[1])) % 256)
