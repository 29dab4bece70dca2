use std::{fmt, str::FromStr};

use crate::OptionsError;

/// A differentiated services code point: the upper six bits of the TOS byte (RFC 2474 §3).
///
/// Parses from its name in any case (`"EF"`, `"af41"`, `"CS0"`, `"LE"`) or from its number, and
/// prints the name where there is one.
///
/// ```
/// use perpacket_udp::Dscp;
/// assert_eq!("ef".parse::<Dscp>()?, Dscp::EF);
/// assert_eq!(Dscp::EF.value(), 46);
/// assert_eq!(Dscp::AF41.to_string(), "AF41");
/// # Ok::<_, perpacket_udp::OptionsError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dscp(u8);

macro_rules! code_points {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl Dscp {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The code points that have a name, with it.
            pub const NAMED: &'static [(&'static str, Self)] = &[$((stringify!($name), Self::$name),)*];
        }
    };
}

code_points! {
    /// Class selector 0, the default: best effort (RFC 2474 §4.1).
    CS0 = 0,
    /// Lower effort, below best effort (RFC 8622).
    LE = 1,
    /// Class selector 1 (RFC 2474 §4.2.2).
    CS1 = 8,
    /// Assured forwarding, class 1, low drop precedence (RFC 2597 §6).
    AF11 = 10,
    /// Assured forwarding, class 1, medium drop precedence (RFC 2597 §6).
    AF12 = 12,
    /// Assured forwarding, class 1, high drop precedence (RFC 2597 §6).
    AF13 = 14,
    /// Class selector 2 (RFC 2474 §4.2.2).
    CS2 = 16,
    /// Assured forwarding, class 2, low drop precedence (RFC 2597 §6).
    AF21 = 18,
    /// Assured forwarding, class 2, medium drop precedence (RFC 2597 §6).
    AF22 = 20,
    /// Assured forwarding, class 2, high drop precedence (RFC 2597 §6).
    AF23 = 22,
    /// Class selector 3 (RFC 2474 §4.2.2).
    CS3 = 24,
    /// Assured forwarding, class 3, low drop precedence (RFC 2597 §6).
    AF31 = 26,
    /// Assured forwarding, class 3, medium drop precedence (RFC 2597 §6).
    AF32 = 28,
    /// Assured forwarding, class 3, high drop precedence (RFC 2597 §6).
    AF33 = 30,
    /// Class selector 4 (RFC 2474 §4.2.2).
    CS4 = 32,
    /// Assured forwarding, class 4, low drop precedence (RFC 2597 §6).
    AF41 = 34,
    /// Assured forwarding, class 4, medium drop precedence (RFC 2597 §6).
    AF42 = 36,
    /// Assured forwarding, class 4, high drop precedence (RFC 2597 §6).
    AF43 = 38,
    /// Class selector 5 (RFC 2474 §4.2.2).
    CS5 = 40,
    /// Capacity-admitted traffic (RFC 5865).
    VA = 44,
    /// Expedited forwarding (RFC 3246).
    EF = 46,
    /// Class selector 6, network control (RFC 2474 §4.2.2).
    CS6 = 48,
    /// Class selector 7 (RFC 2474 §4.2.2).
    CS7 = 56,
}

impl Dscp {
    /// The code point with this number, 0..=63.
    ///
    /// # Errors
    /// [`OptionsError::OutOfRange`] for a number that does not fit in six bits.
    pub const fn new(value: u8) -> Result<Self, OptionsError> {
        if value < 64 {
            Ok(Self(value))
        } else {
            Err(OptionsError::OutOfRange {
                field: "dscp",
                value: value as i64,
                range: "0..=63",
            })
        }
    }

    /// The number, 0..=63.
    #[must_use]
    #[inline]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, dscp)| dscp == self) {
            Some((name, _)) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl FromStr for Dscp {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        if let Some((_, dscp)) = Self::NAMED
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
        {
            return Ok(*dscp);
        }
        let unknown = || OptionsError::Unknown {
            field: "dscp",
            value: text.to_owned(),
            expected: "a number 0..=63 or a name: CS0 to CS7, AF11 to AF43, EF, VA, LE",
        };
        let value: i64 = text.parse().map_err(|_| unknown())?;
        u8::try_from(value)
            .map_err(|_| OptionsError::OutOfRange {
                field: "dscp",
                value,
                range: "0..=63",
            })
            .and_then(Self::new)
    }
}

/// Explicit congestion notification: the lower two bits of the TOS byte (RFC 3168 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecn {
    /// Not ECN-capable transport, `00`. The default.
    #[default]
    NotEct,
    /// ECN-capable transport 1, `01`: for scalable congestion control only (RFC 9331 §4).
    Ect1,
    /// ECN-capable transport 0, `10`.
    Ect0,
    /// Congestion experienced, `11`: set by the network. A sender that originates it lies to its
    /// peer's congestion control, so keep it to experiments.
    Ce,
}

impl Ecn {
    /// The field with these two bits; higher bits are ignored.
    #[must_use]
    #[inline]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The two bits, 0..=3.
    #[must_use]
    #[inline]
    pub const fn bits(self) -> u8 {
        match self {
            Self::NotEct => 0b00,
            Self::Ect1 => 0b01,
            Self::Ect0 => 0b10,
            Self::Ce => 0b11,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::NotEct => "not-ect",
            Self::Ect1 => "ect1",
            Self::Ect0 => "ect0",
            Self::Ce => "ce",
        }
    }
}

impl fmt::Display for Ecn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Ecn {
    type Err = OptionsError;

    /// Takes the names that `Display` prints, in any case, and the numbers 0..=3.
    fn from_str(text: &str) -> Result<Self, OptionsError> {
        (0..4)
            .map(Self::from_bits)
            .find(|ecn| ecn.name().eq_ignore_ascii_case(text) || ecn.bits().to_string() == text)
            .ok_or_else(|| OptionsError::Unknown {
                field: "ecn",
                value: text.to_owned(),
                expected: "not-ect, ect0, ect1, ce, or 0..=3",
            })
    }
}

/// The TOS byte of IPv4, the traffic class of IPv6: [`Dscp`] and [`Ecn`] in one byte
/// (RFC 2474 §3, RFC 3168 §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tos(u8);

impl Tos {
    /// The byte that carries both.
    #[must_use]
    #[inline]
    pub const fn new(dscp: Dscp, ecn: Ecn) -> Self {
        Self(dscp.0 << 2 | ecn.bits())
    }

    /// The byte as it stands in the header.
    #[must_use]
    #[inline]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte as it stands in the header.
    #[must_use]
    #[inline]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The upper six bits.
    #[must_use]
    #[inline]
    pub const fn dscp(self) -> Dscp {
        Dscp(self.0 >> 2)
    }

    /// The lower two bits.
    #[must_use]
    #[inline]
    pub const fn ecn(self) -> Ecn {
        Ecn::from_bits(self.0)
    }
}

impl From<u8> for Tos {
    fn from(byte: u8) -> Self {
        Self(byte)
    }
}

impl From<Tos> for u8 {
    fn from(tos: Tos) -> Self {
        tos.0
    }
}

impl fmt::Display for Tos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} ({}, {})", self.0, self.dscp(), self.ecn())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_splits_and_composes() {
        for byte in 0..=u8::MAX {
            let tos = Tos::from_byte(byte);
            assert_eq!(Tos::new(tos.dscp(), tos.ecn()).byte(), byte);
            assert_eq!(tos.dscp().to_string().parse::<Dscp>(), Ok(tos.dscp()));
            assert_eq!(tos.ecn().to_string().parse::<Ecn>(), Ok(tos.ecn()));
        }
    }

    #[test]
    fn names_are_the_registered_numbers() {
        // IANA, Differentiated Services Field Codepoints.
        for (name, number) in [
            ("CS5", 40),
            ("AF13", 14),
            ("AF43", 38),
            ("EF", 46),
            ("VA", 44),
            ("LE", 1),
        ] {
            assert_eq!(name.parse::<Dscp>().map(Dscp::value), Ok(number));
        }
        for class in 1..=4u8 {
            for drop in 1..=3u8 {
                let name = format!("AF{class}{drop}");
                assert_eq!(
                    name.parse::<Dscp>().map(Dscp::value),
                    Ok(8 * class + 2 * drop)
                );
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for text in ["64", "-1", "70000", "AF44", ""] {
            let error = text.parse::<Dscp>().expect_err(text).to_string();
            assert!(
                error.starts_with("dscp: ") && error.contains(text),
                "{error}"
            );
        }
        assert!("4".parse::<Ecn>().is_err());
    }
}
