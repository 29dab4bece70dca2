use std::{fmt, str::FromStr};

use perpacket_udp::{Dscp, Ecn, OptionsError, Tos};
use serde::Serialize;

/// What a probe of a [`Qos`](crate::Qos) test is marked with: a DSCP and an ECN field.
///
/// It prints and parses as people write it: `EF`, `ect0`, `AF41+ect1`.
///
/// ```
/// use perpacket_path::Mark;
/// use perpacket_udp::{Dscp, Ecn};
///
/// assert_eq!("af41+ect1".parse::<Mark>()?, Mark::new(Dscp::AF41, Ecn::Ect1));
/// assert_eq!(Mark::from(Ecn::Ect0).to_string(), "ect0");
/// # Ok::<_, perpacket_udp::OptionsError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Mark {
    /// The upper six bits of the TOS byte.
    pub dscp: Dscp,
    /// The lower two bits.
    pub ecn: Ecn,
}

impl Mark {
    /// Best effort, what every other mark is compared with: CS0, not ECN-capable.
    pub const REFERENCE: Self = Self::new(Dscp::CS0, Ecn::NotEct);

    /// Both halves.
    #[must_use]
    pub const fn new(dscp: Dscp, ecn: Ecn) -> Self {
        Self { dscp, ecn }
    }

    /// The byte that carries it.
    #[must_use]
    pub const fn tos(self) -> Tos {
        Tos::new(self.dscp, self.ecn)
    }
}

impl From<Dscp> for Mark {
    fn from(dscp: Dscp) -> Self {
        Self::new(dscp, Ecn::NotEct)
    }
}

impl From<Ecn> for Mark {
    fn from(ecn: Ecn) -> Self {
        Self::new(Dscp::CS0, ecn)
    }
}

impl From<Tos> for Mark {
    fn from(tos: Tos) -> Self {
        Self::new(tos.dscp(), tos.ecn())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.dscp, self.ecn) {
            (dscp, Ecn::NotEct) => dscp.fmt(f),
            (Dscp::CS0, ecn) => ecn.fmt(f),
            (dscp, ecn) => f.pad(&format!("{dscp}+{ecn}")),
        }
    }
}

impl FromStr for Mark {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        if let Some((dscp, ecn)) = text.split_once('+') {
            return Ok(Self::new(dscp.parse()?, ecn.parse()?));
        }
        // A bare number is a DSCP; an ECN field alone has to be named.
        match text.parse::<Ecn>() {
            Ok(ecn) if !text.starts_with(|c: char| c.is_ascii_digit()) => Ok(ecn.into()),
            _ => Ok(text.parse::<Dscp>()?.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_reads_as_it_prints() {
        for byte in 0..=u8::MAX {
            let mark = Mark::from(Tos::from_byte(byte));
            assert_eq!(mark.to_string().parse(), Ok(mark));
            assert_eq!(mark.tos().byte(), byte);
        }
        assert_eq!(
            "2".parse(),
            Ok(Mark::new(Dscp::new(2).unwrap(), Ecn::NotEct))
        );
        assert!("AF41+".parse::<Mark>().is_err());
        assert!("AF99".parse::<Mark>().is_err());
    }
}
