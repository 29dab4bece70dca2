//! What a measurement should find.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::router::Way;
use super::scenario::{Scenario, WanLink, Willing};

/// A router as the left host should see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HopTruth {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// Whether it says that a TTL ran out.
    pub answers: bool,
    /// Time from the left host to it, without jitter and queues.
    pub delay_out: Duration,
    /// Time from it to the left host.
    pub delay_back: Duration,
    /// TTL with which its messages arrive at the left host.
    pub reply_ttl: u8,
}

impl HopTruth {
    /// There and back.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.delay_out + self.delay_back
    }

    /// Its address of the family of `like`.
    #[must_use]
    pub fn address(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() {
            self.v4.into()
        } else {
            self.v6.into()
        }
    }
}

impl Scenario {
    /// What is true of hop `number`, counted from 1.
    ///
    /// # Panics
    /// When there is no such hop.
    #[must_use]
    pub fn hop_truth(&self, number: usize) -> HopTruth {
        let hops = self.hops.get(..number).expect("a hop of that number");
        let hop = hops.last().expect("hops are counted from 1");
        let links = || hops.iter().map(|hop| &hop.link);
        let before = u8::try_from(number - 1).expect("fewer than 255 hops");
        HopTruth {
            v4: hop.address_v4(),
            v6: hop.address_v6(),
            answers: hop.icmp == Willing::Answer,
            delay_out: delay(links(), Way::Out),
            delay_back: delay(links(), Way::Back),
            reply_ttl: hop.icmp_ttl.saturating_sub(before),
        }
    }

    /// Time from one host to the other and back, without jitter and queues.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        let links = || {
            self.hops
                .iter()
                .map(|hop| &hop.link)
                .chain([&self.last_link])
        };
        delay(links(), Way::Out) + delay(links(), Way::Back)
    }
}

fn delay<'a>(links: impl Iterator<Item = &'a WanLink>, way: Way) -> Duration {
    Duration::from_micros(links.map(|link| link.delay_us(way)).sum())
}
