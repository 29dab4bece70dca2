use std::{fmt, net::Ipv4Addr};

use crate::OptionsError;

/// The options of an IPv4 header (RFC 791 §3.1), at most 40 bytes: `IP_OPTIONS` of `ip(7)`, for one
/// datagram.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpOptions {
    bytes: [u8; Self::CAPACITY],
    length: u8,
}

const RECORD_ROUTE: u8 = 7;

impl IpOptions {
    /// The most bytes that a header has room for.
    pub const CAPACITY: usize = 40;

    /// Options as they stand in the header. The kernel checks their inner form and refuses with
    /// `EINVAL` what is malformed.
    ///
    /// # Errors
    /// [`OptionsError::IpOptionsTooLong`] above 40 bytes.
    pub fn from_bytes(options: &[u8]) -> Result<Self, OptionsError> {
        let too_long = || OptionsError::IpOptionsTooLong {
            length: options.len(),
        };
        let mut bytes = [0; Self::CAPACITY];
        bytes
            .get_mut(..options.len())
            .ok_or_else(too_long)?
            .copy_from_slice(options);
        let length = u8::try_from(options.len()).map_err(|_| too_long())?;
        Ok(Self { bytes, length })
    }

    /// Asks up to nine routers to write their address into the header (record route).
    #[must_use]
    pub fn record_route() -> Self {
        const SLOTS: u8 = 9;
        let mut bytes = [0; Self::CAPACITY];
        // Type, length, pointer to the first free slot, counted from 1.
        bytes[..3].copy_from_slice(&[RECORD_ROUTE, 3 + 4 * SLOTS, 4]);
        Self {
            bytes,
            length: 4 * (SLOTS + 1),
        }
    }

    /// The options as they stand in the header.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The addresses that routers have written into a record route, in the order of the path.
    #[must_use]
    pub fn recorded_route(&self) -> Vec<Ipv4Addr> {
        let mut rest = self.as_bytes();
        while let [kind, ..] = rest {
            let length = match (kind, rest) {
                (0, _) => break,
                (1, _) => 1,
                (_, [_, length, ..]) if *length >= 2 => usize::from(*length),
                _ => break,
            };
            let Some(option) = rest.get(..length) else {
                break;
            };
            if let [RECORD_ROUTE, _, next, slots @ ..] = option {
                let written = usize::from(*next).saturating_sub(4) / 4;
                return slots
                    .chunks_exact(4)
                    .take(written)
                    .map(|s| [s[0], s[1], s[2], s[3]].into())
                    .collect();
            }
            rest = &rest[length..];
        }
        Vec::new()
    }
}

impl fmt::Debug for IpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IpOptions").field(&self.as_bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_route_is_read_back() {
        assert!(IpOptions::record_route().recorded_route().is_empty());
        let mut bytes = IpOptions::record_route().as_bytes().to_vec();
        bytes[2] = 12;
        bytes[3..11].copy_from_slice(&[10, 0, 0, 1, 10, 0, 1, 1]);
        // The same behind a no-operation, in place of the end-of-list that pads it.
        bytes.rotate_right(1);
        bytes[0] = 1;
        let options = IpOptions::from_bytes(&bytes).expect("40 bytes");
        let route = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 1, 1)];
        assert_eq!(options.recorded_route(), route);
        // An option that runs past the end is not believed.
        bytes[2] = 40;
        let options = IpOptions::from_bytes(&bytes).expect("40 bytes");
        assert!(options.recorded_route().is_empty());
    }

    #[test]
    fn any_bytes_are_survived() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let options =
                    IpOptions::from_bytes(&[first, second, 255, 9, 9, 9, 9]).expect("short");
                assert!(options.recorded_route().len() <= 1);
            }
        }
        assert!(IpOptions::from_bytes(&[0; 41]).is_err());
    }
}
