use std::net::SocketAddr;

use perpacket_udp::IcmpError;

use crate::{DropCause, PacketClass, SessionId};

/// Something that an application may want to know at once, from
/// [`CustomNet::events`](crate::CustomNet::events). Nothing of it reaches the peer connection, to
/// which a datagram that could not go out looks like one that the network lost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A datagram was dropped here.
    Dropped {
        /// The session of the connection, if it is of one.
        session: Option<SessionId>,
        /// The connection's address.
        local: SocketAddr,
        /// Whom it was for, or whom it came from.
        peer: SocketAddr,
        /// What it was.
        class: PacketClass,
        /// Its length in bytes.
        length: usize,
        /// Why.
        cause: DropCause,
    },
    /// A datagram was larger than the path carries by [`Session::set_path_mtu`](crate::Session::set_path_mtu):
    /// it went out with DF 0.
    Oversize {
        /// The session of the connection.
        session: Option<SessionId>,
        /// The connection's address.
        local: SocketAddr,
        /// Whom it was for.
        peer: SocketAddr,
        /// What it was.
        class: PacketClass,
        /// Its length in bytes.
        length: usize,
        /// The path MTU that was set, bytes of IP packet.
        mtu: u32,
    },
    /// The network said that a datagram did not arrive. Anyone can forge this.
    Icmp {
        /// The session of the connection, if it is of one.
        session: Option<SessionId>,
        /// The connection's address.
        local: SocketAddr,
        /// What was said.
        error: IcmpError,
    },
    /// A socket cannot receive at the moment. It is tried again until it is closed.
    ReceiveFailed {
        /// The session of the connection, if it is of one.
        session: Option<SessionId>,
        /// The connection's address.
        local: SocketAddr,
        /// What the kernel said.
        error: String,
    },
}
