use std::net::SocketAddr;

use super::UdpSocket;
use crate::{Batching, DfMode, Error, imp};

/// How a [`UdpSocket`] is to be made.
#[derive(Clone, Debug)]
pub struct UdpSocketBuilder {
    pub(super) config: Config,
}

/// What a builder has gathered.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) address: SocketAddr,
    pub(crate) only_v6: bool,
    pub(crate) timestamps: bool,
    pub(crate) recv_batches: bool,
    pub(crate) batching: Option<Batching>,
    pub(crate) df_on: DfMode,
    pub(crate) df_off: DfMode,
    pub(crate) recv_buffer: Option<usize>,
    pub(crate) send_buffer: Option<usize>,
}

impl UdpSocketBuilder {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            config: Config {
                address,
                only_v6: false,
                timestamps: false,
                recv_batches: false,
                batching: None,
                df_on: DfMode::Probe,
                df_off: DfMode::Omit,
                recv_buffer: None,
                send_buffer: None,
            },
        }
    }

    /// Whether an IPv6 socket on the wildcard address leaves IPv4 alone (`IPV6_V6ONLY`). By default
    /// it is dual-stack, and sees IPv4 peers as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn only_v6(mut self, only_v6: bool) -> Self {
        self.config.only_v6 = only_v6;
        self
    }

    /// Whether received datagrams carry the kernel's [`RecvMeta::timestamp`](crate::RecvMeta::timestamp). Off by default.
    #[must_use]
    pub fn timestamps(mut self, timestamps: bool) -> Self {
        self.config.timestamps = timestamps;
        self
    }

    /// Whether the socket receives as many datagrams by one system call as there are (`recvmmsg(2)`), and takes
    /// runs of them that the kernel has put together (`UDP_GRO`, `udp(7)`): what many of them cost is a fifth then.
    /// Off by default, because it pays only where several come at a time.
    ///
    /// [`UdpSocket::recv_batch`] hands them out together, in storage of the caller's;
    /// [`UdpSocket::recv_from`] one by one, which copies those that have to wait. All datagrams of a run have
    /// one [`RecvMeta::timestamp`](crate::RecvMeta::timestamp).
    #[must_use]
    pub fn recv_batches(mut self, batches: bool) -> Self {
        self.config.recv_batches = batches;
        self
    }

    /// Gathers what is sent, and sends it with few system calls: see [`Batching`]. Off by default, because the
    /// result of a send says then only that a datagram was queued. Linux alone has it: elsewhere it changes nothing.
    #[must_use]
    pub fn batching(mut self, batching: Batching) -> Self {
        self.config.batching = Some(batching);
        self
    }

    /// What `df_bit: true` means on IPv4: [`DfMode::Probe`] by default; [`DfMode::Do`] where the
    /// kernel should refuse what is above the path MTU that it has heard of.
    #[must_use]
    pub fn df_on(mut self, mode: DfMode) -> Self {
        self.config.df_on = mode;
        self
    }

    /// What `df_bit: false` means on IPv4: [`DfMode::Omit`] by default, which forged ICMP messages
    /// cannot make fragment; [`DfMode::Dont`] where the kernel should fragment to the path MTU that
    /// it has heard of.
    #[must_use]
    pub fn df_off(mut self, mode: DfMode) -> Self {
        self.config.df_off = mode;
        self
    }

    /// The size of the receive buffer in bytes (`SO_RCVBUF`, `socket(7)`).
    ///
    /// [`UdpSocket::icmp_errors`] makes it larger where it is small, because errors that wait are counted
    /// against it too.
    #[must_use]
    pub fn recv_buffer(mut self, bytes: usize) -> Self {
        self.config.recv_buffer = Some(bytes);
        self
    }

    /// The size of the send buffer in bytes (`SO_SNDBUF`, `socket(7)`).
    #[must_use]
    pub fn send_buffer(mut self, bytes: usize) -> Self {
        self.config.send_buffer = Some(bytes);
        self
    }

    /// Makes the socket. To be called on a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// [`Error::Bind`] with the address and what the kernel said.
    pub fn bind(self) -> Result<UdpSocket, Error> {
        let address = self.config.address;
        imp::Socket::bind(&self.config)
            .map(UdpSocket::new)
            .map_err(|source| Error::Bind { address, source })
    }
}
