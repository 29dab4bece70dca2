//! Where there are no control messages: the socket's own options, switched under a lock before each
//! datagram that needs other values.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::sync::watch;

use crate::{
    BatchCounters, Capabilities, DfMode, IcmpError, RecvBatch, RecvMeta, Support, Tos,
    batch::Refill, batching::OnDropped, socket::Config, transmit::Datagram,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Values {
    ttl: u8,
    tos: Tos,
}

#[derive(Debug)]
struct State {
    /// Of datagrams that ask for nothing.
    default: Values,
    /// What the socket is set to.
    now: Values,
}

#[derive(Debug)]
pub(crate) struct Socket {
    socket: tokio::net::UdpSocket,
    local: SocketAddr,
    state: Mutex<State>,
}

impl Socket {
    pub(crate) fn bind(config: &Config) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(config.address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if config.address.is_ipv6() {
            socket.set_only_v6(config.only_v6)?;
        }
        if let Some(bytes) = config.recv_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = config.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        socket.bind(&config.address.into())?;
        Self::adopt(socket.into(), config)
    }

    pub(crate) fn adopt(socket: std::net::UdpSocket, _config: &Config) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let options = SockRef::from(&socket);
        let ttl = if local.is_ipv6() {
            options.unicast_hops_v6()?
        } else {
            options.ttl_v4()?
        };
        let tos = if local.is_ipv6() {
            options.tclass_v6()?
        } else {
            options.tos_v4()?
        };
        let default = Values {
            ttl: u8::try_from(ttl).map_err(io::Error::other)?,
            tos: Tos::from_byte(u8::try_from(tos).unwrap_or_default()),
        };
        let state = Mutex::new(State {
            default,
            now: default,
        });
        Ok(Self {
            socket,
            local,
            state,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities {
            ttl: Support::Locked,
            df_bit: Support::None,
            tos: Support::Locked,
            source: Support::None,
            flow_label: Support::None,
            icmp_errors: false,
            recv_meta: false,
            send_timestamps: false,
        }
    }

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn takes_all_options(&self) -> bool {
        false
    }

    pub(crate) async fn send(&self, datagram: &Datagram<'_>) -> io::Result<usize> {
        loop {
            self.socket.writable().await?;
            match self.try_send(datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    pub(crate) fn try_send(&self, datagram: &Datagram<'_>) -> io::Result<usize> {
        let destination = match *datagram.destination {
            SocketAddr::V4(v4) if self.local.is_ipv6() => {
                (v4.ip().to_ipv6_mapped(), v4.port()).into()
            }
            other => other,
        };
        let mut state = self.lock();
        let default = state.default;
        let wanted = Values {
            ttl: datagram.options.ttl().unwrap_or(default.ttl),
            tos: datagram
                .options
                .tos_byte_over(default.tos)
                .map_or(default.tos, Tos::from_byte),
        };
        self.switch(&mut state, wanted)?;
        self.socket.try_send_to(datagram.contents, destination)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn switch(&self, state: &mut State, wanted: Values) -> io::Result<()> {
        let options = SockRef::from(&self.socket);
        if wanted.ttl != state.now.ttl {
            if self.local.is_ipv6() {
                options.set_unicast_hops_v6(wanted.ttl.into())?;
            }
            // On a dual-stack socket this serves v4-mapped destinations, where the system lets it.
            let v4 = options.set_ttl_v4(wanted.ttl.into());
            if self.local.is_ipv4() {
                v4?;
            }
            state.now.ttl = wanted.ttl;
        }
        if wanted.tos != state.now.tos {
            if self.local.is_ipv6() {
                options.set_tclass_v6(wanted.tos.byte().into())?;
            }
            let v4 = options.set_tos_v4(wanted.tos.byte().into());
            if self.local.is_ipv4() {
                v4?;
            }
            state.now.tos = wanted.tos;
        }
        Ok(())
    }

    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        loop {
            self.socket.readable().await?;
            match self.try_recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    pub(crate) fn recv_ready(&self, buffer: &mut [u8]) -> io::Result<Option<RecvMeta>> {
        match self.try_recv(buffer) {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        loop {
            match self.socket.try_recv_from(buffer) {
                Ok((len, source)) => {
                    return Ok(RecvMeta {
                        len,
                        truncated: false,
                        source,
                        destination: None,
                        interface: None,
                        ttl: None,
                        tos: None,
                        timestamp: None,
                    });
                }
                // What the network said of an earlier datagram.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::HostUnreachable
                            | io::ErrorKind::NetworkUnreachable
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// There is nothing to gather with.
    pub(crate) fn start(_socket: &Arc<Self>) {}

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn end(&self) {}

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn batch_counters(&self) -> Option<BatchCounters> {
        None
    }

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn on_dropped(&self, _f: OnDropped) -> bool {
        false
    }

    pub(crate) async fn recv_batch(&self, batch: &mut RecvBatch) -> io::Result<()> {
        let Refill {
            bytes,
            slot,
            full: _full,
            datagrams,
            state: BatchState,
        } = batch.refill();
        let meta = self.recv(&mut bytes[..slot]).await?;
        Refill::add(datagrams, 0, &meta, None);
        Ok(())
    }

    pub(crate) fn try_recv_batch(&self, batch: &mut RecvBatch) -> io::Result<()> {
        let Refill {
            bytes,
            slot,
            full: _full,
            datagrams,
            state: BatchState,
        } = batch.refill();
        let meta = self.try_recv(&mut bytes[..slot])?;
        Refill::add(datagrams, 0, &meta, None);
        Ok(())
    }

    pub(crate) fn ttl(&self) -> io::Result<u8> {
        Ok(self.lock().default.ttl)
    }

    pub(crate) fn set_ttl(&self, ttl: u8) -> io::Result<()> {
        let mut state = self.lock();
        let wanted = Values {
            ttl,
            ..state.default
        };
        self.switch(&mut state, wanted)?;
        state.default = wanted;
        Ok(())
    }

    pub(crate) fn tos(&self) -> io::Result<Tos> {
        Ok(self.lock().default.tos)
    }

    pub(crate) fn set_tos(&self, tos: Tos) -> io::Result<()> {
        let mut state = self.lock();
        let wanted = Values {
            tos,
            ..state.default
        };
        self.switch(&mut state, wanted)?;
        state.default = wanted;
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn sent_at(&self, _probe: u32) -> Option<SystemTime> {
        None
    }

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn refused_mtu(&self) -> Option<u32> {
        None
    }

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn df_mode(&self) -> DfMode {
        DfMode::Want
    }

    #[expect(clippy::unused_self, reason = "the same on every platform")]
    pub(crate) fn set_df_mode(&self, _mode: DfMode) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Nothing is fetched early.
pub(crate) fn prefetch(_address: usize, _bytes: usize) {}

/// Datagrams come one by one.
pub(crate) struct BatchState;

impl BatchState {
    pub(crate) fn new(_messages: usize) -> Self {
        Self
    }
}

/// Nobody says when datagrams arrived.
#[derive(Debug)]
pub(crate) struct Stamping;

impl Stamping {
    pub(crate) fn new(_socket: &Arc<Socket>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// There is no portable way to them.
#[derive(Debug)]
pub(crate) struct RawIcmp(Infallible);

impl RawIcmp {
    pub(crate) fn open(_v6: bool) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[expect(clippy::unused_async, reason = "the same on every platform")]
    pub(crate) async fn recv(&self, _buffer: &mut [u8]) -> io::Result<RecvMeta> {
        match self.0 {}
    }
}

/// There are no ICMP errors to subscribe to.
#[derive(Debug)]
pub(crate) struct Subscription(Infallible);

impl Subscription {
    pub(crate) fn new(_socket: &Arc<Socket>, _alive: watch::Receiver<()>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[expect(clippy::unused_async, reason = "the same on every platform")]
    pub(crate) async fn recv(&mut self) -> Option<IcmpError> {
        match self.0 {}
    }

    pub(crate) fn missed(&self) -> u64 {
        match self.0 {}
    }
}
