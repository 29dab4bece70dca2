//! `--set`: what a class of packets gets.

use perpacket_webrtc::{
    CustomNet, PacketClass,
    udp::{Dscp, Ecn, MessageOptions},
};

/// How it is written.
pub(crate) const FORM: &str = "CLASS:FIELD=VALUE[,…]";

/// A class of packets and what it gets.
pub(crate) type Setting = (PacketClass, MessageOptions);

/// Reads `srtp:ttl=10,df=1,dscp=EF`, for clap. An error is a sentence for the user.
pub(crate) fn parse(text: &str) -> Result<Setting, String> {
    let (class, fields) = text
        .split_once(':')
        .ok_or_else(|| format!("expected {FORM}"))?;
    let class = class
        .parse()
        .map_err(|error: perpacket_webrtc::UnknownPacketClass| error.to_string())?;
    let mut options = MessageOptions::default();
    for field in fields.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| format!("expected {FORM}, not {field:?}"))?;
        let twice = match key {
            "ttl" => options.ttl.replace(byte(value)?).is_some(),
            "df" => options.df_bit.replace(bit(value)?).is_some(),
            "tos" => options.tos.replace(byte(value)?).is_some(),
            "dscp" => {
                let dscp = value.parse::<Dscp>().map_err(|e| e.to_string())?;
                options.dscp.replace(dscp).is_some()
            }
            "ecn" => {
                let ecn = value.parse::<Ecn>().map_err(|e| e.to_string())?;
                options.ecn.replace(ecn).is_some()
            }
            _ => return Err(format!("unknown field {key:?}: ttl, df, tos, dscp or ecn")),
        };
        if twice {
            return Err(format!("{key} is given twice"));
        }
    }
    options.validate().map_err(|error| error.to_string())?;
    Ok((class, options))
}

/// Gives a network these settings, each of which was validated when it was read.
pub(crate) fn apply(net: &CustomNet, settings: &[Setting]) -> anyhow::Result<()> {
    for (class, options) in merged(settings) {
        net.set_class_options(class, options)?;
    }
    Ok(())
}

/// What each class gets. Of a field that is given to it twice, the last counts.
fn merged(settings: &[Setting]) -> Vec<Setting> {
    let mut merged: Vec<Setting> = Vec::new();
    for (class, options) in settings {
        match merged.iter_mut().find(|(known, _)| known == class) {
            Some((_, known)) => *known = options.or(*known),
            None => merged.push((*class, *options)),
        }
    }
    merged
}

/// A number 0..=255, decimal or with 0x.
fn byte(text: &str) -> Result<u8, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("{text:?} is not a number 0..=255"))
}

fn bit(text: &str) -> Result<bool, String> {
    match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("df is 0 or 1, not {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_set() {
        let options = MessageOptions::default();
        for (text, expected) in [
            ("srtp:ttl=9", (PacketClass::Srtp, options.with_ttl(9))),
            (
                "dtls:df=0,tos=0xb8",
                (PacketClass::Dtls, options.with_df_bit(false).with_tos(0xb8)),
            ),
            (
                "stun:dscp=ef",
                (PacketClass::Stun, options.with_dscp(Dscp::EF)),
            ),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_class_keeps_what_is_not_set_again() {
        let settings = ["srtp:ttl=9,dscp=AF41", "dtls:ttl=7", "srtp:dscp=EF"]
            .map(|text| parse(text).expect("it makes sense"));
        let options = MessageOptions::default();
        assert_eq!(
            merged(&settings),
            [
                (PacketClass::Srtp, options.with_ttl(9).with_dscp(Dscp::EF)),
                (PacketClass::Dtls, options.with_ttl(7)),
            ]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "srtp",
            "srtp:",
            "rtp:ttl=1",
            "srtp:ttl",
            "srtp:ttl=0",
            "srtp:ttl=256",
            "srtp:ttl=1,ttl=1",
            "srtp:df=2",
            "srtp:mtu=1",
            "srtp:dscp=64",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
