//! Where is sent from, and to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use socket2::SockRef;

/// How many receivers there are.
pub(crate) const SINKS: usize = 64;

/// An address to send from, and receivers.
///
/// Nobody reads what the receivers get, and they have the smallest buffer that there is: after the first datagram the
/// kernel drops what comes, which costs the sender the least, and the same at any time.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) from: IpAddr,
    pub(crate) to: Vec<SocketAddr>,
    _sinks: Vec<UdpSocket>,
}

impl Place {
    /// This host itself.
    ///
    /// # Errors
    /// When there are no sockets left.
    pub(crate) fn loopback(v6: bool) -> io::Result<Self> {
        let ip = if v6 {
            IpAddr::from(Ipv6Addr::LOCALHOST)
        } else {
            IpAddr::from(Ipv4Addr::LOCALHOST)
        };
        Self::new("loopback", ip, sinks(ip)?)
    }

    /// The other end of the link from 10.0.0.1 and `fd00::1`.
    pub(crate) fn veth(right: &perpacket_lab::Node, v6: bool) -> io::Result<Self> {
        let ends = if v6 {
            [1, 2].map(|end| IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, end)))
        } else {
            [1, 2].map(|end| IpAddr::from([10, 0, 0, end]))
        };
        let sinks = right.run(|| sinks(ends[1]))?;
        Self::new("veth", ends[0], sinks)
    }

    fn new(name: &'static str, from: IpAddr, sinks: Vec<UdpSocket>) -> io::Result<Self> {
        let to = sinks.iter().map(UdpSocket::local_addr);
        Ok(Self {
            name,
            from,
            to: to.collect::<Result<_, _>>()?,
            _sinks: sinks,
        })
    }

    /// Where a sender binds.
    pub(crate) fn from(&self) -> SocketAddr {
        SocketAddr::new(self.from, 0)
    }

    /// `v4` or `v6`.
    pub(crate) fn family(&self) -> &'static str {
        if self.from.is_ipv6() { "v6" } else { "v4" }
    }
}

fn sinks(ip: IpAddr) -> io::Result<Vec<UdpSocket>> {
    let sink = |_| {
        let sink = UdpSocket::bind((ip, 0))?;
        // The kernel raises it to the least that it allows (`socket(7)`).
        SockRef::from(&sink).set_recv_buffer_size(1)?;
        Ok(sink)
    };
    (0..SINKS).map(sink).collect()
}
