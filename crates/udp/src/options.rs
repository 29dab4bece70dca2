use std::net::{IpAddr, SocketAddr};

use crate::{Dscp, Ecn, OptionsError, Tos};

/// What the IP header of one datagram says. What is `None` is left to the socket's own settings.
///
/// ```
/// use perpacket_udp::{Dscp, MessageOptions};
///
/// let probe = MessageOptions { ttl: Some(10), df_bit: Some(true), ..Default::default() };
/// let voice = MessageOptions::default().with_dscp(Dscp::EF);
/// assert_eq!(probe.or(voice).tos_byte(), Some(184));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(
        default,
        try_from = "crate::json::Options",
        into = "crate::json::Options"
    )
)]
pub struct MessageOptions {
    /// Time to live, or hop limit: how many routers may forward the datagram, 1..=255.
    pub ttl: Option<u8>,
    /// Whether the datagram may be fragmented: `true` forbids it, on IPv4 with the DF bit, and one
    /// that is larger than the interface's MTU is refused with `EMSGSIZE`. IPv6 has no such bit
    /// (RFC 8200 §4.5: only the sender fragments), `true` forbids fragmenting here.
    pub df_bit: Option<bool>,
    /// The whole TOS byte, or traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub tos: Option<u8>,
    /// The DSCP alone. It takes the place of the DSCP in `tos`, and leaves ECN as it is.
    pub dscp: Option<Dscp>,
    /// The ECN field alone. It takes the place of the ECN in `tos`, and leaves DSCP as it is.
    pub ecn: Option<Ecn>,
    /// The address to send from, one of this host's.
    pub source: Option<IpAddr>,
    /// The flow label of IPv6, 0..=0xfffff (RFC 6437). IPv4 has none: there it is ignored.
    pub flow_label: Option<u32>,
}

impl MessageOptions {
    /// Nothing set: the datagram goes out as the socket would send it.
    pub const NONE: Self = Self {
        ttl: None,
        df_bit: None,
        tos: None,
        dscp: None,
        ecn: None,
        source: None,
        flow_label: None,
    };

    /// The same with this TTL, or hop limit.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: u8) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The same with this DF bit.
    #[must_use]
    pub const fn with_df_bit(mut self, df_bit: bool) -> Self {
        self.df_bit = Some(df_bit);
        self
    }

    /// The same with this TOS byte. It takes the place of a DSCP and an ECN that were set alone.
    #[must_use]
    pub const fn with_tos(mut self, tos: u8) -> Self {
        self.tos = Some(tos);
        self.dscp = None;
        self.ecn = None;
        self
    }

    /// The same with this DSCP; ECN stays what it was.
    #[must_use]
    pub const fn with_dscp(mut self, dscp: Dscp) -> Self {
        self.dscp = Some(dscp);
        self
    }

    /// The same with this ECN field; DSCP stays what it was.
    #[must_use]
    pub const fn with_ecn(mut self, ecn: Ecn) -> Self {
        self.ecn = Some(ecn);
        self
    }

    /// The same, sent from this address.
    #[must_use]
    pub const fn with_source(mut self, source: IpAddr) -> Self {
        self.source = Some(source);
        self
    }

    /// The same with this flow label.
    #[must_use]
    pub const fn with_flow_label(mut self, flow_label: u32) -> Self {
        self.flow_label = Some(flow_label);
        self
    }

    /// Whether nothing is set.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Fills what is unset from `fallback`, field by field.
    ///
    /// DSCP and ECN are fields of their own here: a `tos` decides both, but an `ecn` alone leaves
    /// the DSCP to the fallback, and the other way round.
    #[must_use]
    #[inline]
    pub fn or(self, fallback: Self) -> Self {
        let (dscp, ecn) = match self.tos {
            Some(_) => (self.dscp, self.ecn),
            None => (self.dscp.or(fallback.dscp), self.ecn.or(fallback.ecn)),
        };
        Self {
            ttl: self.ttl.or(fallback.ttl),
            df_bit: self.df_bit.or(fallback.df_bit),
            tos: self.tos.or(fallback.tos),
            dscp,
            ecn,
            source: self.source.or(fallback.source),
            flow_label: self.flow_label.or(fallback.flow_label),
        }
    }

    /// The TOS byte that goes out: `tos`, with `dscp` and `ecn` in their places. `None` if none of
    /// the three is set. What is set neither way is 0; see [`tos_byte_over`](Self::tos_byte_over).
    #[must_use]
    #[inline]
    pub fn tos_byte(&self) -> Option<u8> {
        self.tos_byte_over(Tos::default())
    }

    /// The same, where the socket's own TOS byte supplies the half that is not set.
    #[must_use]
    #[inline]
    pub fn tos_byte_over(&self, socket: Tos) -> Option<u8> {
        if self.tos.is_none() && self.dscp.is_none() && self.ecn.is_none() {
            return None;
        }
        let base = self.tos.map_or(socket, Tos::from_byte);
        Some(
            Tos::new(
                self.dscp.unwrap_or(base.dscp()),
                self.ecn.unwrap_or(base.ecn()),
            )
            .byte(),
        )
    }

    /// Checks every value that is set, so that what the kernel would misread never reaches it: Linux
    /// sends a hop limit of 0 as it is.
    ///
    /// # Errors
    /// An [`OptionsError`] that names the field, the value and the range.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if self.ttl == Some(0) {
            return Err(OptionsError::OutOfRange {
                field: "ttl",
                value: 0,
                range: "1..=255",
            });
        }
        if let Some(label) = self.flow_label.filter(|label| *label > 0xf_ffff) {
            return Err(OptionsError::OutOfRange {
                field: "flow_label",
                value: i64::from(label),
                range: "0..=1048575",
            });
        }
        match self.source {
            Some(address) if !is_unicast(address.to_canonical()) => {
                Err(OptionsError::SourceNotUnicast { address })
            }
            _ => Ok(()),
        }
    }

    /// The same, and whether the source can be that of a datagram to `destination`.
    ///
    /// # Errors
    /// An [`OptionsError`] that names the field, the value and the range.
    #[inline]
    pub fn validate_for(&self, destination: SocketAddr) -> Result<(), OptionsError> {
        if self.ttl != Some(0) && self.flow_label.is_none() && self.source.is_none() {
            return Ok(());
        }
        self.validate_all_for(destination)
    }

    fn validate_all_for(&self, destination: SocketAddr) -> Result<(), OptionsError> {
        self.validate()?;
        match self.source {
            Some(address)
                if address.to_canonical().is_ipv4()
                    != destination.ip().to_canonical().is_ipv4() =>
            {
                Err(OptionsError::SourceFamily {
                    address,
                    destination,
                })
            }
            _ => Ok(()),
        }
    }
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn or_fills_field_by_field() {
        let upper = MessageOptions::NONE.with_ttl(10).with_ecn(Ecn::Ect0);
        let lower = MessageOptions::NONE
            .with_ttl(64)
            .with_df_bit(true)
            .with_tos(0xb9)
            .with_flow_label(7);
        let both = upper.or(lower);
        assert_eq!(
            (both.ttl, both.df_bit, both.flow_label),
            (Some(10), Some(true), Some(7))
        );
        assert_eq!(
            both.tos_byte(),
            Some(0xba),
            "the DSCP of the lower, the ECN of the upper"
        );
        assert_eq!(
            lower.or(upper).tos_byte(),
            Some(0xb9),
            "a whole TOS byte decides both halves"
        );
        assert_eq!(MessageOptions::NONE.or(lower), lower);
        assert_eq!(lower.or(MessageOptions::NONE), lower);
    }

    #[test]
    fn dscp_and_ecn_never_erase_each_other() {
        for byte in 0..=u8::MAX {
            let tos = Tos::from_byte(byte);
            let parts = MessageOptions::NONE
                .with_dscp(tos.dscp())
                .with_ecn(tos.ecn());
            assert_eq!(parts.tos_byte(), Some(byte));
            let whole = MessageOptions::NONE.with_tos(byte);
            assert_eq!(whole.with_ecn(Ecn::Ce).tos_byte(), Some(byte | 3));
            assert_eq!(
                whole.with_dscp(Dscp::EF).tos_byte(),
                Some(0b1011_1000 | byte & 3)
            );
            let ecn_alone = MessageOptions::NONE.with_ecn(Ecn::Ect0);
            assert_eq!(
                ecn_alone.tos_byte_over(tos),
                Some(byte & 0xfc | 2),
                "over the socket's own"
            );
        }
        assert_eq!(MessageOptions::NONE.tos_byte_over(Tos::from_byte(8)), None);
    }

    #[test]
    fn what_the_kernel_would_misread_is_refused() {
        let text = |options: MessageOptions| options.validate().expect_err("refused").to_string();
        assert_eq!(
            text(MessageOptions::NONE.with_ttl(0)),
            "ttl: 0 is out of range, allowed is 1..=255"
        );
        assert!(text(MessageOptions::NONE.with_flow_label(1 << 20)).contains("1048576"));
        for source in [
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:0.0.0.0",
        ] {
            let source: IpAddr = source.parse().expect("an address");
            assert!(text(MessageOptions::NONE.with_source(source)).contains(&source.to_string()));
        }
        let v4 = MessageOptions::NONE.with_source("10.0.0.1".parse().expect("an address"));
        assert!(
            v4.validate_for("[fd00::1]:9".parse().expect("an address"))
                .is_err()
        );
        assert!(
            v4.validate_for("[::ffff:10.0.0.2]:9".parse().expect("an address"))
                .is_ok()
        );
        assert!(
            v4.validate_for("10.0.0.2:9".parse().expect("an address"))
                .is_ok()
        );
    }
}
