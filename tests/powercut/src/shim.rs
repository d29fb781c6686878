//! The library that is preloaded: file operations of the C library, journaled.
//!
//! Each function here has the name of one in the C library, which it calls. What concerns a file outside the
//! observed directory passes through at the price of one look at a table. The others happen one at a time, so that
//! the order of the journal is the order in which things happened.
//!
//! Flushes are not passed on: the test makes its own power cuts, and need not wait for the disk.
#![allow(unsafe_code, reason = "it stands in for functions of the C library, which have C's interface")]
#![allow(clippy::missing_safety_doc, missing_docs, reason = "each function does what the one it stands for does")]
#![allow(unreachable_pub, reason = "the symbols are for the dynamic linker")]

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

#[path = "record.rs"]
#[allow(clippy::duplicate_mod, reason = "outside of lints this file is a crate of its own")]
mod record;

use record::Header;

const AT_FDCWD: c_int = -100;
const AT_REMOVEDIR: c_int = 0x200;
const O_WRONLY: c_int = 1;
const O_CREAT: c_int = 0o100;
const O_TRUNC: c_int = 0o1000;
const O_APPEND: c_int = 0o2000;
const O_DSYNC: c_int = 0o10000;
const SEEK_CUR: c_int = 1;
/// `RTLD_NEXT`: the symbol's next definition after this library's.
const NEXT: *mut c_void = -1isize as *mut c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct IoVec {
    base: *const c_void,
    len: usize,
}

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn getenv(name: *const c_char) -> *const c_char;
    fn readlink(path: *const c_char, buffer: *mut c_char, len: usize) -> isize;
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn lseek(fd: c_int, offset: i64, whence: c_int) -> i64;
    fn abort() -> !;
    fn _exit(status: c_int) -> !;
}

/// Defines functions that call the C library's own of the given names.
macro_rules! real {
    ($($name:ident as $symbol:literal ($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        mod real {
            use super::*;
            $(
                pub(super) unsafe fn $name($($argument: $type),*) -> $result {
                    static ADDRESS: AtomicUsize = AtomicUsize::new(0);
                    let mut address = ADDRESS.load(Ordering::Relaxed);
                    if address == 0 {
                        // SAFETY: the name ends with a zero, and the C library defines it.
                        address = unsafe { dlsym(NEXT, concat!($symbol, "\0").as_ptr().cast()) } as usize;
                        ADDRESS.store(address, Ordering::Relaxed);
                    }
                    // SAFETY: the symbol is the C library's function of this type.
                    let function: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(address) };
                    // SAFETY: the caller keeps to what that function asks for.
                    unsafe { function($($argument),*) }
                }
            )*
        }
    };
}

real! {
    openat as "openat" (at: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int;
    close as "close" (fd: c_int) -> c_int;
    write as "write" (fd: c_int, bytes: *const c_void, len: usize) -> isize;
    pwrite as "pwrite" (fd: c_int, bytes: *const c_void, len: usize, offset: i64) -> isize;
    writev as "writev" (fd: c_int, parts: *const IoVec, count: c_int) -> isize;
    pwritev as "pwritev" (fd: c_int, parts: *const IoVec, count: c_int, offset: i64) -> isize;
    fsync as "fsync" (fd: c_int) -> c_int;
    fdatasync as "fdatasync" (fd: c_int) -> c_int;
    ftruncate as "ftruncate" (fd: c_int, len: i64) -> c_int;
    fallocate as "fallocate" (fd: c_int, mode: c_int, offset: i64, len: i64) -> c_int;
    posix_fallocate as "posix_fallocate" (fd: c_int, offset: i64, len: i64) -> c_int;
    renameat as "renameat" (from_at: c_int, from: *const c_char, to_at: c_int, to: *const c_char) -> c_int;
    unlinkat as "unlinkat" (at: c_int, path: *const c_char, flags: c_int) -> c_int;
    mkdirat as "mkdirat" (at: c_int, path: *const c_char, mode: c_uint) -> c_int;
}

/// Which handle a file descriptor stands for; 0 for none that is observed.
static HANDLES: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];
/// Whether what is written through a descriptor is durable at once.
static SYNCED: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];
static NEXT_HANDLE: AtomicU64 = AtomicU64::new(1);
/// The handle of the marks.
static MARKS: AtomicU64 = AtomicU64::new(0);
/// Writes left before the program is killed.
static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
static ORDER: Mutex<()> = Mutex::new(());
static OBSERVED: OnceLock<Option<(PathBuf, c_int)>> = OnceLock::new();

/// The observed directory and the journal's descriptor.
fn observed() -> Option<&'static (PathBuf, c_int)> {
    let open = || {
        let dir = variable(record::DIR_VARIABLE)?;
        let journal = variable(record::JOURNAL_VARIABLE)?;
        let journal = CString::new(journal.as_os_str().as_bytes()).ok()?;
        // SAFETY: the path ends with a zero.
        let fd = unsafe { real::openat(AT_FDCWD, journal.as_ptr(), O_WRONLY | O_CREAT | O_APPEND, 0o644) };
        if fd < 0 {
            // SAFETY: it never returns. A run that is not journaled would look like one that wrote nothing.
            unsafe { abort() }
        }
        let kill_at = variable(record::KILL_VARIABLE).and_then(|text| text.to_str()?.parse().ok());
        LEFT.store(kill_at.unwrap_or(u64::MAX), Ordering::Relaxed);
        Some((dir, fd))
    };
    OBSERVED.get_or_init(open).as_ref()
}

fn variable(name: &str) -> Option<PathBuf> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name ends with a zero; nobody changes the environment while the program starts.
    let value = unsafe { getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: a value of the environment ends with a zero and stays.
    let value = unsafe { CStr::from_ptr(value) };
    Some(PathBuf::from(OsStr::from_bytes(value.to_bytes())))
}

fn in_order() -> MutexGuard<'static, ()> {
    ORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle(fd: c_int) -> Option<u64> {
    let slot = HANDLES.get(usize::try_from(fd).ok()?)?;
    Some(slot.load(Ordering::Acquire)).filter(|handle| *handle != 0)
}

/// Appends a record. The caller holds the order.
fn note(kind: u8, flag: bool, handle: u64, first: u64, payload: &[&[u8]]) {
    let Some((_, journal)) = observed() else { return };
    let len: usize = payload.iter().map(|part| part.len()).sum();
    let header = Header { payload: len as u32, kind, flag, handle, first };
    let mut bytes = Vec::with_capacity(record::HEADER + len);
    bytes.extend_from_slice(&header.encode());
    payload.iter().for_each(|part| bytes.extend_from_slice(part));
    // SAFETY: the pointer and the length are those of the vector.
    let written = unsafe { real::write(*journal, bytes.as_ptr().cast(), bytes.len()) };
    if written != bytes.len() as isize {
        // SAFETY: it never returns. A journal with a hole would prove nothing.
        unsafe { abort() }
    }
    let counts = kind == record::WRITE && handle != MARKS.load(Ordering::Relaxed);
    if counts && LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        // SAFETY: it never returns; no destructor runs and nothing is flushed.
        unsafe { _exit(137) }
    }
}

/// The absolute form of `path`, relative to the directory `at`.
///
/// # Safety
///
/// `path` must point to bytes that end with a zero.
unsafe fn absolute(at: c_int, path: *const c_char) -> PathBuf {
    // SAFETY: the caller says so.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    let base = match (path.is_absolute(), at) {
        (true, _) => PathBuf::new(),
        (false, AT_FDCWD) => std::env::current_dir().unwrap_or_default(),
        (false, at) => path_of(at),
    };
    let mut clean = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

/// The path that a descriptor was opened by, as the kernel knows it now.
fn path_of(fd: c_int) -> PathBuf {
    let Ok(link) = CString::new(format!("/proc/self/fd/{fd}")) else { return PathBuf::new() };
    let mut buffer = [0u8; 4096];
    // SAFETY: the buffer is as long as is said.
    let len = unsafe { readlink(link.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    PathBuf::from(OsStr::from_bytes(&buffer[..usize::try_from(len).unwrap_or(0)]))
}

/// `path` relative to the observed directory, or `None` if it is elsewhere.
fn inside(path: &Path) -> Option<PathBuf> {
    let (dir, _) = observed()?;
    path.strip_prefix(dir).ok().map(Path::to_owned)
}

unsafe fn open_at(at: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller of `open` passes such a path.
    let full = unsafe { absolute(at, path) };
    let Some(name) = inside(&full) else {
        // SAFETY: the arguments are passed on.
        let fd = unsafe { real::openat(at, path, flags, mode) };
        forget(fd);
        return fd;
    };
    let _order = in_order();
    // SAFETY: as above; the path is absolute or relative to the working directory, or does not matter.
    let absent = flags & O_CREAT != 0 && !exists(&full);
    // SAFETY: the arguments are passed on.
    let fd = unsafe { real::openat(at, path, flags, mode) };
    let Some(slot) = usize::try_from(fd).ok() else { return fd };
    if slot >= HANDLES.len() {
        // SAFETY: it never returns. Operations on this file would be missed.
        unsafe { abort() }
    }
    let handle = NEXT_HANDLE.fetch_add(1, Ordering::Relaxed);
    HANDLES[slot].store(handle, Ordering::Release);
    SYNCED[slot].store(u64::from(flags & O_DSYNC != 0), Ordering::Release);
    if name.as_os_str() == record::MARKS {
        MARKS.store(handle, Ordering::Relaxed);
    }
    note(record::OPEN, absent, handle, 0, &[name.as_os_str().as_bytes()]);
    if flags & O_TRUNC != 0 && !absent {
        note(record::LENGTH, false, handle, 0, &[]);
    }
    fd
}

fn exists(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path ends with a zero.
    unsafe { access(path.as_ptr(), 0) == 0 }
}

fn forget(fd: c_int) {
    if let Some(slot) = usize::try_from(fd).ok().and_then(|fd| HANDLES.get(fd)) {
        slot.store(0, Ordering::Release);
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the arguments are passed on; so in each function below, unless it says otherwise.
    unsafe { open_at(AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    unsafe { open_at(AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(at: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    unsafe { open_at(at, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    unsafe { open_at(at, path, flags, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    forget(fd);
    unsafe { real::close(fd) }
}

/// Lets `write` happen at `offset`, or where the file stands, and journals what it wrote of `parts`.
unsafe fn journaled(fd: c_int, offset: Option<i64>, parts: &[IoVec], write: impl FnOnce() -> isize) -> isize {
    let Some(handle) = handle(fd) else { return write() };
    let _order = in_order();
    let written = write();
    let Ok(mut left) = usize::try_from(written) else { return written };
    // After the write the file stands behind it, also when it was an appending one.
    let offset = offset.unwrap_or_else(|| unsafe { lseek(fd, 0, SEEK_CUR) } - written as i64);
    let mut payload = Vec::new();
    for part in parts {
        let len = part.len.min(left);
        // SAFETY: the caller of `write` passes memory of that length.
        payload.push(unsafe { std::slice::from_raw_parts(part.base.cast::<u8>(), len) });
        left -= len;
    }
    let synced = SYNCED[fd as usize].load(Ordering::Acquire) != 0;
    note(record::WRITE, synced, handle, offset as u64, &payload);
    written
}

unsafe fn parts_of<'a>(parts: *const IoVec, count: c_int) -> &'a [IoVec] {
    // SAFETY: the caller of `writev` passes so many parts.
    unsafe { std::slice::from_raw_parts(parts, usize::try_from(count).unwrap_or(0)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, len: usize) -> isize {
    unsafe { journaled(fd, None, &[IoVec { base: bytes, len }], || real::write(fd, bytes, len)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, len: usize, offset: i64) -> isize {
    let parts = [IoVec { base: bytes, len }];
    unsafe { journaled(fd, Some(offset), &parts, || real::pwrite(fd, bytes, len, offset)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, len: usize, offset: i64) -> isize {
    unsafe { pwrite(fd, bytes, len, offset) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const IoVec, count: c_int) -> isize {
    unsafe { journaled(fd, None, parts_of(parts, count), || real::writev(fd, parts, count)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(fd: c_int, parts: *const IoVec, count: c_int, offset: i64) -> isize {
    unsafe { journaled(fd, Some(offset), parts_of(parts, count), || real::pwritev(fd, parts, count, offset)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(fd: c_int, parts: *const IoVec, count: c_int, offset: i64) -> isize {
    unsafe { pwritev(fd, parts, count, offset) }
}

fn flushed(fd: c_int, flush: impl FnOnce() -> c_int) -> c_int {
    let Some(handle) = handle(fd) else { return flush() };
    let _order = in_order();
    note(record::FLUSH, false, handle, 0, &[]);
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    flushed(fd, || unsafe { real::fsync(fd) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    flushed(fd, || unsafe { real::fdatasync(fd) })
}

/// Lets `change` happen and, if it returns 0, journals it.
fn changed(fd: c_int, kind: u8, first: i64, change: impl FnOnce() -> c_int) -> c_int {
    let Some(handle) = handle(fd) else { return change() };
    let _order = in_order();
    let outcome = change();
    if outcome == 0 {
        note(kind, false, handle, first as u64, &[]);
    }
    outcome
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, len: i64) -> c_int {
    changed(fd, record::LENGTH, len, || unsafe { real::ftruncate(fd, len) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, len: i64) -> c_int {
    unsafe { ftruncate(fd, len) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: i64, len: i64) -> c_int {
    changed(fd, record::ALLOCATE, offset + len, || unsafe { real::fallocate(fd, mode, offset, len) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(fd: c_int, mode: c_int, offset: i64, len: i64) -> c_int {
    unsafe { fallocate(fd, mode, offset, len) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate(fd: c_int, offset: i64, len: i64) -> c_int {
    changed(fd, record::ALLOCATE, offset + len, || unsafe { real::posix_fallocate(fd, offset, len) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate64(fd: c_int, offset: i64, len: i64) -> c_int {
    unsafe { posix_fallocate(fd, offset, len) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(from_at: c_int, from: *const c_char, to_at: c_int, to: *const c_char) -> c_int {
    let (old, new) = unsafe { (inside(&absolute(from_at, from)), inside(&absolute(to_at, to))) };
    let (Some(old), Some(new)) = (old, new) else { return unsafe { real::renameat(from_at, from, to_at, to) } };
    let _order = in_order();
    let outcome = unsafe { real::renameat(from_at, from, to_at, to) };
    if outcome == 0 {
        let (old, new) = (old.as_os_str().as_bytes(), new.as_os_str().as_bytes());
        note(record::RENAME, false, 0, old.len() as u64, &[old, new]);
    }
    outcome
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    unsafe { renameat(AT_FDCWD, from, AT_FDCWD, to) }
}

/// Lets `change` happen and, if it returns 0, journals it for the path.
unsafe fn named(at: c_int, path: *const c_char, kind: u8, change: impl FnOnce() -> c_int) -> c_int {
    let Some(name) = inside(&unsafe { absolute(at, path) }) else { return change() };
    let _order = in_order();
    let outcome = change();
    if outcome == 0 {
        note(kind, false, 0, 0, &[name.as_os_str().as_bytes()]);
    }
    outcome
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(at: c_int, path: *const c_char, flags: c_int) -> c_int {
    unsafe { named(at, path, record::REMOVE, || real::unlinkat(at, path, flags)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    unsafe { unlinkat(AT_FDCWD, path, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    unsafe { unlinkat(AT_FDCWD, path, AT_REMOVEDIR) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    unsafe { named(AT_FDCWD, path, record::MAKE_DIR, || real::mkdirat(AT_FDCWD, path, mode)) }
}
