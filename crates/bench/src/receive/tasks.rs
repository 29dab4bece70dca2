//! Readers that nothing is between: what a task for each peer costs, and a buffer of its own.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::packet::media;

use super::{
    LENGTH,
    burst::{BURST, RUN},
    muxes::BUFFER,
};

/// A task for each peer, which is woken for each run of the peer's datagrams and copies them to its own buffer, one
/// after the other.
#[derive(Debug)]
pub(super) struct Tasks {
    wakers: Vec<Arc<Notify>>,
    shared: Arc<Shared>,
    next: usize,
}

#[derive(Debug)]
struct Shared {
    datagram: Vec<u8>,
    copied: AtomicUsize,
    all: Notify,
}

impl Tasks {
    /// To be called on a runtime.
    pub(super) fn new(number: usize) -> Self {
        let shared = Arc::new(Shared {
            datagram: media(1, LENGTH),
            copied: AtomicUsize::new(0),
            all: Notify::new(),
        });
        let wakers: Vec<_> = iter::repeat_with(Arc::default).take(number).collect();
        for waker in &wakers {
            tokio::spawn(read(Arc::clone(waker), Arc::clone(&shared)));
        }
        Self {
            wakers,
            shared,
            next: 0,
        }
    }

    /// Wakes the next of them, of which there are enough, as a burst of their peers would, and waits until they are
    /// done.
    pub(super) async fn read(&mut self) {
        self.shared.copied.store(0, Relaxed);
        for _ in 0..BURST / RUN {
            self.next = (self.next + 1) % self.wakers.len();
            self.wakers[self.next].notify_one();
        }
        self.shared.all.notified().await;
    }
}

async fn read(waker: Arc<Notify>, shared: Arc<Shared>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        waker.notified().await;
        for _ in 0..RUN {
            buffer[..LENGTH].copy_from_slice(&shared.datagram);
            std::hint::black_box(&mut buffer);
        }
        if shared.copied.fetch_add(RUN, Relaxed) + RUN == BURST {
            shared.all.notify_one();
        }
    }
}
