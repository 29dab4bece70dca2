use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

use perpacket_udp::UdpSocket;

/// Where the datagrams of a port leave this host.
pub(crate) trait Egress: fmt::Debug + Send + Sync {
    /// `None` once it is closed, or where nothing leads to that peer.
    fn towards(&self, peer: SocketAddr) -> Option<Exit>;

    fn is_open(&self) -> bool;
}

/// A socket, and what it has to be told for a datagram to take the same way as the session's.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) socket: ExitSocket,
    /// The source address to ask for.
    pub(crate) source: Option<IpAddr>,
    /// The peer as the kernel names it, with the scope of a link-local address.
    pub(crate) target: SocketAddr,
}

/// Keeps the socket open: not to be held for longer than a send takes.
#[derive(Debug)]
pub(crate) enum ExitSocket {
    Own(Arc<UdpSocket>),
    OneOf(Arc<Vec<UdpSocket>>, usize),
}

impl Deref for ExitSocket {
    type Target = UdpSocket;

    fn deref(&self) -> &UdpSocket {
        match self {
            Self::Own(socket) => socket,
            Self::OneOf(sockets, number) => &sockets[*number],
        }
    }
}

impl Exit {
    /// The address that the datagrams carry, as far as this host knows.
    pub(crate) fn local(&self) -> SocketAddr {
        let local = self.socket.local_addr();
        match self.source {
            Some(source) => SocketAddr::new(source, local.port()),
            None => local,
        }
    }
}
