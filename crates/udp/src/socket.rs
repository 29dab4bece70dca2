mod builder;
mod send;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use tokio::sync::watch;

pub(crate) use builder::Config;
pub use builder::UdpSocketBuilder;

use crate::{
    BatchCounters, Capabilities, DfMode, Error, IcmpError, MessageOptions, RecvBatch, RecvMeta,
    Tos, Transmit, imp,
};

/// A UDP socket that sends every datagram with its own [`MessageOptions`] and says of every datagram
/// that it receives what its IP header said.
///
/// It can be shared between threads: sending takes no lock, and a datagram's options never reach
/// another's. It costs one descriptor, and one more for each value of the DF bit that is asked for
/// on IPv4. They share the socket's address and port; all datagrams and ICMP errors arrive at the
/// first.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perpacket_udp::Error> {
/// use perpacket_udp::{Dscp, MessageOptions, UdpSocket};
///
/// let receiver = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
/// let sender = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
/// let voice = MessageOptions::default().with_ttl(10).with_dscp(Dscp::EF);
/// sender.send_to(b"hello", receiver.local_addr(), &voice).await?;
///
/// let mut buffer = [0; 1500];
/// let meta = receiver.recv_from(&mut buffer).await?;
/// assert_eq!(&buffer[..meta.len], b"hello");
/// if receiver.capabilities().recv_meta {
///     assert_eq!(meta.ttl, Some(10));
///     assert_eq!(meta.tos.map(|tos| tos.dscp()), Some(Dscp::EF));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UdpSocket {
    socket: Arc<imp::Socket>,
    /// Tells the subscriptions when the socket is gone; made for the first of them.
    alive: OnceLock<watch::Sender<()>>,
}

impl UdpSocket {
    fn new(socket: imp::Socket) -> Self {
        let socket = Arc::new(socket);
        imp::Socket::start(&socket);
        Self {
            socket,
            alive: OnceLock::new(),
        }
    }

    /// A socket bound to `address` with the defaults of [`UdpSocket::builder`]; port 0 takes any
    /// free port. To be called on a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// [`Error::Bind`] with the address and what the kernel said.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        Self::builder(address).bind()
    }

    /// A socket to be bound to `address`.
    #[must_use]
    pub fn builder(address: SocketAddr) -> UdpSocketBuilder {
        UdpSocketBuilder::new(address)
    }

    /// Takes over a socket that was bound elsewhere, by a service manager say. It is switched to
    /// non-blocking. It can share its port with no further descriptor, so the DF bit of IPv4 is
    /// switched under a lock: [`Capabilities::df_bit`] says so.
    ///
    /// # Errors
    /// [`Error::Configure`] if the kernel does not let its options be set.
    pub fn from_std(socket: std::net::UdpSocket) -> Result<Self, Error> {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let local = socket.local_addr().unwrap_or(unknown);
        let config = UdpSocketBuilder::new(local).config;
        imp::Socket::adopt(socket, &config)
            .map(Self::new)
            .map_err(|source| Error::Configure {
                operation: "take over the descriptor",
                local,
                source,
            })
    }

    /// The address that the socket is bound to.
    #[must_use]
    #[inline]
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// What the kernel lets this socket do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.socket.capabilities()
    }

    /// Whether TTL, TOS and DF of every datagram are what was asked for, as far as is known:
    /// [`capabilities`](Self::capabilities) in brief.
    #[must_use]
    #[inline]
    pub fn takes_all_options(&self) -> bool {
        self.socket.takes_all_options()
    }

    /// Receives one datagram into `buffer`. Dropping the future before it is done loses nothing.
    ///
    /// # Errors
    /// [`Error::Receive`] if the socket is broken. What the network says of datagrams that were sent
    /// is never an error here; [`icmp_errors`](Self::icmp_errors) has it.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> Result<RecvMeta, Error> {
        self.socket
            .recv(buffer)
            .await
            .map_err(|source| self.receive_error(source))
    }

    /// Receives one datagram without waiting: none there is an [`Error::Receive`] of the kind
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn try_recv_from(&self, buffer: &mut [u8]) -> Result<RecvMeta, Error> {
        self.socket
            .try_recv(buffer)
            .map_err(|source| self.receive_error(source))
    }

    /// Receives one datagram if the runtime knows already that there is one: what is worth a try before one waits with
    /// [`recv_from`](Self::recv_from), which may find one all the same.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    #[inline]
    pub fn try_recv_ready(&self, buffer: &mut [u8]) -> Result<Option<RecvMeta>, Error> {
        self.socket
            .recv_ready(buffer)
            .map_err(|source| self.receive_error(source))
    }

    /// Receives all datagrams that are there, and waits until there is one. Their number is in `batch`. Dropping the
    /// future before it is done loses nothing.
    ///
    /// Where the socket was not made for [`recv_batches`](UdpSocketBuilder::recv_batches), the kernel hands over each
    /// datagram by itself, but still several by one system call.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub async fn recv_batch(&self, batch: &mut RecvBatch) -> Result<(), Error> {
        self.socket
            .recv_batch(batch)
            .await
            .map_err(|source| self.receive_error(source))
    }

    /// Receives all datagrams that are there, without waiting: none there is an [`Error::Receive`] of the kind
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn try_recv_batch(&self, batch: &mut RecvBatch) -> Result<(), Error> {
        self.socket
            .try_recv_batch(batch)
            .map_err(|source| self.receive_error(source))
    }

    /// What the network says of this socket's datagrams, from now on until the subscription is
    /// dropped. There can be several. While there is one, the default DF mode costs one more
    /// descriptor too, because a socket that receives errors cannot be relied on for sending.
    ///
    /// The kernel passes over a "packet too big" where the socket itself never sets DF: after
    /// [`set_df_mode`](Self::set_df_mode) with [`DfMode::Dont`], or with `net.ipv4.ip_no_pmtu_disc` set
    /// (`ip(7)`).
    ///
    /// # Errors
    /// [`Error::Configure`] if the kernel has no such thing.
    pub fn icmp_errors(&self) -> Result<IcmpErrors, Error> {
        let alive = self.alive.get_or_init(|| watch::Sender::new(()));
        imp::Subscription::new(&self.socket, alive.subscribe())
            .map(|subscription| IcmpErrors { subscription })
            .map_err(|source| self.configure_error("subscribe to the ICMP errors", source))
    }

    /// When a probe left this host, where the kernel says so: what was sent
    /// [`with_probe`](Transmit::with_probe) under this number. It is known once anything can have come
    /// back; each time can be taken once, and only the last 1,024 are kept.
    #[must_use]
    pub fn sent_at(&self, probe: u32) -> Option<SystemTime> {
        self.socket.sent_at(probe)
    }

    /// The largest IP packet, bytes, that this host would have sent when it last refused a datagram that
    /// was sent [`with_probe`](Transmit::with_probe) with `EMSGSIZE`: the MTU of the interface.
    #[must_use]
    pub fn refused_mtu(&self) -> Option<u32> {
        self.socket.refused_mtu()
    }

    /// Has received datagrams and ICMP errors carry the kernel's time until the guard is dropped, as
    /// [`UdpSocketBuilder::timestamps`] has it for good.
    ///
    /// # Errors
    /// [`Error::Configure`] if the kernel has no such thing.
    pub fn timestamps(&self) -> Result<Timestamps, Error> {
        imp::Stamping::new(&self.socket)
            .map(|stamping| Timestamps {
                _stamping: stamping,
            })
            .map_err(|source| self.configure_error("ask for timestamps", source))
    }

    /// What the socket has gathered; `None` where it was not made for [`Batching`](crate::Batching).
    #[must_use]
    pub fn batch_counters(&self) -> Option<BatchCounters> {
        self.socket.batch_counters()
    }

    /// Has `f` called with every datagram that was queued and could not go out, and with what the kernel said. To be
    /// set once, before anything is sent: `false`, and nothing is changed, where it was set before or the socket was
    /// not made for [`Batching`](crate::Batching).
    pub fn on_dropped(
        &self,
        f: impl Fn(&Transmit<'_>, &std::io::Error) + Send + Sync + 'static,
    ) -> bool {
        self.socket.on_dropped(Box::new(f))
    }

    /// The TTL, or hop limit, of datagrams whose options leave it open.
    ///
    /// # Errors
    /// [`Error::Configure`] with what the kernel said.
    pub fn ttl(&self) -> Result<u8, Error> {
        self.socket
            .ttl()
            .map_err(|source| self.configure_error("get the TTL", source))
    }

    /// Changes the TTL, or hop limit, of datagrams whose options leave it open, 1..=255.
    ///
    /// # Errors
    /// [`Error::Options`] for 0; [`Error::Configure`] with what the kernel said.
    pub fn set_ttl(&self, ttl: u8) -> Result<(), Error> {
        MessageOptions::NONE.with_ttl(ttl).validate()?;
        self.socket
            .set_ttl(ttl)
            .map_err(|source| self.configure_error("set the TTL", source))
    }

    /// The TOS byte, or traffic class, of datagrams whose options leave it open.
    ///
    /// # Errors
    /// [`Error::Configure`] with what the kernel said.
    pub fn tos(&self) -> Result<Tos, Error> {
        self.socket
            .tos()
            .map_err(|source| self.configure_error("get the TOS", source))
    }

    /// Changes the TOS byte, or traffic class, of datagrams whose options leave it open.
    ///
    /// # Errors
    /// [`Error::Configure`] with what the kernel said.
    pub fn set_tos(&self, tos: Tos) -> Result<(), Error> {
        self.socket
            .set_tos(tos)
            .map_err(|source| self.configure_error("set the TOS", source))
    }

    /// What happens to the fragmentation of datagrams whose options leave it open.
    #[must_use]
    pub fn df_mode(&self) -> DfMode {
        self.socket.df_mode()
    }

    /// Changes what happens to the fragmentation of datagrams whose options leave it open.
    ///
    /// # Errors
    /// [`Error::Configure`] with what the kernel said.
    pub fn set_df_mode(&self, mode: DfMode) -> Result<(), Error> {
        self.socket
            .set_df_mode(mode)
            .map_err(|source| self.configure_error("set the DF mode", source))
    }

    fn receive_error(&self, source: std::io::Error) -> Error {
        Error::Receive {
            local: self.local_addr(),
            source,
        }
    }

    fn configure_error(&self, operation: &'static str, source: std::io::Error) -> Error {
        Error::Configure {
            operation,
            local: self.local_addr(),
            source,
        }
    }
}

impl Drop for UdpSocket {
    /// Sends what is queued, as far as there is room for it.
    fn drop(&mut self) {
        self.socket.end();
    }
}

/// Received datagrams carry the kernel's time as long as this lives: from [`UdpSocket::timestamps`].
#[derive(Debug)]
#[must_use = "dropping it turns the timestamps off"]
pub struct Timestamps {
    _stamping: imp::Stamping,
}

/// The ICMP errors of one socket, from [`UdpSocket::icmp_errors`].
///
/// They are read off the socket while either this or [`UdpSocket::recv_from`] is being awaited.
#[derive(Debug)]
pub struct IcmpErrors {
    subscription: imp::Subscription,
}

impl IcmpErrors {
    /// The next error; `None` once the socket is gone. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<IcmpError> {
        self.subscription.recv().await
    }

    /// How many errors were lost because they were not read in time.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.subscription.missed()
    }
}

/// A socket bound to `address`, made for [`send_with_options`]: [`UdpSocket::bind`] by another name.
///
/// # Errors
/// [`Error::Bind`] with the address and what the kernel said.
pub fn create_socket_for_per_message_options(address: SocketAddr) -> Result<UdpSocket, Error> {
    UdpSocket::bind(address)
}

/// Sends one datagram with options of its own: [`UdpSocket::send_to`] by another name.
///
/// # Errors
/// As [`UdpSocket::send_to`].
pub async fn send_with_options(
    socket: &UdpSocket,
    contents: &[u8],
    destination: SocketAddr,
    options: &MessageOptions,
) -> Result<usize, Error> {
    socket.send_to(contents, destination, options).await
}
