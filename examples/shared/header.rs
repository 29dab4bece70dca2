use std::{collections::BTreeSet, fmt::Display, fs};

use anyhow::{Context, Result};
use perpacket_udp::{Dscp, Ecn, MessageOptions, Tos};
use serde::Serialize;

/// What a datagram's IP header says of the three fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    /// TTL, or hop limit.
    pub ttl: u8,
    /// The DF bit; `None` where it cannot be seen: IPv6 has none.
    pub df: Option<bool>,
    /// TOS byte, or traffic class.
    pub tos: u8,
}

/// What this system puts into a header for which nothing is asked.
///
/// # Errors
/// Where `/proc/sys` does not say, as outside of Linux.
pub fn system_defaults(ipv6: bool) -> Result<Header> {
    let number = |path: &str| -> Result<u8> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        text.trim()
            .parse()
            .with_context(|| format!("{path} says {text:?}"))
    };
    Ok(if ipv6 {
        Header {
            ttl: number("/proc/sys/net/ipv6/conf/lo/hop_limit")?,
            df: None,
            tos: 0,
        }
    } else {
        Header {
            ttl: number("/proc/sys/net/ipv4/ip_default_ttl")?,
            // ip-sysctl: 0 is path MTU discovery, which sets DF; the other values turn it off.
            df: Some(number("/proc/sys/net/ipv4/ip_no_pmtu_disc")? == 0),
            tos: 0,
        }
    })
}

/// What the header of a datagram is to say: what was asked for, and the system's defaults for the
/// rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    options: MessageOptions,
    expected: Header,
}

impl Asked {
    /// These options, where the system would send `defaults`.
    #[must_use]
    pub fn new(options: MessageOptions, defaults: Header) -> Self {
        let expected = Header {
            ttl: options.ttl.unwrap_or(defaults.ttl),
            df: defaults.df.map(|df| options.df_bit.unwrap_or(df)),
            tos: options.tos_byte().unwrap_or(defaults.tos),
        };
        Self { options, expected }
    }

    /// What is to be in the header.
    #[must_use]
    pub fn expected(&self) -> Header {
        self.expected
    }

    /// Whether a header is as asked, as far as it could be seen.
    #[must_use]
    pub fn is_met_by(&self, seen: Header) -> bool {
        let wanted = self.expected;
        let df_fits = match (wanted.df, seen.df) {
            (Some(wanted), Some(seen)) => wanted == seen,
            _ => true,
        };
        (wanted.ttl, wanted.tos) == (seen.ttl, seen.tos) && df_fits
    }

    /// TTL, DF and TOS for a table; the system's defaults stand in parentheses.
    #[must_use]
    pub fn cells(&self) -> [String; 3] {
        let cell = |asked: bool, text: String| if asked { text } else { format!("({text})") };
        [
            cell(self.options.ttl.is_some(), self.expected.ttl.to_string()),
            match self.expected.df {
                Some(df) => cell(self.options.df_bit.is_some(), df_text(df)),
                None => "-".to_owned(),
            },
            cell(
                self.options.tos_byte().is_some(),
                tos_text(self.expected.tos),
            ),
        ]
    }
}

/// Every value that was seen of each field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Values {
    /// TTL, or hop limit.
    pub ttl: BTreeSet<u8>,
    /// The DF bit; empty where it could not be seen.
    pub df: BTreeSet<bool>,
    /// TOS byte, or traffic class.
    pub tos: BTreeSet<u8>,
}

impl Values {
    /// Notes another header.
    pub fn add(&mut self, header: Header) {
        self.ttl.insert(header.ttl);
        self.df.extend(header.df);
        self.tos.insert(header.tos);
    }

    /// TTL, DF and TOS for a table.
    #[must_use]
    pub fn cells(&self) -> [String; 3] {
        [
            join(self.ttl.iter()),
            join(self.df.iter().map(|df| df_text(*df))),
            join(self.tos.iter().map(|tos| tos_text(*tos))),
        ]
    }
}

fn join<T: Display>(values: impl Iterator<Item = T>) -> String {
    let texts: Vec<_> = values.map(|value| value.to_string()).collect();
    if texts.is_empty() {
        "-".to_owned()
    } else {
        texts.join(", ")
    }
}

fn df_text(df: bool) -> String {
    u8::from(df).to_string()
}

/// The byte, and what it means where that has a name.
fn tos_text(byte: u8) -> String {
    let tos = Tos::from_byte(byte);
    let has_name = Dscp::NAMED.iter().any(|(_, named)| *named == tos.dscp());
    let dscp = has_name.then(|| format!(" {}", tos.dscp()));
    let ecn = (tos.ecn() != Ecn::NotEct).then(|| format!(" {}", tos.ecn()));
    format!(
        "{byte:#04x}{}{}",
        dscp.unwrap_or_default(),
        ecn.unwrap_or_default()
    )
}
