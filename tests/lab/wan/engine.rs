//! The routers and links in virtual time: packets go in with the time of their arrival, and come out at
//! the time when they are due.

use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use super::agenda::Agenda;
use super::counters::Counters;
use super::header::Header;
use super::link::Lane;
use super::queue::{Offered, Waiting};
use super::router::{NextLink, Router, Step, Way};
use super::scenario::{Scenario, Willing};

/// A network. Places are counted from the left: 0 is the left host, then come the routers, then the right
/// host. Times are nanoseconds from any start.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) scenario: Scenario,
    routers: Vec<Router>,
    last_link: [Lane; 2],
    events: Agenda<Event>,
    deliveries: Agenda<Delivery>,
    counters: Counters,
    worst_lateness: Duration,
}

/// A packet for one of the hosts.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) packet: Vec<u8>,
    /// Out: to the right host.
    pub(super) way: Way,
}

/// Something that happens at a router.
#[derive(Debug)]
struct Event {
    place: usize,
    way: Way,
    what: What,
}

#[derive(Debug)]
enum What {
    /// A packet arrives at the place.
    Arrives(Vec<u8>),
    /// The place's line has sent a packet.
    LineIsFree,
}

impl Engine {
    pub(super) fn new(scenario: Scenario) -> Self {
        let hops = scenario.hops.iter().cloned();
        Self {
            routers: hops.map(|hop| Router::new(scenario.seed, hop)).collect(),
            last_link: Way::BOTH.map(|way| Lane::new(scenario.seed, 0, way)),
            events: Agenda::new(),
            deliveries: Agenda::new(),
            counters: Counters::default(),
            worst_lateness: Duration::ZERO,
            scenario,
        }
    }

    /// Goes on as another network. A router keeps what it remembers as long as it keeps its IPv4 address; what
    /// is on its way to a router that is gone comes to the one in its place.
    pub(super) fn become_like(&mut self, scenario: Scenario) {
        let mut old: Vec<_> = mem::take(&mut self.routers).into_iter().map(Some).collect();
        let places: Vec<_> = old
            .iter()
            .flatten()
            .map(|router| scenario.hops.iter().position(|hop| hop.v4 == router.hop.v4))
            .collect();
        for (place, hop) in scenario.hops.iter().enumerate() {
            let before = places.iter().position(|new| *new == Some(place));
            let router = match before.and_then(|before| old[before].take()) {
                Some(mut router) => {
                    router.become_like(hop.clone());
                    router
                }
                None => Router::new(scenario.seed, hop.clone()),
            };
            self.routers.push(router);
        }
        self.scenario = scenario;
        let mut events = mem::replace(&mut self.events, Agenda::new());
        while let Some((at, Event { place, way, what })) = events.take_until(u64::MAX) {
            match (places[place - 1], what) {
                (Some(new), what) => self.schedule(at, new + 1, way, what),
                (None, What::Arrives(packet)) => {
                    let next = match way {
                        Way::Out => place,
                        Way::Back => place - 1,
                    };
                    let right_host = self.routers.len() + 1;
                    self.schedule(at, next.min(right_host), way, What::Arrives(packet));
                }
                (None, What::LineIsFree) => {}
            }
        }
    }

    /// Takes a packet that a host has sent.
    pub(super) fn send(&mut self, packet: Vec<u8>, way: Way, now: u64) {
        let Some(header) = Header::parse(&packet) else {
            return;
        };
        // The hosts' kernels look for neighbours and routers, which no router passes on.
        if header.total_len != packet.len() || !is_global(header.destination) {
            return;
        }
        let place = match way {
            Way::Out => 0,
            Way::Back => self.routers.len() + 1,
        };
        self.cross(Waiting { packet, extra: 0 }, place, way, now);
    }

    /// Has the routers do what is due until then.
    pub(super) fn advance(&mut self, until: u64) {
        while let Some((now, event)) = self.events.take_until(until) {
            self.happen(event, now);
        }
    }

    /// A packet that is due at a host until then, and when it was.
    pub(super) fn delivery(&mut self, until: u64) -> Option<(u64, Delivery)> {
        self.deliveries.take_until(until)
    }

    /// When a router has something to do. It may come late: what it does counts from this time.
    pub(super) fn next_event(&self) -> Option<u64> {
        self.events.next()
    }

    /// When the next packet is due at a host, of those that have passed the last router.
    pub(super) fn next_delivery(&self) -> Option<u64> {
        self.deliveries.next()
    }

    /// Remembers what became of a packet that was due: whether the host took it, and how late it was.
    pub(super) fn account(&mut self, way: Way, taken: bool, late: Duration) {
        let delivered = match way {
            _ if !taken => &mut self.counters.refused,
            Way::Out => &mut self.counters.delivered_right,
            Way::Back => &mut self.counters.delivered_left,
        };
        *delivered += 1;
        self.worst_lateness = self.worst_lateness.max(late);
    }

    /// The most that a packet was late since this was last asked.
    pub(super) fn take_lateness(&mut self) -> Duration {
        mem::take(&mut self.worst_lateness)
    }

    pub(super) fn counters(&self) -> Counters {
        let hops = self.routers.iter().map(|router| router.counters.clone());
        Counters {
            hops: hops.collect(),
            ..self.counters.clone()
        }
    }

    fn happen(&mut self, event: Event, now: u64) {
        let Event { place, way, what } = event;
        match what {
            What::LineIsFree => {
                let router = &mut self.routers[place - 1];
                let bandwidth = router.hop.bandwidth;
                let (sent, next) = router.lines[way as usize].finish(bandwidth, now);
                if let Some(next) = next {
                    self.schedule(next, place, way, What::LineIsFree);
                }
                if let Some(sent) = sent {
                    self.cross(sent, place, way, now);
                }
            }
            What::Arrives(packet) => {
                let next = self.next_link(place, way);
                match self.routers[place - 1].receive(packet, way, next, now) {
                    Step::Drop => {}
                    Step::Answer(packet) => {
                        self.put_on_line(Waiting { packet, extra: 0 }, place, way.opposite(), now);
                    }
                    Step::Forward(packets, extra) => {
                        for packet in packets {
                            self.put_on_line(Waiting { packet, extra }, place, way, now);
                        }
                    }
                }
            }
        }
    }

    fn put_on_line(&mut self, packet: Waiting, place: usize, way: Way, now: u64) {
        let router = &mut self.routers[place - 1];
        let dscp = Header::parse(&packet.packet).map_or(0, |header| header.dscp());
        let bandwidth = router.hop.bandwidth;
        match router.lines[way as usize].offer(packet, dscp, bandwidth, now) {
            Offered::Sent(packet) => self.cross(packet, place, way, now),
            Offered::Until(end) => self.schedule(end, place, way, What::LineIsFree),
            Offered::Waits => {}
            Offered::Dropped => router.counters.queue_full += 1,
        }
    }

    /// Sends a packet over the link beside a place.
    fn cross(&mut self, packet: Waiting, place: usize, way: Way, now: u64) {
        let routers = self.routers.len();
        if let Some(router) = place.checked_sub(1).and_then(|i| self.routers.get_mut(i)) {
            match way {
                Way::Out => router.counters.forwarded_out += 1,
                Way::Back => router.counters.forwarded_back += 1,
            }
        }
        // A link has the number of the place on its left.
        let (link, to) = match way {
            Way::Out => (place, place + 1),
            Way::Back => (place.saturating_sub(1), place.saturating_sub(1)),
        };
        let Waiting { packet, extra } = packet;
        // It belongs to the router on its right, and the last one to none.
        let arrival = if link < routers {
            let router = &mut self.routers[link];
            let lane = &mut router.lanes[way as usize];
            let arrival = lane.cross(&router.hop.link, way, now, extra);
            router.counters.lost += u64::from(arrival.is_none());
            arrival
        } else {
            let lane = &mut self.last_link[way as usize];
            let arrival = lane.cross(&self.scenario.last_link, way, now, extra);
            self.counters.lost_on_last_link += u64::from(arrival.is_none());
            arrival
        };
        if let Some(arrival) = arrival {
            self.schedule(arrival, to, way, What::Arrives(packet));
        }
    }

    /// The link that a router sends into; the hosts' own carry everything.
    fn next_link(&self, place: usize, way: Way) -> NextLink {
        let on_its_left = match way {
            Way::Out => Some(place - 1),
            Way::Back => place.checked_sub(2),
        };
        let hop = on_its_left.and_then(|i| self.scenario.hops.get(i));
        NextLink {
            mtu: hop.and_then(|hop| hop.mtu),
            too_big: hop.map_or(Willing::Answer, |hop| hop.too_big),
        }
    }

    fn schedule(&mut self, at: u64, place: usize, way: Way, what: What) {
        match what {
            What::Arrives(packet) if place == 0 || place > self.routers.len() => {
                self.deliveries.note(at, Delivery { packet, way });
            }
            what => self.events.note(at, Event { place, way, what }),
        }
    }
}

fn is_global(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(local || address.is_multicast() || address.is_loopback() || address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::{Engine, Way};
    use crate::wan::{Hop, Scenario, WanLink};

    const MILLISECOND: u64 = 1_000_000;

    /// Sends a packet into three routers at 1 ms from each other, changes the network while it is between two of
    /// them, and returns when it arrives and with which TTL.
    fn sent_while_changing(way: Way, change: impl FnOnce(&mut Vec<Hop>)) -> (u64, u8) {
        let link = WanLink {
            delay_us: 1000,
            ..WanLink::default()
        };
        let hop = Hop {
            link: link.clone(),
            count: 3,
            ..Hop::default()
        };
        let mut scenario = Scenario {
            hops: vec![hop],
            last_link: link,
            ..Scenario::default()
        };
        scenario.complete("test").unwrap();
        let mut engine = Engine::new(scenario.clone());

        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 2], [10, 255, 0, 2], 64)
            .udp(1, 2)
            .write(&mut packet, b"hello")
            .unwrap();
        engine.send(packet, way, 0);
        engine.advance(MILLISECOND);
        change(&mut scenario.hops);
        scenario.complete("test").unwrap();
        engine.become_like(scenario);
        engine.advance(100 * MILLISECOND);
        let (due, delivery) = engine.delivery(u64::MAX).unwrap();
        (due / MILLISECOND, delivery.packet[8])
    }

    #[test]
    fn packets_under_way_keep_to_their_router() {
        for way in Way::BOTH {
            assert_eq!(sent_while_changing(way, |_| {}), (4, 61));
            for place in [0, 1, 2, 3] {
                // The new link has no delay: the packet passes the new router or does not.
                let arrival = sent_while_changing(way, |hops| hops.insert(place, Hop::default()));
                let passes_it = match way {
                    Way::Out => place > 1,
                    Way::Back => place < 2,
                };
                let ttl = if passes_it { 60 } else { 61 };
                assert_eq!(arrival, (4, ttl), "{way:?} {place}");
            }
        }
    }

    #[test]
    fn packets_to_a_router_that_is_gone_come_to_the_next() {
        for way in Way::BOTH {
            let without_the_middle = sent_while_changing(way, |hops| drop(hops.remove(1)));
            assert_eq!(without_the_middle, (3, 62), "{way:?}");
            assert_eq!(sent_while_changing(way, Vec::clear), (2, 63), "{way:?}");
        }
    }
}
