//! When probes left: the kernel puts its timestamps into the error queue of the socket that sent them.

use std::{
    collections::VecDeque,
    io,
    os::fd::BorrowedFd,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::sys::set_option;

/// How many are kept for somebody to ask.
const KEPT: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct SentTimes(Mutex<VecDeque<(u32, SystemTime)>>);

impl SentTimes {
    pub(super) fn note(&self, probe: u32, at: SystemTime) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == KEPT {
            times.pop_front();
        }
        times.push_back((probe, at));
    }

    pub(super) fn take(&self, probe: u32) -> Option<SystemTime> {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = times.iter().position(|(number, _)| *number == probe)?;
        times.remove(at).map(|(_, at)| at)
    }
}

/// Has the timestamps delivered that single datagrams ask for, by their number and without their
/// contents. By itself it asks for none.
pub(super) fn report_sent_times(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_ID
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    set_option(
        fd,
        libc::SOL_SOCKET,
        libc::SO_TIMESTAMPING,
        flags.cast_signed(),
    )
}
