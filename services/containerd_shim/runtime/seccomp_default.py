"""The default seccomp profile: which system calls an ordinary container may make.

The decisions are Docker's, so that images behave alike under both engines: everything is refused
with EPERM, except what programs need and what the container's capabilities make sense of. Calls are
grouped by subject; what a kernel or architecture lacks does no harm in the list.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from services.protocol import oci

ALLOW = "SCMP_ACT_ALLOW"
ERRNO = "SCMP_ACT_ERRNO"

#: machine (uname -m) -> the audit architectures its programs may use
ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    "riscv64": ["SCMP_ARCH_RISCV64"],
}

_FILES = """
access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 faccessat
faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64
futimesat getcwd getdents getdents64 ioctl lchown lchown32 link linkat _llseek lseek lstat lstat64 mkdir
mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 pipe pipe2 pread64 preadv preadv2
pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename renameat renameat2 rmdir
sendfile sendfile64 splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
syncfs tee truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice
write writev cachestat listmount statmount
"""
_ATTRIBUTES = """
fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat
llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
"""
_WAITING = """
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect
pause poll ppoll ppoll_time64 pselect6 pselect6_time64 select io_cancel io_destroy io_getevents
io_pgetevents io_pgetevents_time64 io_setup io_submit
"""
_MEMORY = """
brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
process_mrelease remap_file_pages
"""
_NETWORK = """
accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
"""
_IPC = """
ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
semtimedop_time64 shmat shmctl shmdt shmget
"""
_PROCESSES = """
execve execveat exit exit_group fork vfork getcpu getpgid getpgrp getpid getppid getpriority getsid
gettid get_robust_list set_robust_list get_thread_area set_thread_area set_tid_address rseq kill tkill
tgkill pidfd_open pidfd_send_signal prctl setpgid setpriority setsid wait4 waitid waitpid ioprio_get
ioprio_set sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
sched_setparam sched_setscheduler sched_yield getrlimit prlimit64 setrlimit ugetrlimit getrusage sysinfo
times uname futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake riscv_hwprobe uretprobe
restart_syscall
"""
_SIGNALS = """
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn
"""
_IDENTITY = """
capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
setuid setuid32 getrandom landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp
"""
_TIME = """
adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time
timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
_EVERYONE = "".join(
    (_FILES, _ATTRIBUTES, _WAITING, _MEMORY, _NETWORK, _IPC, _PROCESSES, _SIGNALS, _IDENTITY, _TIME)
).split()

#: Reading other processes was a hole around seccomp before Linux 4.8.
_PTRACE = ["process_vm_readv", "process_vm_writev", "ptrace"]
_PTRACE_SINCE = (4, 8)

_BY_MACHINE = {
    "x86_64": ["arch_prctl", "modify_ldt"],
    "aarch64": (
        ["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"]
    ),
    "riscv64": ["riscv_flush_icache"],
}

_BY_CAPABILITY = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr "
        "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open "
        "quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

#: linux/sched.h: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
_NAMESPACE_BITS = 0x7E020000
#: Address families that no container should reach: vsock (the hypervisor's) and AF_ALG (38).
_AF_ALG, _AF_VSOCK = 38, 40
#: personality(2): PER_LINUX, PER_LINUX32, UNAME26, both, and "tell me the current one".
_PERSONAS = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(char for char in minor if char.isdigit()) or 0)


def _only_if(name: str, index: int, operator: str, value: int, value_two: int = 0) -> oci.SeccompRule:
    condition = oci.SeccompArg(index=index, value=value, value_two=value_two, op=operator)
    return oci.SeccompRule(names=[name], action=ALLOW, args=[condition])


def _conditional(capabilities: frozenset[str]) -> Iterator[oci.SeccompRule]:
    yield _only_if("socket", 0, "SCMP_CMP_LT", _AF_ALG)
    yield _only_if("socket", 0, "SCMP_CMP_EQ", _AF_ALG + 1)
    yield _only_if("socket", 0, "SCMP_CMP_GT", _AF_VSOCK)
    for persona in _PERSONAS:
        yield _only_if("personality", 0, "SCMP_CMP_EQ", persona)
    if "CAP_SYS_ADMIN" not in capabilities:
        yield _only_if("clone", 0, "SCMP_CMP_MASKED_EQ", _NAMESPACE_BITS)
        # clone3 hides its flags from the filter; ENOSYS makes the C libraries fall back to clone.
        yield oci.SeccompRule(names=["clone3"], action=ERRNO, errno_ret=errno.ENOSYS)


def profile(
    capabilities: frozenset[str], *, machine: str | None = None, kernel: tuple[int, int] | None = None
) -> oci.Seccomp:
    """The profile of a container whose bounding set is *capabilities*.

    *machine* (``uname -m``) and *kernel* are the running ones unless given. On a machine that is not in
    :data:`ARCHITECTURES` only its native architecture is filtered.
    """
    machine = machine or os.uname().machine
    names = list(_EVERYONE)
    if (kernel or _kernel()) >= _PTRACE_SINCE:
        names += _PTRACE
    names += _BY_MACHINE.get(machine, [])
    for capability, calls in _BY_CAPABILITY.items():
        if capability in capabilities:
            names += calls.split()
    rules = [oci.SeccompRule(names=sorted(set(names)), action=ALLOW), *_conditional(capabilities)]
    return oci.Seccomp(
        default_action=ERRNO,
        default_errno_ret=errno.EPERM,
        architectures=ARCHITECTURES.get(machine, []),
        syscalls=rules,
    )
