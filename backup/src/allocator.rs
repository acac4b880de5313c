//! What the C library does with memory that was freed.
#![expect(unsafe_code, reason = "mallopt(3) has no safe form")]

/// Blocks from this size on are of the kernel, and go back to it when they are freed. In bytes.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 1 << 20;

/// Keeps a process as small as `--memory` says. By itself glibc raises its limit to the size of the largest block that was freed
/// so far (mallopt(3), `M_MMAP_THRESHOLD`), and what it carves from its arenas then, a third of an index, it does not give back.
pub(crate) fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes two numbers, and no other thread is there yet.
        let is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) } != 0;
        debug_assert!(is_set, "a limit that glibc knows");
    }
}
