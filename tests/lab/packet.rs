//! A captured IP packet, taken apart.

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::Bytes;
use etherparse::{IpNumber, Ipv6ExtensionSlice, LaxIpSlice, UdpSlice};

use crate::icmp::Icmp;

/// Which way a packet crossed the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It left through the interface. Everything on `lo` is reported so, once.
    Outgoing,
    /// It came in.
    Incoming,
}

/// One IP packet as it was on the wire.
///
/// Two things differ from what a cable would show. Checksums: the kernel leaves them to the network
/// card, so on a virtual link an outgoing UDP checksum is that of the pseudo-header only. Segmented
/// sends (`UDP_SEGMENT`) are one long packet on an interface that was not told to cut them (see
/// [`LinkBuilder::segments_whole`](crate::LinkBuilder::segments_whole)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packet {
    /// When the kernel saw it.
    pub at: SystemTime,
    /// Which way it went.
    pub direction: Direction,
    /// Source address; the port is 0 where there is none to see: not UDP, or a later fragment.
    pub source: SocketAddr,
    /// Destination address; the port as in `source`.
    pub destination: SocketAddr,
    /// TTL (IPv4) or hop limit (IPv6), in hops.
    pub ttl: u8,
    /// The whole TOS byte or traffic class: DSCP << 2 | ECN.
    pub tos: u8,
    /// "May not be fragmented": the DF bit on IPv4. On IPv6 routers never fragment, so this is true
    /// unless the sender itself did, that is, unless there is a fragment header.
    pub df: bool,
    /// The IPv4 identification field; 0 for IPv6.
    pub identification: u16,
    /// The IPv6 flow label, 20 bits; 0 for IPv4.
    pub flow_label: u32,
    /// Which piece of a datagram this is, when it is only a piece.
    pub fragment: Option<Fragment>,
    /// IPv4 options, or IPv6 extension headers, as they were.
    pub ip_options: Bytes,
    /// Length of the IP packet by its header, bytes, header included.
    pub ip_total_len: usize,
    /// IPv4 header checksum; `None` for IPv6, which has none.
    pub ip_checksum: Option<u16>,
    /// What the IP packet carries (IANA protocol number; 17 is UDP).
    pub protocol: u8,
    /// The UDP header, when there is one to see.
    pub udp: Option<Udp>,
    /// The ICMP or `ICMPv6` message, when it is one.
    pub icmp: Option<Icmp>,
    /// The UDP payload; for anything else, all that follows the IP header.
    pub payload: Bytes,
    /// All of it, from the IP header on.
    pub raw: Bytes,
}

/// The place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Where it begins, bytes from the start of the original payload.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
    /// What its siblings carry too: 16 bits on IPv4, 32 on IPv6.
    pub identification: u32,
}

/// What a UDP header says besides the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Udp {
    /// Length of header and payload, bytes.
    pub length: u16,
    /// Checksum as on the wire; 0 means none.
    pub checksum: u16,
}

/// Whether the packet an ICMP error quotes is taken apart as well.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quoted {
    TakeApart,
    Ignore,
}

impl Packet {
    /// Takes an IP packet apart; `None` when the bytes are not even an IP header. Whatever follows the
    /// header may be cut short or nonsense.
    pub(crate) fn parse(
        at: SystemTime,
        direction: Direction,
        raw: &Bytes,
        quoted: Quoted,
    ) -> Option<Self> {
        let (ip, _) = LaxIpSlice::from_slice(raw).ok()?;
        let content = ip.payload();
        let body = raw.slice_ref(content.payload);
        let mut packet = Self {
            at,
            direction,
            source: SocketAddr::new(ip.source_addr(), 0),
            destination: SocketAddr::new(ip.destination_addr(), 0),
            ttl: 0,
            tos: 0,
            df: false,
            identification: 0,
            flow_label: 0,
            fragment: None,
            ip_options: Bytes::new(),
            ip_total_len: 0,
            ip_checksum: None,
            protocol: content.ip_number.0,
            udp: None,
            icmp: None,
            payload: body.clone(),
            raw: raw.clone(),
        };
        packet.read_ip_header(&ip);
        if packet.fragment.is_none_or(|f| f.offset == 0) {
            packet.read_transport(content.ip_number, &body, quoted);
        }
        Some(packet)
    }

    fn read_ip_header(&mut self, ip: &LaxIpSlice<'_>) {
        match ip {
            LaxIpSlice::Ipv4(ip) => {
                let header = ip.header();
                self.ttl = header.ttl();
                self.tos = header.slice()[1];
                self.df = header.dont_fragment();
                self.identification = header.identification();
                self.ip_options = Bytes::copy_from_slice(header.options());
                self.ip_total_len = header.total_len().into();
                self.ip_checksum = Some(header.header_checksum());
                self.fragment = header.is_fragmenting_payload().then(|| Fragment {
                    offset: header.fragments_offset().byte_offset(),
                    more: header.more_fragments(),
                    identification: header.identification().into(),
                });
            }
            LaxIpSlice::Ipv6(ip) => {
                let header = ip.header();
                self.ttl = header.hop_limit();
                self.tos = header.traffic_class();
                self.flow_label = header.flow_label().value();
                self.ip_options = Bytes::copy_from_slice(ip.extensions().slice());
                self.ip_total_len = header.slice().len() + usize::from(header.payload_length());
                self.fragment = ip.extensions().clone().into_iter().find_map(|e| match e {
                    Ipv6ExtensionSlice::Fragment(f) => Some(Fragment {
                        offset: f.fragment_offset().byte_offset(),
                        more: f.more_fragments(),
                        identification: f.identification(),
                    }),
                    _ => None,
                });
                self.df = self.fragment.is_none();
            }
        }
    }

    fn read_transport(&mut self, protocol: IpNumber, body: &Bytes, quoted: Quoted) {
        match protocol {
            IpNumber::UDP => {
                let Ok(udp) = UdpSlice::from_slice_lax(body) else {
                    return;
                };
                self.source.set_port(udp.source_port());
                self.destination.set_port(udp.destination_port());
                self.payload = body.slice_ref(udp.payload());
                self.udp = Some(Udp {
                    length: udp.length(),
                    checksum: udp.checksum(),
                });
            }
            IpNumber::ICMP | IpNumber::IPV6_ICMP => {
                self.icmp = Icmp::parse(
                    self.at,
                    self.direction,
                    protocol == IpNumber::IPV6_ICMP,
                    body,
                    quoted,
                );
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Packet {
    /// One line: who to whom, what, and the fields a policy sets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} {} > {} protocol {} ttl {} df {} tos {:#04x} length {}",
            self.direction,
            self.source,
            self.destination,
            self.protocol,
            self.ttl,
            u8::from(self.df),
            self.tos,
            self.ip_total_len
        )?;
        if let Some(fragment) = self.fragment {
            write!(f, " {fragment:?}")?;
        }
        if let Some(icmp) = &self.icmp {
            write!(f, " icmp type {} code {}", icmp.kind, icmp.code)?;
            if let Some(quoted) = &icmp.quoted {
                write!(f, " for {} > {}", quoted.source, quoted.destination)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
