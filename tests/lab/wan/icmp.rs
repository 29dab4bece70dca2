//! The error messages of routers: ICMP (RFC 792), `ICMPv6` (RFC 4443), and extensions (RFC 4884).

use std::net::IpAddr;

use etherparse::checksum::u64_16bit_word;
use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, icmpv4, icmpv6};

use super::header::Header;
use super::scenario::{Hop, Label};

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    /// TTL or hop limit ran out.
    Expired,
    /// It does not fit the next link, of this MTU.
    TooBig(u32),
}

/// Control traffic of the network: CS6 (RFC 1812 §4.3.2.5).
const TOS: u8 = 0xc0;

/// The error message of a router about a packet, to its sender.
pub(super) fn error(hop: &Hop, complaint: Complaint, packet: &[u8], header: &Header) -> Vec<u8> {
    match header.source {
        IpAddr::V4(to) => {
            // 20 + 8 bytes of headers in the 576 that RFC 1812 §4.3.2.3 allows.
            let body = body(hop, packet, header, 548, true);
            let length = u8::try_from(body.quoted / 4).expect("548 bytes at most");
            let ip = Ipv4Header {
                dscp: (TOS >> 2).try_into().expect("6 bits"),
                time_to_live: hop.icmp_ttl,
                protocol: IpNumber::ICMP,
                source: hop.address_v4().octets(),
                destination: to.octets(),
                ..Ipv4Header::default()
            };
            let length = if body.extended { length } else { 0 };
            let (kind, code, rest) = match complaint {
                Complaint::Expired => (icmpv4::TYPE_TIME_EXCEEDED, 0, [0, length, 0, 0]),
                Complaint::TooBig(mtu) => {
                    // RFC 1191 §4 has 16 bits for it; no packet needs more.
                    let [high, low] = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
                    let rest = [0, length, high, low];
                    (
                        icmpv4::TYPE_DEST_UNREACH,
                        icmpv4::CODE_DST_UNREACH_NEED_FRAG,
                        rest,
                    )
                }
            };
            let headers = IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
            let builder = PacketBuilder::ip(headers).icmpv4_raw(kind, code, rest);
            write(builder.size(body.bytes.len()), |out| {
                builder.write(out, &body.bytes)
            })
        }
        IpAddr::V6(to) => {
            // RFC 4884 §4 extends no "packet too big".
            let may_extend = complaint == Complaint::Expired;
            // 40 + 8 bytes of headers in the 1,280 that RFC 4443 §2.4 allows.
            let body = body(hop, packet, header, 1232, may_extend);
            let length = u8::try_from(body.quoted / 8).expect("1232 bytes at most");
            let length = if body.extended { length } else { 0 };
            let ip = Ipv6Header {
                traffic_class: TOS,
                hop_limit: hop.icmp_ttl,
                next_header: IpNumber::IPV6_ICMP,
                source: hop.address_v6().octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            let (kind, rest) = match complaint {
                Complaint::Expired => (icmpv6::TYPE_TIME_EXCEEDED, [length, 0, 0, 0]),
                Complaint::TooBig(mtu) => (icmpv6::TYPE_PACKET_TOO_BIG, mtu.to_be_bytes()),
            };
            let headers = IpHeaders::Ipv6(ip, etherparse::Ipv6Extensions::default());
            let builder = PacketBuilder::ip(headers).icmpv6_raw(kind, 0, rest);
            write(builder.size(body.bytes.len()), |out| {
                builder.write(out, &body.bytes)
            })
        }
    }
}

fn write<E: std::fmt::Debug>(
    size: usize,
    writer: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(size);
    writer(&mut out).expect("a message of less than 1,280 bytes fits its header");
    out
}

/// What follows the eight bytes of an error's header.
struct Body {
    bytes: Vec<u8>,
    /// Bytes of the packet in it, and what fills them up.
    quoted: usize,
    extended: bool,
}

/// As much of the packet as the router quotes, and its extensions, in at most `room` bytes.
fn body(hop: &Hop, packet: &[u8], header: &Header, room: usize, may_extend: bool) -> Body {
    // RFC 4884 §3 to §5: what has extensions quotes at least 128 bytes, filled up with zeros, a multiple of 4
    // or 8. Routers that say no more do not quote more, so that it is where old readers expect it (§5.1).
    const EXTENDED: usize = 128;
    let extensions = if may_extend {
        extensions(hop)
    } else {
        Vec::new()
    };
    let extended = !extensions.is_empty();
    let whole = hop
        .quote
        .map_or(if extended { EXTENDED } else { room }, |quote| {
            header.len.saturating_add(quote)
        });
    let most = room.saturating_sub(extensions.len()) / 8 * 8;
    let most = if extended { most } else { room };
    let mut bytes = packet[..packet.len().min(whole).min(most)].to_vec();
    if extended {
        bytes.resize(bytes.len().max(EXTENDED).next_multiple_of(8), 0);
    }
    let quoted = bytes.len();
    bytes.extend(extensions);
    Body {
        bytes,
        quoted,
        extended,
    }
}

/// The extension structure (RFC 4884 §7): a header with a checksum, and objects.
fn extensions(hop: &Hop) -> Vec<u8> {
    const VERSION_2: u8 = 0x20;
    if hop.mpls.is_empty() && hop.interface_name.is_none() {
        return Vec::new();
    }
    let mut bytes = vec![VERSION_2, 0, 0, 0];
    if !hop.mpls.is_empty() {
        // RFC 4950 §3: class 1, the incoming label stack.
        bytes.extend(object(1, 1, &label_stack(&hop.mpls)));
    }
    if let Some(name) = &hop.interface_name {
        // RFC 5837 §4: class 2; in the type the role 0, incoming, and the bit for a name.
        bytes.extend(object(2, 0b0000_0010, &counted_name(name)));
    }
    let sum = u64_16bit_word::add_slice(0, &bytes);
    let checksum = u64_16bit_word::ones_complement_with_no_zero(sum).to_be();
    bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn object(class: u8, kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + data.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    [&[high, low, class, kind], data].concat()
}

fn label_stack(labels: &[Label]) -> Vec<u8> {
    let last = labels.len() - 1;
    let entry = |(place, entry): (usize, &Label)| {
        let bottom = u32::from(place == last);
        let word =
            entry.label << 12 | u32::from(entry.class) << 9 | bottom << 8 | u32::from(entry.ttl);
        word.to_be_bytes()
    };
    labels.iter().enumerate().flat_map(entry).collect()
}

/// RFC 5837 §4.3: a length that counts itself, and zeros up to a multiple of 4.
fn counted_name(name: &str) -> Vec<u8> {
    let padded = (1 + name.len()).next_multiple_of(4);
    let mut bytes = vec![u8::try_from(padded).unwrap_or(u8::MAX)];
    bytes.extend(name.as_bytes());
    bytes.resize(padded, 0);
    bytes
}
