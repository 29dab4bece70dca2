//! What routers do to the TOS byte.

use serde::Deserialize;

/// One change of the TOS byte or traffic class. The first seven are the behaviours of RFC 9435 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Mark {
    /// Bleach-DSCP: DSCP 0 for all.
    BleachDscp,
    /// Bleach-ToS-Precedence: the upper three bits of the DSCP become 0.
    BleachTosPrecedence,
    /// Bleach-some-ToS: the same, unless the upper two bits are 11.
    BleachSomeTos,
    /// Re-mark-ToS: the upper three bits of the DSCP become this, 1 to 7.
    RemarkTos(u8),
    /// Bleach-low: the lower three bits of the DSCP become 0.
    BleachLow,
    /// Bleach-some-low: the same, unless the upper two bits are 11.
    BleachSomeLow,
    /// Re-mark-DSCP: this DSCP for all.
    RemarkDscp(u8),
    /// This DSCP for one of them, and no change to others.
    Map {
        /// The one that changes.
        from: u8,
        /// What it becomes.
        to: u8,
    },
    /// ECN becomes Not-ECT.
    BleachEcn,
    /// What is ECN-capable is marked as having met congestion (RFC 3168 §5).
    MarkCe,
}

impl Mark {
    /// The TOS byte after this change.
    pub(super) fn apply(self, tos: u8) -> u8 {
        let (dscp, ecn) = (tos >> 2, tos & 0b11);
        let is_excepted = dscp >> 4 == 0b11;
        let with_dscp = |dscp: u8| dscp << 2 | ecn;
        match self {
            Self::BleachDscp => with_dscp(0),
            Self::BleachSomeTos | Self::BleachSomeLow if is_excepted => tos,
            Self::BleachTosPrecedence | Self::BleachSomeTos => with_dscp(dscp & 0b000_111),
            Self::BleachLow | Self::BleachSomeLow => with_dscp(dscp & 0b111_000),
            Self::RemarkTos(precedence) => with_dscp(precedence << 3 | dscp & 0b000_111),
            Self::RemarkDscp(dscp) => with_dscp(dscp),
            Self::Map { from, to } if from == dscp => with_dscp(to),
            Self::BleachEcn => tos & !0b11,
            Self::MarkCe if ecn != 0 => tos | 0b11,
            Self::Map { .. } | Self::MarkCe => tos,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Mark;

    #[test]
    fn behaviours_of_rfc_9435() {
        // DSCP 46 (101110), DSCP 48 (110000), DSCP 58 (111010), with ECT(0).
        let table = [
            (Mark::BleachDscp, [0, 0, 0]),
            (Mark::BleachTosPrecedence, [6, 0, 2]),
            (Mark::BleachSomeTos, [6, 48, 58]),
            (Mark::RemarkTos(1), [14, 8, 10]),
            (Mark::BleachLow, [40, 48, 56]),
            (Mark::BleachSomeLow, [40, 48, 58]),
            (Mark::RemarkDscp(10), [10, 10, 10]),
            (Mark::Map { from: 46, to: 1 }, [1, 48, 58]),
        ];
        for (mark, expected) in table {
            let seen = [46, 48, 58].map(|dscp| mark.apply(dscp << 2 | 0b10));
            assert_eq!(seen, expected.map(|dscp| dscp << 2 | 0b10), "{mark:?}");
        }
    }

    #[test]
    fn ecn_alone() {
        assert_eq!(Mark::BleachEcn.apply(0b1011_1011), 0b1011_1000);
        for (ecn, marked) in [(0b00, 0b00), (0b01, 0b11), (0b10, 0b11), (0b11, 0b11)] {
            assert_eq!(Mark::MarkCe.apply(0xb8 | ecn), 0xb8 | marked);
        }
    }
}
