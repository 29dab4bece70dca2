/// Bytes of a cache line.
const LINE: usize = 64;

#[inline]
pub(crate) fn prefetch(address: usize, bytes: usize) {
    let first = address & !(LINE - 1);
    let length = bytes.saturating_add(address - first);
    for offset in (0..length).step_by(LINE) {
        prefetch_line(first.wrapping_add(offset));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(address: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    // SAFETY: every processor of this architecture has the instruction. It takes any address: it neither reads nor
    // writes as the program sees it, and what cannot be read is left alone without a fault.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address)) }
}

#[cfg(not(target_arch = "x86_64"))]
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
