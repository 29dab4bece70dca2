//! Network address and port translation, as home routers do it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use etherparse::IpNumber;
use etherparse::checksum::Sum16BitWords;

use super::header::{End, Header, corrected, set_address};
use super::scenario::NatAddresses;

/// The first outside port that is given away.
const FIRST_PORT: u16 = 20_000;

/// A NAT with one mapping for each inside address, port and protocol, whatever the destination, that lets
/// anybody in (RFC 4787: endpoint-independent mapping and filtering). Mappings do not end.
#[derive(Debug)]
pub(super) struct Nat {
    outside: NatAddresses,
    mappings: HashMap<Flow, u16>,
    insides: HashMap<Outside, (IpAddr, u16)>,
    /// Who sent last; gets what has no port: later fragments.
    inside: Option<IpAddr>,
}

/// An inside end of some flow; the port is the identifier for ICMP echoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    address: IpAddr,
    port: u16,
    protocol: IpNumber,
}

/// An outside port, of a protocol, which also tells IPv4 from IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Outside {
    v6: bool,
    port: u16,
    protocol: IpNumber,
}

/// There is no mapping, or a packet is none that can be translated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoMapping;

impl Nat {
    pub(super) fn new(outside: NatAddresses) -> Self {
        Self {
            outside,
            mappings: HashMap::new(),
            insides: HashMap::new(),
            inside: None,
        }
    }

    /// Translates a packet from the inside.
    pub(super) fn go_out(&mut self, packet: &mut [u8], header: &Header) -> Result<(), NoMapping> {
        let Some(outside) = self.outside_address(header.is_v6()) else {
            return Ok(());
        };
        self.inside = Some(header.source);
        if header.is_icmp_error(packet) {
            return self.translate_error(packet, header, End::Destination, |nat, quoted, port| {
                let flow = Flow {
                    address: quoted.destination,
                    port,
                    protocol: quoted.protocol,
                };
                Some((outside, *nat.mappings.get(&flow)?))
            });
        }
        let port = match port_at(packet, header, End::Source) {
            None => None,
            Some(range) => {
                let port = read(packet, range).ok_or(NoMapping)?;
                Some(self.map(header, port)?)
            }
        };
        readdress(packet, header, End::Source, outside, port);
        Ok(())
    }

    /// Translates a packet from the outside.
    pub(super) fn come_back(&self, packet: &mut [u8], header: &Header) -> Result<(), NoMapping> {
        let Some(outside) = self.outside_address(header.is_v6()) else {
            return Ok(());
        };
        if header.destination != outside {
            return Err(NoMapping);
        }
        let inside_of = |protocol, port| {
            let v6 = header.is_v6();
            self.insides.get(&Outside { v6, port, protocol }).copied()
        };
        if header.is_icmp_error(packet) {
            return self.translate_error(packet, header, End::Source, |_, quoted, port| {
                (quoted.source == outside).then(|| inside_of(quoted.protocol, port))?
            });
        }
        let (address, port) = match port_at(packet, header, End::Destination) {
            None => (
                self.inside
                    .filter(|i| i.is_ipv6() == header.is_v6())
                    .ok_or(NoMapping)?,
                None,
            ),
            Some(range) => {
                let port = read(packet, range).ok_or(NoMapping)?;
                let (address, port) = inside_of(header.protocol, port).ok_or(NoMapping)?;
                (address, Some(port))
            }
        };
        readdress(packet, header, End::Destination, address, port);
        Ok(())
    }

    fn outside_address(&self, v6: bool) -> Option<IpAddr> {
        if v6 {
            self.outside.v6.map(IpAddr::from)
        } else {
            self.outside.v4.map(IpAddr::from)
        }
    }

    /// The outside port of an inside one, of a new mapping if need be.
    fn map(&mut self, header: &Header, port: u16) -> Result<u16, NoMapping> {
        let (address, protocol) = (header.source, header.protocol);
        let flow = Flow {
            address,
            port,
            protocol,
        };
        if let Some(port) = self.mappings.get(&flow) {
            return Ok(*port);
        }
        let given = u16::try_from(self.mappings.len()).map_err(|_| NoMapping)?;
        let new = FIRST_PORT.checked_add(given).ok_or(NoMapping)?;
        self.mappings.insert(flow, new);
        let outside = Outside {
            v6: header.is_v6(),
            port: new,
            protocol,
        };
        self.insides.insert(outside, (address, port));
        Ok(new)
    }

    /// Translates an ICMP error and the packet it quotes, whose end `quoted_end` is on the inside
    /// (RFC 5508 §4.2).
    fn translate_error(
        &self,
        packet: &mut [u8],
        header: &Header,
        quoted_end: End,
        translation: impl FnOnce(&Self, &Header, u16) -> Option<(IpAddr, u16)>,
    ) -> Result<(), NoMapping> {
        let quote = packet.get_mut(header.len + 8..).ok_or(NoMapping)?;
        let quoted = Header::parse(quote).ok_or(NoMapping)?;
        let range = port_at(quote, &quoted, quoted_end).ok_or(NoMapping)?;
        let port = read(quote, range).ok_or(NoMapping)?;
        let (address, port) = translation(self, &quoted, port).ok_or(NoMapping)?;
        readdress(quote, &quoted, quoted_end, address, Some(port));
        // The other end of the message itself is the one that the quoted packet's end was.
        let (end, outer) = match quoted_end {
            End::Source => (End::Destination, address),
            End::Destination => (End::Source, address),
        };
        set_address(packet, end, outer);
        recompute_icmp(packet, header);
        Ok(())
    }
}

/// Where a packet has the port of an end, or the identifier of an echo; `None` if it has none.
fn port_at(packet: &[u8], header: &Header, end: End) -> Option<Range<usize>> {
    if header.later_fragment {
        return None;
    }
    let at = match header.protocol {
        IpNumber::UDP | IpNumber::TCP => match end {
            End::Source => 0,
            End::Destination => 2,
        },
        _ => match (header.is_v6(), header.icmp_type(packet)?) {
            (false, 0 | 8) | (true, 128 | 129) => 4,
            _ => return None,
        },
    };
    Some(header.len + at..header.len + at + 2)
}

/// Where a packet has the checksum of what it carries; `None` if it has none, or the quote ends before.
fn checksum_at(packet: &[u8], header: &Header) -> Option<Range<usize>> {
    if header.later_fragment {
        return None;
    }
    let at = match header.protocol {
        IpNumber::UDP => 6,
        IpNumber::TCP => 16,
        IpNumber::ICMP | IpNumber::IPV6_ICMP => 2,
        _ => return None,
    };
    let range = header.len + at..header.len + at + 2;
    // RFC 768: 0 says that there is none.
    let none = header.protocol == IpNumber::UDP && read(packet, range.clone())? == 0;
    (!none && range.end <= packet.len()).then_some(range)
}

/// Writes address and port of one end, and corrects the checksums.
fn readdress(packet: &mut [u8], header: &Header, end: End, address: IpAddr, port: Option<u16>) {
    let mut old = Vec::new();
    let mut new = Vec::new();
    // ICMP for IPv4 has no pseudo header.
    if header.protocol != IpNumber::ICMP {
        let before = match end {
            End::Source => header.source,
            End::Destination => header.destination,
        };
        old.extend(octets(before));
        new.extend(octets(address));
    }
    let port_range = port_at(packet, header, end);
    if let (Some(range), Some(port)) = (port_range, port)
        && let Some(bytes) = packet.get_mut(range)
    {
        old.extend_from_slice(bytes);
        new.extend(port.to_be_bytes());
        bytes.copy_from_slice(&port.to_be_bytes());
    }
    if let Some(range) = checksum_at(packet, header) {
        let checksum = corrected(read(packet, range.clone()).unwrap_or_default(), &old, &new);
        let checksum = if header.protocol == IpNumber::UDP && checksum == 0 {
            u16::MAX
        } else {
            checksum
        };
        packet[range].copy_from_slice(&checksum.to_be_bytes());
    }
    set_address(packet, end, address);
}

/// The checksum of an ICMP message whose content was changed in many places. It was right before: a host checks
/// it, and nobody but the host would.
fn recompute_icmp(packet: &mut [u8], header: &Header) {
    let range = header.len + 2..header.len + 4;
    if packet.len() < range.end {
        return;
    }
    packet[range.clone()].fill(0);
    let mut sum = Sum16BitWords::new();
    if header.is_v6() {
        let length = u32::try_from(packet.len() - header.len).unwrap_or_default();
        sum = sum
            .add_slice(&packet[8..40])
            .add_slice(&length.to_be_bytes());
        sum = sum.add_2bytes([0, IpNumber::IPV6_ICMP.0]);
    }
    let checksum = sum
        .add_slice(&packet[header.len..])
        .ones_complement()
        .to_be();
    packet[range].copy_from_slice(&checksum.to_be_bytes());
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn read(packet: &[u8], range: Range<usize>) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(range)?.try_into().ok()?))
}
