mod flush;
mod recv;
mod send;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::SystemTime,
};

use socket2::Socket as Descriptor;
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    task::consume_budget,
};

pub(crate) use self::recv::BatchState;
use self::recv::Leftover;
pub(super) use self::send::Carrier;
use super::{
    batching::Batcher,
    errors::Errors,
    refused::{Field, Refused},
    sys::{get_option, register, set_option},
    twins::{Twins, new_socket, prepare_main, set_df_mode},
};
use crate::{Capabilities, DfMode, Support, Tos, socket::Config};

#[derive(Debug)]
pub(crate) struct Socket {
    /// Closed before main: the first member of the group gets all datagrams.
    twins: Twins,
    main: AsyncFd<Descriptor>,
    local: SocketAddr,
    /// It is bound to no address of its own.
    wildcard: bool,
    df_on: DfMode,
    df_off: DfMode,
    /// The DF mode of a datagram that asks for none.
    default_mode: AtomicU8,
    default_tos: AtomicU8,
    /// How many want to know when datagrams arrived.
    stamping: Mutex<usize>,
    /// Twins cannot be had: main's DF mode is switched under `mode_now`, by every sender.
    locked: AtomicBool,
    mode_now: Mutex<DfMode>,
    refused: Refused,
    errors: Errors,
    /// Receives as many datagrams at a time as there are.
    batches: bool,
    leftover: Leftover,
    /// Gathers what is sent.
    batcher: Option<Arc<Batcher>>,
}

impl Socket {
    pub(crate) fn bind(config: &Config) -> io::Result<Self> {
        let socket = new_socket(config.address, config.only_v6)?;
        if let Some(bytes) = config.recv_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = config.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        let locked = !prepare_main(&socket);
        socket.bind(&config.address.into())?;
        if !locked {
            socket.set_reuse_port(false)?;
        }
        Self::with_descriptor(socket, locked, config)
    }

    /// Takes over a socket that was bound elsewhere, and so can have no twins.
    pub(crate) fn adopt(socket: std::net::UdpSocket, config: &Config) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::with_descriptor(socket.into(), true, config)
    }

    fn with_descriptor(socket: Descriptor, locked: bool, config: &Config) -> io::Result<Self> {
        let local = socket.local_addr()?.as_socket().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "not an IPv4 or IPv6 socket")
        })?;
        let fd = socket.as_fd();
        for option in [libc::IP_RECVTTL, libc::IP_RECVTOS, libc::IP_PKTINFO] {
            set_option(fd, libc::SOL_IP, option, 1)?;
        }
        if local.is_ipv6() {
            for option in [
                libc::IPV6_RECVHOPLIMIT,
                libc::IPV6_RECVTCLASS,
                libc::IPV6_RECVPKTINFO,
            ] {
                set_option(fd, libc::SOL_IPV6, option, 1)?;
            }
        }
        if config.timestamps {
            stamp_received(fd, true)?;
        }
        // The default depends on net.ipv4.ip_no_pmtu_disc, so it is read, never assumed.
        let mode = DfMode::from_raw(get_option(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER)?)
            .unwrap_or(DfMode::Want);
        let tos = read_tos(&socket, local)?;
        let socket = Self {
            twins: Twins::default(),
            main: register(socket, Interest::READABLE)?,
            local,
            wildcard: local.ip().is_unspecified(),
            df_on: config.df_on,
            df_off: config.df_off,
            default_mode: AtomicU8::new(u8::try_from(mode.raw()).unwrap_or_default()),
            default_tos: AtomicU8::new(tos.byte()),
            stamping: Mutex::new(config.timestamps.into()),
            locked: AtomicBool::new(locked),
            mode_now: Mutex::new(mode),
            refused: Refused::default(),
            errors: Errors::new(),
            batches: config.recv_batches,
            leftover: Leftover::default(),
            batcher: config
                .batching
                .map(|batching| Arc::new(Batcher::new(batching))),
        };
        if config.recv_batches
            && let Err(error) = socket.receive_runs()
        {
            tracing::debug!(%error, "the kernel does not put datagrams together");
        }
        Ok(socket)
    }

    #[inline]
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    #[inline]
    pub(super) fn is_v6(&self) -> bool {
        self.local.is_ipv6()
    }

    #[inline]
    pub(super) fn main(&self) -> &Descriptor {
        self.main.get_ref()
    }

    pub(super) fn errors(&self) -> &Errors {
        &self.errors
    }

    pub(crate) fn df_mode(&self) -> DfMode {
        DfMode::from_raw(self.default_mode.load(Ordering::Relaxed).into()).unwrap_or(DfMode::Want)
    }

    #[inline]
    pub(crate) fn takes_all_options(&self) -> bool {
        self.refused.bits() == 0
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        let refused = self.refused.bits();
        let support = |field: Field| {
            if refused & field.bit() == 0 {
                Support::PerMessage
            } else {
                Support::None
            }
        };
        let locked = self.locked.load(Ordering::Relaxed);
        Capabilities {
            ttl: support(Field::Ttl),
            df_bit: if locked {
                Support::Locked
            } else {
                support(Field::DontFragment)
            },
            tos: support(Field::Tos),
            source: Support::PerMessage,
            flow_label: if self.is_v6() {
                support(Field::FlowLabel)
            } else {
                Support::None
            },
            icmp_errors: true,
            recv_meta: true,
            send_timestamps: support(Field::Timestamp) == Support::PerMessage,
        }
    }

    /// When a probe left. Its time is in the error queue of whoever sent it, before anything can come
    /// back.
    pub(crate) fn sent_at(&self, probe: u32) -> Option<SystemTime> {
        self.errors.sent.take(probe).or_else(|| {
            for twin in self.twins.iter() {
                self.errors.discard(twin);
            }
            self.errors.drain(self.main(), None);
            self.errors.sent.take(probe)
        })
    }

    pub(crate) fn refused_mtu(&self) -> Option<u32> {
        self.errors.refused_mtu()
    }

    pub(super) async fn drain_when_ready(&self) {
        consume_budget().await;
        if let Ok(mut guard) = self.main.ready(Interest::ERROR).await
            && self.errors.drain(self.main(), None)
        {
            guard.clear_ready_matching(Ready::ERROR);
        }
    }

    pub(crate) fn ttl(&self) -> io::Result<u8> {
        let (level, option) = if self.is_v6() {
            (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS)
        } else {
            (libc::SOL_IP, libc::IP_TTL)
        };
        let value = get_option(self.main().as_fd(), level, option)?;
        u8::try_from(value).map_err(io::Error::other)
    }

    pub(crate) fn set_ttl(&self, ttl: u8) -> io::Result<()> {
        self.set_on_all(libc::IP_TTL, libc::IPV6_UNICAST_HOPS, ttl)
    }

    pub(crate) fn tos(&self) -> io::Result<Tos> {
        read_tos(self.main(), self.local)
    }

    pub(crate) fn set_tos(&self, tos: Tos) -> io::Result<()> {
        self.set_on_all(libc::IP_TOS, libc::IPV6_TCLASS, tos.byte())?;
        self.default_tos.store(tos.byte(), Ordering::Relaxed);
        Ok(())
    }

    /// On an IPv6 socket the IPv4 option serves v4-mapped destinations.
    fn set_on_all(&self, v4: i32, v6: i32, value: u8) -> io::Result<()> {
        self.twins.change_all(self.main(), |fd| {
            if self.is_v6() {
                set_option(fd, libc::SOL_IPV6, v6, value.into())?;
            }
            set_option(fd, libc::SOL_IP, v4, value.into())
        })
    }

    pub(crate) fn set_df_mode(&self, mode: DfMode) -> io::Result<()> {
        let mut now = self.mode_now.lock().unwrap_or_else(PoisonError::into_inner);
        set_df_mode(self.main().as_fd(), self.local, mode)?;
        *now = mode;
        // Twins serve datagrams that ask for a value themselves, so none of them notices.
        self.default_mode.store(
            u8::try_from(mode.raw()).unwrap_or_default(),
            Ordering::Relaxed,
        );
        Ok(())
    }
}

/// Whether what arrives carries the time when it did, `socket(7)`.
fn stamp_received(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on.into())
}

/// Somebody wants to know when datagrams arrived.
#[derive(Debug)]
pub(crate) struct Stamping(Weak<Socket>);

impl Stamping {
    pub(crate) fn new(socket: &Arc<Socket>) -> io::Result<Self> {
        let mut wanted = socket
            .stamping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *wanted == 0 {
            stamp_received(socket.main().as_fd(), true)?;
        }
        *wanted += 1;
        Ok(Self(Arc::downgrade(socket)))
    }
}

impl Drop for Stamping {
    fn drop(&mut self) {
        let Some(socket) = self.0.upgrade() else {
            return;
        };
        let mut wanted = socket
            .stamping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *wanted -= 1;
        if *wanted == 0
            && let Err(error) = stamp_received(socket.main().as_fd(), false)
        {
            tracing::warn!(%error, "cannot turn timestamps off");
        }
    }
}

fn read_tos(socket: &Descriptor, local: SocketAddr) -> io::Result<Tos> {
    let (level, option) = if local.is_ipv6() {
        (libc::SOL_IPV6, libc::IPV6_TCLASS)
    } else {
        (libc::SOL_IP, libc::IP_TOS)
    };
    let value = get_option(socket.as_fd(), level, option)?;
    // -1 stands for the default of IPv6.
    Ok(Tos::from_byte(u8::try_from(value).unwrap_or_default()))
}
