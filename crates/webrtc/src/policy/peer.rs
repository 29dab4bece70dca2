use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

/// One name for one peer: an IPv4 address is the same in v4-mapped form, and neither flow label nor
/// scope tells peers apart, because candidates in a session description have none.
pub(crate) fn key(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => peer,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => (v4, v6.port()).into(),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0).into(),
        },
    }
}

/// Whether an address is one of IPv4, which can be v4-mapped.
#[inline]
pub(crate) fn is_v4(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(v6) => v6.ip().to_ipv4_mapped().is_some(),
    }
}

/// What [`key`] keeps of an address, in the form that is compared and hashed with the fewest steps: an
/// IPv4 address is v4-mapped (RFC 4291 §2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PeerKey {
    /// The upper and the lower half of the address.
    pub(super) ip: [u64; 2],
    pub(super) port: u16,
}

/// `::ffff:0:0/96`.
const MAPPED: u64 = 0xffff << 32;

impl From<SocketAddr> for PeerKey {
    #[inline]
    fn from(peer: SocketAddr) -> Self {
        Self::from(&peer)
    }
}

impl From<&SocketAddr> for PeerKey {
    #[inline]
    fn from(peer: &SocketAddr) -> Self {
        match peer {
            SocketAddr::V4(v4) => Self {
                ip: [0, MAPPED | u64::from(v4.ip().to_bits())],
                port: v4.port(),
            },
            SocketAddr::V6(v6) => {
                let bits = v6.ip().to_bits();
                #[expect(clippy::cast_possible_truncation, reason = "half of it is meant")]
                let ip = [(bits >> 64) as u64, bits as u64];
                let port = v6.port();
                Self { ip, port }
            }
        }
    }
}

impl From<PeerKey> for SocketAddr {
    fn from(PeerKey { ip, port }: PeerKey) -> Self {
        let [upper, lower] = ip.map(u128::from);
        let address = Ipv6Addr::from_bits(upper << 64 | lower);
        key((address, port).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_the_same_peers_apart() {
        let peers = [
            "192.0.2.1:5",
            "192.0.2.1:6",
            "[::ffff:192.0.2.1]:5",
            "0.0.0.0:0",
            "[::]:0",
            "[2001:db8::1]:5",
            "[2001:db8::1%7]:5",
            "[2001:db8:0:1::1]:5",
            "[fe80::1%3]:65535",
            "[::192.0.2.1]:5",
        ]
        .map(|text| text.parse::<SocketAddr>().expect("an address"));
        for one in peers {
            assert_eq!(SocketAddr::from(PeerKey::from(one)), key(one));
            for other in peers {
                let same = PeerKey::from(one) == PeerKey::from(other);
                assert_eq!(same, key(one) == key(other), "{one} {other}");
            }
        }
    }
}
