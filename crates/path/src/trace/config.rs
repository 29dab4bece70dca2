use std::{net::SocketAddr, time::Duration};

use perpacket_udp::MessageOptions;

use crate::MeasureError;

/// How to [trace](crate::Trace).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// The largest TTL, or hop limit, to try, 1 or more.
    pub max_ttl: u8,
    /// How many rounds, 1 or more; `None` goes on until it is [stopped](crate::Running::stop).
    pub rounds: Option<u32>,
    /// From the start of a round to the start of the next. It is longer where routers have to be asked one
    /// at a time, and where probes wait for their turn. More than a year counts as a year.
    pub interval: Duration,
    /// After what time without an answer a probe is lost.
    pub timeout: Duration,
    /// What else the IP header of the probes says: the marks of the media, for example. The TTL in here
    /// does not count.
    pub options: MessageOptions,
    /// Whether to look up the names of routers.
    pub names: Names,
    /// Whether to read the headers that routers quote, for which `CAP_NET_RAW` is needed.
    pub raw: RawMode,
}

/// Where the names of routers come from. They are never waited for but at the very end, for a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Addresses only.
    #[default]
    Off,
    /// The system's resolver configuration.
    System,
    /// These name servers, over UDP.
    Servers(Vec<SocketAddr>),
}

/// Whether to read the headers that routers quote in their errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RawMode {
    /// No.
    #[default]
    Off,
    /// If the kernel permits it; the report says what could not be seen otherwise.
    IfPermitted,
    /// Or not to measure at all.
    Required,
}

impl Default for TraceConfig {
    /// One round up to 30 hops.
    fn default() -> Self {
        Self {
            max_ttl: 30,
            rounds: Some(1),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            options: MessageOptions::NONE,
            names: Names::Off,
            raw: RawMode::Off,
        }
    }
}

impl TraceConfig {
    pub(super) fn check(&self) -> Result<(), MeasureError> {
        let wrong = |field, value: String, expected| MeasureError::Config {
            field,
            value,
            expected,
        };
        if self.max_ttl == 0 {
            return Err(wrong("max_ttl", "0".to_owned(), "at least 1"));
        }
        if self.rounds == Some(0) {
            return Err(wrong("rounds", "0".to_owned(), "at least 1, or none"));
        }
        if self.timeout.is_zero() {
            return Err(wrong("timeout", "0".to_owned(), "longer than a round trip"));
        }
        // The TTL is set for each probe.
        let options = self.options.with_ttl(1);
        options
            .validate()
            .map_err(|error| wrong("options", error.to_string(), "what an IP header can say"))
    }
}
