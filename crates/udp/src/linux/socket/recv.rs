//! How datagrams come in: one by one, or many by one system call, and past the errors of what was sent.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{Interest, Ready},
    task::consume_budget,
};

use super::{
    super::{
        receive,
        sys::{ControlBuffer, receive_message, receive_messages, set_option},
    },
    Socket,
    send::is_pending,
};
use crate::{RecvBatch, RecvMeta, batch::Refill};

/// How much memory a socket keeps for what is left of a batch while nothing is left, bytes.
const KEPT: usize = 2048;

/// What a batch keeps for Linux.
pub(crate) struct BatchState(Vec<ControlBuffer>);

impl BatchState {
    pub(crate) fn new(messages: usize) -> Self {
        Self((0..messages).map(|_| ControlBuffer::new()).collect())
    }
}

/// What one system call has brought beyond the datagram that was asked for.
#[derive(Debug, Default)]
pub(super) struct Leftover(Mutex<Rest>);

#[derive(Debug, Default)]
struct Rest {
    metas: VecDeque<RecvMeta>,
    bytes: VecDeque<u8>,
}

impl Leftover {
    fn lock(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    fn push(&mut self, datagram: &[u8], meta: &RecvMeta) {
        self.bytes.extend(datagram);
        self.metas.push_back(*meta);
    }

    fn pop(&mut self, buffer: &mut [u8]) -> Option<RecvMeta> {
        let meta = self.metas.pop_front()?;
        let (first, second) = self.bytes.as_slices();
        let copied = meta.len.min(buffer.len());
        let split = copied.min(first.len());
        buffer[..split].copy_from_slice(&first[..split]);
        buffer[split..copied].copy_from_slice(&second[..copied - split]);
        self.bytes.drain(..meta.len);
        if self.metas.is_empty() && self.bytes.capacity() > KEPT {
            *self = Self::default();
        }
        Some(cut(meta, copied))
    }
}

fn cut(meta: RecvMeta, len: usize) -> RecvMeta {
    RecvMeta {
        truncated: meta.truncated || len < meta.len,
        len,
        ..meta
    }
}

thread_local! {
    /// Where batches land whose datagrams are asked for one by one: one for all sockets of a thread.
    static LANDING: RefCell<Option<RecvBatch>> = const { RefCell::new(None) };
}

impl Socket {
    pub(super) fn receive_runs(&self) -> io::Result<()> {
        set_option(self.main().as_fd(), libc::SOL_UDP, receive::UDP_GRO, 1)
    }

    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        // What is left says nothing of whether the kernel has more.
        let left = self.batches.then(|| self.leftover.lock().pop(buffer));
        if let Some(meta) = left.flatten() {
            consume_budget().await;
            return Ok(meta);
        }
        self.when_readable(|| Ok((self.try_recv(buffer)?, false)))
            .await
    }

    #[inline]
    pub(crate) fn recv_ready(&self, buffer: &mut [u8]) -> io::Result<Option<RecvMeta>> {
        // Who waits reads the errors, too, and what is left of a batch.
        if self.batches || self.errors.on() {
            return Ok(None);
        }
        match (self.main).try_io(Interest::READABLE, |_| self.try_recv(buffer)) {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<()> {
        if self.take_leftover(batch) {
            consume_budget().await;
            return Ok(());
        }
        self.when_readable(|| {
            let emptied = self.fill(batch)?;
            // A pending error ends a batch too, and comes with no event of its own.
            Ok(((), emptied && !self.errors.on()))
        })
        .await
    }

    /// Tries until there is something. What is tried says beside its result whether the kernel has no more.
    async fn when_readable<R>(
        &self,
        mut attempt: impl FnMut() -> io::Result<(R, bool)>,
    ) -> io::Result<R> {
        loop {
            // Waiting for readiness alone lets a flood keep the thread to itself.
            consume_budget().await;
            let mut guard = self
                .main
                .ready(Interest::READABLE | Interest::ERROR)
                .await?;
            if guard.ready().is_error() && self.errors.drain(self.main(), None) {
                guard.clear_ready_matching(Ready::ERROR);
            }
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    guard.clear_ready_matching(Ready::READABLE);
                }
                Err(error) => return Err(error),
                Ok((result, emptied)) => {
                    if emptied {
                        guard.clear_ready_matching(Ready::READABLE);
                    }
                    return Ok(result);
                }
            }
        }
    }

    pub(crate) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        if self.batches {
            return self.try_recv_of_batch(buffer);
        }
        let mut control = ControlBuffer::new();
        loop {
            match receive_message(self.main().as_fd(), buffer, &mut control, 0) {
                Ok(received) => {
                    if let Some((meta, _)) = receive::meta(&received) {
                        return Ok(meta);
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn try_recv_of_batch(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let mut leftover = self.leftover.lock();
        if let Some(meta) = leftover.pop(buffer) {
            return Ok(meta);
        }
        LANDING.with_borrow_mut(|landing| {
            let landing = landing.get_or_insert_default();
            self.fill(landing)?;
            let mut datagrams = landing.iter();
            let (datagram, meta) = datagrams.next().ok_or(io::ErrorKind::WouldBlock)?;
            let copied = datagram.len().min(buffer.len());
            buffer[..copied].copy_from_slice(&datagram[..copied]);
            for (datagram, meta) in datagrams {
                leftover.push(datagram, meta);
            }
            Ok(cut(*meta, copied))
        })
    }

    pub(crate) fn try_recv_batch(&self, batch: &mut RecvBatch) -> io::Result<()> {
        if !self.take_leftover(batch) {
            self.fill(batch)?;
        }
        Ok(())
    }

    /// Moves what is left of another batch. Whether there was any.
    fn take_leftover(&self, batch: &mut RecvBatch) -> bool {
        if !self.batches {
            return false;
        }
        let mut leftover = self.leftover.lock();
        // It came in another batch, which may have more room.
        batch.make_room(leftover.bytes.len());
        let Refill {
            bytes, datagrams, ..
        } = batch.refill();
        let mut at = 0;
        while let Some(meta) = leftover.pop(&mut bytes[at..]) {
            datagrams.push((at..at + meta.len, meta));
            at += meta.len;
        }
        !datagrams.is_empty()
    }

    /// Receives what there is, and at least one datagram. Whether the kernel had no more.
    fn fill(&self, batch: &mut RecvBatch) -> io::Result<bool> {
        let Refill {
            bytes,
            slot,
            full,
            state,
            datagrams,
        } = batch.refill();
        let slots = state.0.len().min(bytes.len() / slot);
        loop {
            let result = receive_messages(
                self.main().as_fd(),
                bytes,
                slot,
                &mut state.0,
                |number, received| {
                    if let Some((meta, segment)) = receive::meta(received) {
                        Refill::add(datagrams, number * slot, &meta, segment);
                    }
                },
            );
            match result {
                Ok(messages) => {
                    *full |= messages == slots;
                    if !datagrams.is_empty() {
                        return Ok(messages < slots);
                    }
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether it says nothing of the next receive.
fn is_passing(error: &io::Error) -> bool {
    is_pending(error) || error.kind() == io::ErrorKind::Interrupted
}
