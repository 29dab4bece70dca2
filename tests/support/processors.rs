//! Processors that do not sleep, where a test judges times.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

/// Keeps the processors from sleeping until it is dropped. To wake one is the hypervisor's work in a virtual machine,
/// and takes a packet that has to wake somebody up to a millisecond where the host is busy.
pub(crate) struct Awake(Arc<AtomicBool>);

impl Awake {
    pub(crate) fn new() -> Self {
        let asleep = Arc::new(AtomicBool::new(false));
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            let asleep = Arc::clone(&asleep);
            thread::spawn(move || {
                // A thread has a priority of its own (setpriority(2), "C library/kernel differences").
                if setpriority_process(Some(gettid()), 19).is_err() {
                    return;
                }
                while !asleep.load(Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(asleep)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
