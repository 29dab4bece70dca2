use std::{
    hash::{Hash, Hasher},
    net::SocketAddr,
};

/// What keeps datagrams in order: where they go, in the form that is hashed with the fewest steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    ip: [u64; 2],
    port_and_scope: u64,
}

impl From<&SocketAddr> for Destination {
    #[inline]
    fn from(address: &SocketAddr) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(v4) => ([0, v4.ip().to_bits().into()], 0),
            SocketAddr::V6(v6) => {
                let bits = v6.ip().to_bits();
                #[expect(clippy::cast_possible_truncation, reason = "half of it is meant")]
                let ip = [(bits >> 64) as u64, bits as u64];
                (ip, v6.scope_id())
            }
        };
        Self {
            ip,
            port_and_scope: u64::from(scope) << 16 | u64::from(address.port()),
        }
    }
}

impl Hash for Destination {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [upper, lower] = self.ip;
        for part in [upper, lower, self.port_and_scope] {
            state.write_u64(part);
        }
    }
}
