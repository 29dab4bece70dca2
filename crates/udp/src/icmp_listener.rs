use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::SystemTime,
};

use crate::{QuotedError, imp};

/// The largest ICMP error: RFC 1812 §4.3.2.3 and RFC 4443 §2.4 keep them below 576 and 1,280 bytes,
/// but not every router does.
const BUFFER: usize = 4096;

/// Hears every ICMP error that comes to this host, with the header of the packet that it quotes: what
/// that packet looked like where it was dropped.
///
/// It needs `CAP_NET_RAW`. What an ordinary user can have is
/// [`UdpSocket::icmp_errors`](crate::UdpSocket::icmp_errors), without the quoted header.
#[derive(Debug)]
pub struct IcmpListener {
    socket: imp::RawIcmp,
    v6: bool,
}

impl IcmpListener {
    /// Listens for ICMP, or for `ICMPv6`, by the family of `address`. To be called on a tokio runtime
    /// with I/O enabled.
    ///
    /// # Errors
    /// [`PermissionDenied`](io::ErrorKind::PermissionDenied) without `CAP_NET_RAW`;
    /// [`Unsupported`](io::ErrorKind::Unsupported) on systems without such a socket.
    pub fn open(address: IpAddr) -> io::Result<Self> {
        let v6 = address.to_canonical().is_ipv6();
        Ok(Self {
            socket: imp::RawIcmp::open(v6)?,
            v6,
        })
    }

    /// The next error about a UDP datagram. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn recv(&self) -> io::Result<QuotedError> {
        let mut buffer = [0; BUFFER];
        loop {
            let meta = self.socket.recv(&mut buffer).await?;
            let message = &buffer[..meta.len];
            let at = meta.timestamp.unwrap_or_else(SystemTime::now);
            let error = match meta.source.ip() {
                IpAddr::V6(from) if self.v6 => QuotedError::parse_v6(message, from, meta.ttl, at),
                _ => QuotedError::parse_v4(message, at),
            };
            if let Some(error) = error {
                return Ok(error);
            }
        }
    }

    /// The address to [`open`](Self::open) it with for IPv4.
    pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    /// The address to [`open`](Self::open) it with for IPv6.
    pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
}
