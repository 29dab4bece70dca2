//! ICMP errors, from main's error queue to whoever asked.
//!
//! With `IP_RECVERR` set, an error also makes the next send on that socket fail, one to another peer
//! as well: so while errors are on, datagrams are sent by twins.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use socket2::{Domain, Socket as Descriptor, Type};
use tokio::sync::{broadcast, watch};

use super::{
    receive,
    sent::SentTimes,
    socket::Socket,
    sys::{ControlBuffer, receive_message, set_option},
};
use crate::{IcmpError, IcmpErrorKind};

/// How many errors wait for a subscriber that does not read. Older ones are lost to it, and counted.
const BACKLOG: usize = 1024;

/// Linux quotes at most 520 bytes on IPv4 and 1,184 on IPv6.
const QUOTE: usize = 1280;

/// What errors and datagrams share on main, bytes: the kernel counts both queues against `SO_RCVBUF`, and
/// by default some 200 errors leave no room for a datagram.
const SHARED_BUFFER: usize = 2 << 20;

/// Of `linux/in.h` and `linux/in6.h`, which libc leaves out.
const IP_RECVERR_RFC4884: i32 = 26;
const IPV6_RECVERR_RFC4884: i32 = 31;

#[derive(Debug)]
pub(super) struct Errors {
    on: AtomicBool,
    subscribers: Mutex<usize>,
    /// Made for the first who asks: its storage is that of the whole backlog.
    sender: OnceLock<broadcast::Sender<IcmpError>>,
    pub(super) sent: SentTimes,
    /// Held from the kernel's queue to where an entry is found: who looks there meanwhile waits.
    draining: Mutex<()>,
    /// What this host said when it last refused a probe for its size; 0 before that.
    refused_mtu: AtomicU32,
}

impl Errors {
    pub(super) fn new() -> Self {
        Self {
            on: AtomicBool::new(false),
            subscribers: Mutex::new(0),
            sender: OnceLock::new(),
            sent: SentTimes::default(),
            draining: Mutex::default(),
            refused_mtu: AtomicU32::new(0),
        }
    }

    /// Whether anyone asked.
    #[inline]
    pub(super) fn on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(super) fn refused_mtu(&self) -> Option<u32> {
        let mtu = self.refused_mtu.load(Ordering::Relaxed);
        (mtu != 0).then_some(mtu)
    }

    pub(super) fn note_refused_mtu(&self, mtu: u32) {
        self.refused_mtu.store(mtu, Ordering::Relaxed);
    }

    fn join(&self, main: &Descriptor, v6: bool) -> std::io::Result<broadcast::Receiver<IcmpError>> {
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *subscribers == 0 {
            make_room(main);
            // First the flag, so that sends move to twins before an error can hit them.
            self.on.store(true, Ordering::SeqCst);
            if let Err(error) = switch(main.as_fd(), v6, true) {
                self.on.store(false, Ordering::SeqCst);
                return Err(error);
            }
        }
        *subscribers += 1;
        let sender = self.sender.get_or_init(|| broadcast::Sender::new(BACKLOG));
        Ok(sender.subscribe())
    }

    fn leave(&self, main: &Descriptor, v6: bool) {
        let mut subscribers = self
            .subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *subscribers -= 1;
        if *subscribers == 0 {
            if let Err(error) = switch(main.as_fd(), v6, false) {
                tracing::warn!(%error, "cannot turn ICMP errors off");
            }
            // The kernel drops the queue by itself, but keeps the last error for the next call.
            let _ = main.take_error();
            self.on.store(false, Ordering::SeqCst);
        }
    }

    /// Reads a socket's error queue. Whether it is empty now: a storm gets no more than its share.
    ///
    /// Of a refused datagram the kernel names the port that the socket is connected to, which for a twin
    /// is nobody's: `refused` is where the one went that has just been refused.
    pub(super) fn drain(&self, socket: &Descriptor, refused: Option<SocketAddr>) -> bool {
        let _alone = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        let mut payload = [0; QUOTE];
        let mut control = ControlBuffer::new();
        for _ in 0..BACKLOG {
            let entry = receive_message(
                socket.as_fd(),
                &mut payload,
                &mut control,
                libc::MSG_ERRQUEUE,
            );
            let Ok(received) = entry else {
                // Each entry that is read re-arms the next one as the socket's pending error.
                let _ = socket.take_error();
                return true;
            };
            if let Some(mut error) = receive::icmp_error(&received, &payload) {
                if error.kind == IcmpErrorKind::LocalTooBig {
                    error.destination = refused.unwrap_or(error.destination);
                }
                if let Some(sender) = self.sender.get() {
                    // An error from `send` says that nobody listens any more.
                    let _ = sender.send(error);
                }
            } else if let Some((probe, at)) = receive::sent_time(&received) {
                self.sent.note(probe, at);
            }
        }
        false
    }

    /// Empties an error queue of which nobody wants the errors: of a twin, which holds what this host
    /// said of its own datagrams, and the failed send has said that already. Returns the MTU for which a
    /// datagram was too large, if one was.
    pub(super) fn discard(&self, socket: &Descriptor) -> Option<u32> {
        let _alone = self.draining.lock().unwrap_or_else(PoisonError::into_inner);
        let mut control = ControlBuffer::new();
        let mut mtu = None;
        while let Ok(received) =
            receive_message(socket.as_fd(), &mut [], &mut control, libc::MSG_ERRQUEUE)
        {
            if let Some((probe, at)) = receive::sent_time(&received) {
                self.sent.note(probe, at);
            } else if let Some(error) = receive::icmp_error(&received, &[])
                && error.kind == IcmpErrorKind::LocalTooBig
            {
                mtu = error.next_hop_mtu;
            }
        }
        let _ = socket.take_error();
        mtu
    }
}

/// Enlarges the receive buffer as far as it may be, for good: it is a limit, and takes no memory by itself.
fn make_room(main: &Descriptor) {
    let size = main.recv_buffer_size().unwrap_or(SHARED_BUFFER);
    // The kernel doubles what it is asked for (socket(7)).
    let asked = SHARED_BUFFER / 2;
    let beyond_limit = i32::try_from(asked).expect("a small constant");
    if size >= SHARED_BUFFER
        // Beyond `net.core.rmem_max` only for who has CAP_NET_ADMIN.
        || set_option(main.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, beyond_limit).is_ok()
    {
        return;
    }
    // The socket may have more than an ordinary user may ask for: another one tells what that is.
    let allowed = Descriptor::new(Domain::IPV4, Type::DGRAM, None).and_then(|other| {
        other.set_recv_buffer_size(asked)?;
        other.recv_buffer_size()
    });
    if allowed.is_ok_and(|allowed| allowed > size) {
        let _ = main.set_recv_buffer_size(asked);
    }
}

fn switch(fd: BorrowedFd<'_>, v6: bool, on: bool) -> std::io::Result<()> {
    // Where ICMP extensions begin, since Linux 5.9: nice to know.
    let _ = set_option(fd, libc::SOL_IP, IP_RECVERR_RFC4884, on.into());
    set_option(fd, libc::SOL_IP, libc::IP_RECVERR, on.into())?;
    if v6 {
        let _ = set_option(fd, libc::SOL_IPV6, IPV6_RECVERR_RFC4884, on.into());
        set_option(fd, libc::SOL_IPV6, libc::IPV6_RECVERR, on.into())
    } else {
        Ok(())
    }
}

/// A subscription to the ICMP errors of one socket.
#[derive(Debug)]
pub(crate) struct Subscription {
    socket: Weak<Socket>,
    /// Closed when the `UdpSocket` is dropped.
    alive: watch::Receiver<()>,
    errors: broadcast::Receiver<IcmpError>,
    missed: u64,
}

impl Subscription {
    pub(crate) fn new(socket: &Arc<Socket>, alive: watch::Receiver<()>) -> std::io::Result<Self> {
        let errors = socket.errors().join(socket.main(), socket.is_v6())?;
        Ok(Self {
            socket: Arc::downgrade(socket),
            alive,
            errors,
            missed: 0,
        })
    }

    pub(crate) async fn recv(&mut self) -> Option<IcmpError> {
        loop {
            match self.errors.try_recv() {
                Ok(error) => return Some(error),
                Err(broadcast::error::TryRecvError::Lagged(count)) => {
                    self.missed += count;
                    continue;
                }
                Err(broadcast::error::TryRecvError::Closed) => return None,
                Err(broadcast::error::TryRecvError::Empty) => {}
            }
            let socket = self.socket.upgrade()?;
            tokio::select! {
                _ = self.alive.changed() => return None,
                received = self.errors.recv() => match received {
                    Ok(error) => return Some(error),
                    Err(broadcast::error::RecvError::Lagged(count)) => self.missed += count,
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = socket.drain_when_ready() => {}
            }
        }
    }

    pub(crate) fn missed(&self) -> u64 {
        self.missed
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.errors().leave(socket.main(), socket.is_v6());
        }
    }
}
