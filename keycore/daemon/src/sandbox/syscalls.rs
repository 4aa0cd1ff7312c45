//! Seccomp: which system calls.
//!
//! Two filters, of which the stricter one decides. What no engine ever does, and what code that was smuggled in would do first,
//! kills the process at once: the kernel logs it (`audit: type=1326`), the supervisor starts another. Everything else that is not
//! on the list fails with `EPERM`, so that a C library that tries a newer call first falls back on the older one.

use std::collections::BTreeMap;

use libc::c_long;
use rustix::thread::SecureComputingMode;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Gap;

/// What a replica does while it serves.
const ALLOWED: &[c_long] = &[
    // Connections. No `socket`, `bind`, `listen` or `connect`: those that are needed are there.
    libc::SYS_accept4,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    // The store and the log: SQLite, with its locks and its shared memory.
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_mkdirat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_brk,
    libc::SYS_getrandom,
    // Threads and time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // What it may know of itself.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The older forms of the same.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OF_OLD: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_epoll_wait,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OF_OLD: &[c_long] = &[];

/// What only an intruder would do.
const DEADLY: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_memfd_create,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_capset,
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
];

/// The kernel's `errno` for what is not on the list.
const NOT_PERMITTED: u32 = libc::EPERM.unsigned_abs();
/// For `clone3`, whose flags no filter can see: the C library then uses `clone`.
const NO_SUCH_CALL: u32 = libc::ENOSYS.unsigned_abs();

/// Applies the filters to all threads of this process.
pub(super) fn confine() -> Result<(), Gap> {
    for filter in [deadly()?, clone3()?, allowed()?] {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    match rustix::thread::secure_computing_mode() {
        Ok(SecureComputingMode::Filter) => Ok(()),
        _ => Err(Gap::Unsupported),
    }
}

fn deadly() -> Result<BpfProgram, BackendError> {
    let rules = DEADLY.iter().map(|&call| (call, Vec::new())).collect();
    program(rules, SeccompAction::Allow, SeccompAction::KillProcess)
}

fn clone3() -> Result<BpfProgram, BackendError> {
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    program(rules, SeccompAction::Allow, SeccompAction::Errno(NO_SUCH_CALL))
}

fn allowed() -> Result<BpfProgram, BackendError> {
    let only = |argument, operator, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    let name = u64::from(libc::PR_SET_NAME.unsigned_abs());
    let mode = u64::from(libc::PR_GET_SECCOMP.unsigned_abs());
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let mut rules: BTreeMap<_, _> =
        ALLOWED.iter().chain(ALLOWED_OF_OLD).map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_prctl, vec![only(0, SeccompCmpOp::Eq, name)?, only(0, SeccompCmpOp::Eq, mode)?]);
    // Threads, and no processes.
    rules.insert(libc::SYS_clone, vec![only(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    // `clone3` is decided by its own filter: the stricter of the two answers would be this one's.
    rules.insert(libc::SYS_clone3, Vec::new());
    rules.extend(DEADLY.iter().map(|&call| (call, Vec::new())));
    program(rules, SeccompAction::Errno(NOT_PERMITTED), SeccompAction::Allow)
}

fn program(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    BpfProgram::try_from(SeccompFilter::new(rules, otherwise, action, architecture)?)
}
