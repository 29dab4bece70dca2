//! Capturing packets on an interface.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result};
use crate::node::Node;
use crate::packet::{Packet, Quoted};
use crate::socket::{Buffer, CaptureSockets, Frame, PacketSocket};

/// How many packets are read before those who wait hear of them.
const BATCH: usize = 256;

/// How long the thread may take to catch up with the wire.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Captures every IP packet on one interface, from the moment it was made, on a thread of its own.
///
/// A packet is there to be read as soon as it has passed the interface, so a datagram whose send has
/// returned before [`stop`](Self::stop) is in the [`Capture`].
#[derive(Debug)]
pub struct Sniffer {
    shared: Arc<Shared>,
    packets: Vec<Packet>,
    /// How many of `packets` [`next`](Self::next) has handed out.
    handed_out: usize,
    malformed: usize,
    /// A byte asks the thread to catch up with the wire; closed, to end.
    orders: Option<PipeWriter>,
    /// How many bytes have been written there.
    asked: u64,
    thread: Option<JoinHandle<()>>,
}

/// What a [`Sniffer`] saw.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Capture {
    /// The packets, in the order in which they passed the interface.
    pub packets: Vec<Packet>,
    /// How many more passed that the kernel had no room for: 0 if the capture is complete.
    pub dropped: u64,
    /// How many were marked as IP and had no IP header.
    pub malformed: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Captured, and not yet taken apart.
    frames: Vec<Frame>,
    dropped: u64,
    failed: Option<Errno>,
    /// How many bytes of the orders have been heeded.
    caught_up: u64,
}

impl Sniffer {
    /// Captures on an interface of a node.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn on(node: &Node, interface: &str) -> Result<Self> {
        Self::start(node.run(|| CaptureSockets::open(interface))?)
    }

    /// Captures on `lo` of the calling thread's network namespace, each packet once.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW` over the namespace: run as root, or call [`enter`](crate::enter) first.
    pub fn on_loopback() -> Result<Self> {
        Self::on_interface("lo")
    }

    /// Captures on an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// When there is no such interface. Without `CAP_NET_RAW` over the namespace: run as root, or call
    /// [`enter`](crate::enter) first.
    pub fn on_interface(interface: &str) -> Result<Self> {
        Self::start(CaptureSockets::open(interface)?)
    }

    fn start(sockets: CaptureSockets) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (reader, orders) = pipe().map_err(|e| Error::system("pipe", e))?;
        let thread = thread::Builder::new()
            .name("sniffer".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.capture(&sockets, reader)
            })
            .map_err(|e| Error::system("sniffer thread", e))?;
        Ok(Self {
            shared,
            packets: Vec::new(),
            handed_out: 0,
            malformed: 0,
            orders: Some(orders),
            asked: 0,
            thread: Some(thread),
        })
    }

    /// The packets so far: everything that has passed the interface before this is called.
    pub fn packets(&mut self) -> &[Packet] {
        self.catch_up();
        self.read_so_far()
    }

    /// Waits until the thread has read what there is. One that has failed has no more to read.
    fn catch_up(&mut self) {
        let Some(orders) = &mut self.orders else {
            return;
        };
        if orders.write_all(&[0]).is_ok() {
            self.asked += 1;
            let state = self.shared.lock();
            // A thread that takes too long is as one that is behind.
            let _ = self
                .shared
                .changed
                .wait_timeout_while(state, CATCH_UP, |state| {
                    state.caught_up < self.asked && state.failed.is_none()
                });
        }
    }

    fn read_so_far(&mut self) -> &[Packet] {
        let frames = std::mem::take(&mut self.shared.lock().frames);
        self.take_apart(frames);
        &self.packets
    }

    /// Waits until `condition` holds for the packets so far, and returns them.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when it does not within `within`; its text lists the last packets.
    /// [`Error::System`] when the capture itself failed.
    pub fn wait_for(
        &mut self,
        within: Duration,
        mut condition: impl FnMut(&[Packet]) -> bool,
    ) -> Result<&[Packet]> {
        let deadline = Instant::now() + within;
        while !condition(self.read_so_far()) {
            if !self.wait_for_more(deadline)? {
                return Err(Error::TimedOut {
                    what: "what the sniffer waits for".to_owned(),
                    within,
                    detail: self.describe(),
                });
            }
        }
        Ok(&self.packets)
    }

    /// Waits for a packet of which `wanted` holds, and returns the first.
    ///
    /// # Errors
    /// As for [`wait_for`](Self::wait_for).
    #[expect(
        clippy::missing_panics_doc,
        reason = "wait_for does not end well without one"
    )]
    pub fn find(
        &mut self,
        within: Duration,
        mut wanted: impl FnMut(&Packet) -> bool,
    ) -> Result<Packet> {
        let (mut looked_at, mut at) = (0, None);
        let packets = self.wait_for(within, |packets| {
            at = (looked_at..packets.len()).find(|at| wanted(&packets[*at]));
            looked_at = packets.len();
            at.is_some()
        })?;
        Ok(packets[at.expect("wait_for ended with it")].clone())
    }

    /// The next packet that `next` has not returned before; waits for it if need be.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when none comes within `within`; [`Error::System`] when the capture failed.
    pub fn next(&mut self, within: Duration) -> Result<Packet> {
        let at = self.handed_out;
        let packet = self.wait_for(within, |packets| packets.len() > at)?[at].clone();
        self.handed_out += 1;
        Ok(packet)
    }

    /// How many packets the kernel had no room for so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lock().dropped
    }

    /// Ends the capture, with everything that had passed the interface before.
    ///
    /// # Errors
    /// [`Error::System`] when the capture failed on the way.
    pub fn stop(mut self) -> Result<Capture> {
        self.end_thread();
        let state = std::mem::take(&mut *self.shared.lock());
        if let Some(e) = state.failed {
            return Err(Error::system("capture", e));
        }
        self.take_apart(state.frames);
        // Several sockets may have shared the work.
        self.packets.sort_by_key(|packet| packet.at);
        Ok(Capture {
            packets: std::mem::take(&mut self.packets),
            dropped: state.dropped,
            malformed: self.malformed,
        })
    }

    fn take_apart(&mut self, frames: Vec<Frame>) {
        let captured = frames.len();
        let before = self.packets.len();
        self.packets.extend(
            frames
                .into_iter()
                .filter_map(|f| Packet::parse(f.at, f.direction, &f.bytes, Quoted::TakeApart)),
        );
        self.malformed += captured - (self.packets.len() - before);
    }

    /// Waits until packets have come that were not looked at; false when time is up.
    fn wait_for_more(&self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), left, |state| {
                state.frames.is_empty() && state.failed.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some(e) => Err(Error::system("capture", e)),
            None => Ok(!state.frames.is_empty()),
        }
    }

    /// The last packets, a line each, for whom a test did not get what it waited for.
    fn describe(&self) -> String {
        const LAST: usize = 10;
        let skipped = self.packets.len().saturating_sub(LAST);
        let mut text = format!(
            "; it saw {} packets and the kernel dropped {}",
            self.packets.len(),
            self.dropped()
        );
        for packet in &self.packets[skipped..] {
            text.push_str("\n    ");
            text.push_str(&packet.to_string());
        }
        text
    }

    fn end_thread(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; what it captured is still good.
            let _ = thread.join();
        }
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.end_thread();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the orders are closed, and then what is left.
    fn capture(&self, sockets: &[PacketSocket], mut orders: PipeReader) {
        let mut buffer = Buffer::new();
        let mut goes_on = true;
        while goes_on {
            let has_orders = match wait(sockets, &orders) {
                Ok(has_orders) => has_orders,
                Err(e) => return self.fail(e),
            };
            // Orders first: what they are about has passed already.
            let mut heeded = 0;
            if has_orders {
                let read = orders.read(&mut [0; 16]).unwrap_or(0);
                goes_on = read > 0;
                heeded = read as u64;
            }
            for socket in sockets {
                if let Err(e) = self.drain(socket, &mut buffer) {
                    return self.fail(e);
                }
            }
            self.lock().caught_up += heeded;
            self.changed.notify_all();
        }
    }

    fn drain(&self, socket: &PacketSocket, buffer: &mut Buffer) -> nix::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let frame = socket.receive(buffer)?;
            let empty = frame.is_none();
            batch.extend(frame);
            if empty || batch.len() == BATCH {
                let dropped = socket.dropped()?;
                let mut state = self.lock();
                state.frames.append(&mut batch);
                state.dropped += dropped;
                self.changed.notify_all();
            }
            if empty {
                return Ok(());
            }
        }
    }

    fn fail(&self, error: Errno) {
        self.lock().failed = Some(error);
        self.changed.notify_all();
    }
}

/// Waits for packets or orders. Whether there are orders, or nobody to give any.
fn wait(sockets: &[PacketSocket], orders: &PipeReader) -> nix::Result<bool> {
    let mut fds: Vec<_> = sockets
        .iter()
        .map(AsFd::as_fd)
        .chain([orders.as_fd()])
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    while let Err(e) = poll(&mut fds, PollTimeout::NONE) {
        if e != Errno::EINTR {
            return Err(e);
        }
    }
    Ok(fds.last().and_then(PollFd::any).unwrap_or(true))
}
