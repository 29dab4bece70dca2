//! What a simulated network is to do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::{fs, iter};

use serde::Deserialize;

use super::mark::Mark;
use super::validate::{addresses, validate};
use crate::error::{Error, Result};

/// A network between two hosts, from left to right. Everything has a default; a file says what differs:
///
/// ```toml
/// [[hop]]
/// count = 3
/// link.delay_us = 500
///
/// [[hop]]
/// link = { delay_us = 2000, loss = 0.01 }
/// mtu = 1400
/// too_big = "silent"
/// ```
///
/// "Out" is from left to right, "back" from right to left. A field that ends in `_back` holds for the way
/// back; where it is not given, both ways are alike.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// From which all that is random follows.
    pub seed: u64,
    /// MTU of the two hosts' devices, bytes of IP packet. Their links carry what the devices send.
    pub mtu: u16,
    /// The routers, from left to right.
    #[serde(rename = "hop")]
    pub hops: Vec<Hop>,
    /// The link between the last router and the right host.
    pub last_link: WanLink,
}

/// A router, and the link on its left.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hop {
    /// In a file: so many alike, one after the other. Always 1 afterwards.
    pub count: u8,
    /// Its IPv4 address; `10.0.N.1` for the hop of number N if not given, and always given once the
    /// scenario was read.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address; `fd00:0:0:N::1` if not given.
    pub v6: Option<Ipv6Addr>,
    /// The link between the node on its left and this router.
    pub link: WanLink,
    /// MTU of the link on its right, bytes of IP packet; any packet passes if not given.
    pub mtu: Option<u32>,
    /// What the routers at both ends of that link do with a packet above its MTU: answer, with
    /// "fragmentation needed" (RFC 1191) or "packet too big" (RFC 8201), or be a black hole.
    pub too_big: Willing,
    /// Whether it says that a TTL or hop limit ran out.
    pub icmp: Willing,
    /// How many ICMP errors of any kind it sends; as many as are due if not given.
    pub icmp_rate: Option<IcmpRate>,
    /// TTL and hop limit of its own messages.
    pub icmp_ttl: u8,
    /// How much of a packet its ICMP errors quote: bytes after the IP header (8 is RFC 792's minimum, 28 goes as
    /// far as a STUN header). If not given as much as fits in 576 bytes (IPv4, RFC 1812 §4.3.2.3) or 1,280
    /// (IPv6, RFC 4443 §2.4), the limits for the others too.
    pub quote: Option<usize>,
    /// MPLS labels in its ICMP errors (RFC 4950), the outermost first.
    pub mpls: Vec<Label>,
    /// The name of the interface a packet came in through, in its ICMP errors (RFC 5837), at most 63 bytes.
    pub interface_name: Option<String>,
    /// What it does, in this order, with the TOS byte of packets on the way out. The router that does it
    /// quotes a packet as it came: the next hop is the first to show it.
    pub mark: Vec<Mark>,
    /// The same for packets on the way back.
    pub mark_back: Vec<Mark>,
    /// It loses packets with one of these DSCPs, both ways.
    pub dead_dscp: Vec<u8>,
    /// It holds packets with these DSCPs back, both ways, while others overtake them.
    pub slow_dscp: Vec<SlowDscp>,
    /// It gives what passes on the way out one source address, as a NAT does that keeps a mapping whatever
    /// the destination (RFC 4787 §4.1), and loses on the way back what has no mapping.
    pub nat: Option<NatAddresses>,
    /// The speed of its two outgoing lines; without limit if not given.
    pub bandwidth: Option<Bandwidth>,
}

/// A link: how long it takes, and what it loses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WanLink {
    /// Time from one end to the other, microseconds.
    pub delay_us: u64,
    /// The same on the way back.
    pub delay_back_us: Option<u64>,
    /// A random time up to this is added, microseconds. Packets do not overtake each other.
    pub jitter_us: u64,
    /// The same on the way back.
    pub jitter_back_us: Option<u64>,
    /// Probability that a packet is lost, 0.0 to 1.0.
    pub loss: f64,
    /// The same on the way back.
    pub loss_back: Option<f64>,
    /// Every so manieth packet is lost, the first being that of this number; none if 0.
    pub drop_every: u64,
    /// The same on the way back.
    pub drop_every_back: Option<u64>,
}

/// Whether a router says why it does not forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Willing {
    /// It sends an ICMP error.
    #[default]
    Answer,
    /// It says nothing.
    Silent,
}

/// A limit on a router's ICMP errors: a bucket of tokens, full at first.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IcmpRate {
    /// Tokens a second.
    pub per_second: f64,
    /// Tokens the bucket holds.
    pub burst: u32,
}

/// An MPLS label stack entry (RFC 3032 §2.1); whether it is the last of the stack follows from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The label, 20 bits.
    pub label: u32,
    /// The traffic class, 3 bits.
    #[serde(default)]
    pub class: u8,
    /// The TTL.
    #[serde(default = "one")]
    pub ttl: u8,
}

/// A DSCP that takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowDscp {
    /// Which.
    pub dscp: u8,
    /// How much longer, microseconds.
    pub delay_us: u64,
}

/// The outside of a NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatAddresses {
    /// The IPv4 address it gives; IPv4 passes as it is if there is none.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address it gives; IPv6 passes as it is if there is none.
    pub v6: Option<Ipv6Addr>,
}

/// A line's speed, and the queue before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Bits of IP packet a second.
    pub bits_per_second: u64,
    /// Bytes that may wait besides the packet on the line; what does not fit is lost.
    pub queue_bytes: usize,
    /// Packets with this DSCP go before all others.
    pub priority: Option<u8>,
}

impl Scenario {
    /// Reads `tests/scenarios/NAME.toml`.
    ///
    /// # Errors
    /// [`Error::Scenario`] when there is no such file, or when it says what a network cannot do.
    pub fn load(name: &str) -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scenarios")
            .join(name)
            .with_extension("toml");
        let shown = file.display().to_string();
        let text = fs::read_to_string(&file).map_err(|e| Error::Scenario {
            file: shown.clone(),
            reason: e.to_string(),
        })?;
        Self::read(&shown, &text)
    }

    /// Reads a scenario that is not in a file.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn parse(toml: &str) -> Result<Self> {
        Self::read("scenario", toml)
    }

    fn read(file: &str, toml: &str) -> Result<Self> {
        let mut scenario: Self = toml::from_str(toml).map_err(|e| Error::Scenario {
            file: file.to_owned(),
            reason: e.to_string().trim_end().to_owned(),
        })?;
        scenario.complete(file)?;
        Ok(scenario)
    }

    /// Hop `number`, counted from 1 at the left.
    ///
    /// # Panics
    /// When there is no such hop.
    pub fn hop_mut(&mut self, number: usize) -> &mut Hop {
        assert!(
            (1..=self.hops.len()).contains(&number),
            "no hop {number} of {}",
            self.hops.len()
        );
        &mut self.hops[number - 1]
    }

    /// Gives every hop what is left to a default, and checks what was given.
    pub(super) fn complete(&mut self, file: &str) -> Result<()> {
        self.hops = self
            .hops
            .drain(..)
            .flat_map(|hop| {
                let count = usize::from(hop.count);
                iter::repeat_n(Hop { count: 1, ..hop }, count)
            })
            .collect();
        self.number();
        validate(self).map_err(|reason| Error::Scenario {
            file: file.to_owned(),
            reason,
        })
    }

    /// Gives an address to hops that have none: that of their place, or, where a hop came in between, the next
    /// that is free, so that those which were there keep theirs.
    fn number(&mut self) {
        for place in 0..self.hops.len() {
            let taken: Vec<IpAddr> = addresses(&self.hops).collect();
            let is_free = |n: &u8| {
                let (v4, v6) = address_of_hop(*n);
                !taken.contains(&v4.into()) && !taken.contains(&v6.into())
            };
            let own = u8::try_from(place + 1).unwrap_or(u8::MAX);
            let free = (own..MAX_HOPS).chain(1..own).find(is_free);
            let (v4, v6) = address_of_hop(free.unwrap_or(MAX_HOPS));
            let hop = &mut self.hops[place];
            hop.v4.get_or_insert(v4);
            hop.v6.get_or_insert(v6);
        }
    }
}

/// The number after those that a hop's default address can have.
pub(super) const MAX_HOPS: u8 = 255;

fn address_of_hop(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (
        Ipv4Addr::new(10, 0, number, 1),
        Ipv6Addr::new(0xfd00, 0, 0, number.into(), 0, 0, 0, 1),
    )
}

impl Hop {
    /// Its IPv4 address.
    #[must_use]
    pub(super) fn address_v4(&self) -> Ipv4Addr {
        self.v4.expect("a scenario is completed before it is used")
    }

    /// Its IPv6 address.
    #[must_use]
    pub(super) fn address_v6(&self) -> Ipv6Addr {
        self.v6.expect("a scenario is completed before it is used")
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: 1,
            mtu: 1500,
            hops: Vec::new(),
            last_link: WanLink::default(),
        }
    }
}

impl Default for Hop {
    fn default() -> Self {
        Self {
            count: 1,
            v4: None,
            v6: None,
            link: WanLink::default(),
            mtu: None,
            too_big: Willing::Answer,
            icmp: Willing::Answer,
            icmp_rate: None,
            icmp_ttl: 64,
            quote: None,
            mpls: Vec::new(),
            interface_name: None,
            mark: Vec::new(),
            mark_back: Vec::new(),
            dead_dscp: Vec::new(),
            slow_dscp: Vec::new(),
            nat: None,
            bandwidth: None,
        }
    }
}

fn one() -> u8 {
    1
}
