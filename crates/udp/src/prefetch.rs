/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks the processor to fetch what is at an address, so that it comes while something else is done. A hint:
/// it reads and writes nothing, whatever the address is, and on some processors it does nothing.
///
/// Who serves very many peers finds nothing of the next one in the caches, but mostly knows a little earlier
/// which one that will be.
#[doc(hidden)]
#[inline]
pub fn prefetch(address: usize, bytes: usize) {
    let mut line = address & !(LINE - 1);
    while line < address.saturating_add(bytes) {
        prefetch_line(line);
        line += LINE;
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "there is no safe way to give the hint")]
#[inline]
fn prefetch_line(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    // SAFETY: every processor of this architecture has the instruction. It takes any address: it neither reads nor
    // writes as the program sees it, and what cannot be read is left alone without a fault.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) }
}

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "there is no safe way to give the hint")]
#[inline]
fn prefetch_line(address: usize) {
    // SAFETY: as above; `PRFM` is a hint, which never faults.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly),
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn prefetch_line(_: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_will_do() {
        for address in [0, 1, 63, 4096, usize::MAX / 2, usize::MAX] {
            prefetch(address, 0);
            prefetch(address, 200);
        }
    }
}
