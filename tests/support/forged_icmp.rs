//! ICMP errors about packets that were never sent, from whoever one likes.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder};
use perpacket_lab::Node;
use socket2::{Domain, Protocol, Socket, Type};

use super::hosts::Family;

/// What is claimed of a packet.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Expired,
    /// Larger than 68 bytes.
    TooBig,
    Unreachable,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Expired, Self::TooBig, Self::Unreachable];

    /// Type, code, and the four bytes that follow the checksum.
    fn fields(self, family: Family) -> (u8, u8, [u8; 4]) {
        match (self, family) {
            (Self::Expired, Family::V4) => (11, 0, [0; 4]),
            (Self::Expired, Family::V6) => (3, 0, [0; 4]),
            (Self::TooBig, Family::V4) => (3, 4, [0, 0, 0, 68]),
            (Self::TooBig, Family::V6) => (2, 0, [0, 0, 0, 68]),
            (Self::Unreachable, Family::V4) => (3, 1, [0; 4]),
            (Self::Unreachable, Family::V6) => (1, 3, [0; 4]),
        }
    }
}

/// Somebody who can say that it is anybody.
pub(crate) struct Forger {
    socket: Socket,
    family: Family,
}

impl Forger {
    pub(crate) fn new(node: &Node, family: Family) -> Result<Self> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let socket = node.run(|| Socket::new(domain, Type::RAW, Some(raw)))?;
        Ok(Self { socket, family })
    }

    /// Claims something of a packet with this payload.
    pub(crate) fn send(
        &self,
        kind: Kind,
        liar: IpAddr,
        (source, destination): (SocketAddr, SocketAddr),
        payload: &[u8],
    ) -> Result<()> {
        let mut quote = Vec::new();
        let udp = |ip: etherparse::PacketBuilderStep<IpHeaders>| {
            ip.udp(source.port(), destination.port())
        };
        udp(PacketBuilder::ip(header(source.ip(), destination.ip()))).write(&mut quote, payload)?;
        let (kind, code, rest) = kind.fields(self.family);
        let ip = PacketBuilder::ip(header(liar, source.ip()));
        let mut packet = Vec::new();
        match self.family {
            Family::V4 => ip.icmpv4_raw(kind, code, rest).write(&mut packet, &quote)?,
            Family::V6 => ip.icmpv6_raw(kind, code, rest).write(&mut packet, &quote)?,
        }
        let to = SocketAddr::new(source.ip(), 0);
        self.socket.send_to(&packet, &to.into())?;
        Ok(())
    }
}

fn header(from: IpAddr, to: IpAddr) -> IpHeaders {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => IpHeaders::Ipv4(
            Ipv4Header {
                time_to_live: 60,
                protocol: IpNumber::UDP,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv4Header::default()
            },
            etherparse::Ipv4Extensions::default(),
        ),
        (IpAddr::V6(from), IpAddr::V6(to)) => IpHeaders::Ipv6(
            Ipv6Header {
                hop_limit: 60,
                next_header: IpNumber::UDP,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            },
            etherparse::Ipv6Extensions::default(),
        ),
        _ => unreachable!("one family"),
    }
}
