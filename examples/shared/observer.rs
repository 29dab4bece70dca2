use std::{collections::HashMap, net::SocketAddr, time::SystemTime};

use anyhow::{Result, ensure};
use perpacket_lab::{Packet, Sniffer};
use perpacket_webrtc::{ClassCounters, CustomNet, PacketClass, classify};

use crate::Header;

/// One datagram, as somebody saw it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When.
    pub at: SystemTime,
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What it was.
    pub class: PacketClass,
    /// The RTP payload type, where it is RTP and the payload was seen.
    pub payload_type: Option<u8>,
    /// What its header said.
    pub header: Header,
}

/// Who looks at the headers.
#[derive(Debug)]
pub enum Observer {
    /// A sniffer, which sees every datagram with the time at which it was sent.
    Wire(Sniffer),
    /// The receivers, where no sniffer may run.
    Receivers(Receivers),
}

/// Looks at what the sockets of a [`CustomNet`] say of the datagram that came in last: TTL and TOS,
/// by class, no DF.
#[derive(Debug, Default)]
pub struct Receivers {
    seen: Vec<Seen>,
    flows: HashMap<(SocketAddr, SocketAddr, PacketClass), Flow>,
}

#[derive(Debug, Default)]
struct Flow {
    /// How many had been sent at the last mark.
    sent_before: u64,
    /// How many had arrived when it was looked at last.
    arrived: u64,
}

impl Observer {
    /// Whether it sees the DF bit.
    #[must_use]
    pub fn sees_df(&self) -> bool {
        matches!(self, Self::Wire(_))
    }

    /// The policy has just been changed: the time from which on what is sent counts.
    pub fn mark(&mut self, net: &CustomNet) -> SystemTime {
        if let Self::Receivers(receivers) = self {
            receivers.mark(net);
        }
        SystemTime::now()
    }

    /// What was seen since `mark`; more may be on its way to the observer.
    pub fn look(&mut self, net: &CustomNet, mark: SystemTime) -> Vec<Seen> {
        match self {
            Self::Wire(sniffer) => sniffer
                .packets()
                .iter()
                .filter_map(on_the_wire)
                .filter(|seen| seen.at >= mark)
                .collect(),
            Self::Receivers(receivers) => {
                receivers.look(net);
                let since = receivers.seen.partition_point(|seen| seen.at < mark);
                receivers.seen[since..].to_vec()
            }
        }
    }

    /// Everything that was seen, and the packets where they were captured.
    ///
    /// # Errors
    /// When the capture failed, or is not complete.
    pub fn finish(self) -> Result<(Vec<Seen>, Vec<Packet>)> {
        match self {
            Self::Wire(sniffer) => {
                let capture = sniffer.stop()?;
                ensure!(
                    capture.dropped == 0,
                    "the capture is not complete: {} packets lost",
                    capture.dropped
                );
                let seen = capture.packets.iter().filter_map(on_the_wire).collect();
                Ok((seen, capture.packets))
            }
            Self::Receivers(receivers) => Ok((receivers.seen, Vec::new())),
        }
    }
}

fn on_the_wire(packet: &Packet) -> Option<Seen> {
    packet.udp?;
    let classified = classify(&packet.payload);
    Some(Seen {
        at: packet.at,
        from: packet.source,
        to: packet.destination,
        class: classified.class,
        payload_type: classified.rtp.map(|rtp| rtp.payload_type),
        header: Header {
            ttl: packet.ttl,
            df: packet.source.is_ipv4().then_some(packet.df),
            tos: packet.tos,
        },
    })
}

impl Receivers {
    fn mark(&mut self, net: &CustomNet) {
        for_each_flow(net, |from, to, class, counters| {
            let flow = self.flows.entry((from, to, class)).or_default();
            flow.sent_before = counters.sent;
        });
    }

    /// A datagram counts only once more have arrived than had been sent at the mark: then it was
    /// sent after it.
    fn look(&mut self, net: &CustomNet) {
        let at = SystemTime::now();
        for_each_flow(net, |to, from, class, counters| {
            let flow = self.flows.entry((from, to, class)).or_default();
            let is_new = counters.received > flow.arrived;
            flow.arrived = counters.received;
            if is_new
                && counters.received > flow.sent_before
                && let (Some(ttl), Some(tos)) = (counters.received_ttl, counters.received_tos)
            {
                let header = Header {
                    ttl,
                    df: None,
                    tos: tos.byte(),
                };
                self.seen.push(Seen {
                    at,
                    from,
                    to,
                    class,
                    payload_type: None,
                    header,
                });
            }
        });
    }
}

fn for_each_flow(
    net: &CustomNet,
    mut visit: impl FnMut(SocketAddr, SocketAddr, PacketClass, &ClassCounters),
) {
    for conn in net.snapshot().conns {
        for (peer, counters) in &conn.peers {
            for class in PacketClass::ALL {
                visit(conn.local, *peer, class, counters.class(class));
            }
        }
    }
}
