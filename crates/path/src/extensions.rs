use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

/// Of the extension structure, of each object, and of each field: RFC 4884 §7, RFC 5837 §4.
const HEADER: usize = 4;
const VERSION: u8 = 2;

/// What a router adds to an ICMP error about itself (RFC 4884 §8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum IcmpExtension {
    /// The MPLS labels that the datagram carried when it came to the router, the outermost first
    /// (RFC 4950 §3).
    Mpls {
        /// The label stack.
        labels: Vec<MplsLabel>,
    },
    /// An interface of the router (RFC 5837 §4).
    Interface(InterfaceInformation),
    /// Any other object, or one that does not keep to its own format.
    Other {
        /// Class-Num, as IANA assigns it.
        class: u8,
        /// C-Type, within the class.
        c_type: u8,
        /// What the object holds, without its header.
        bytes: Vec<u8>,
    },
}

/// An entry of an MPLS label stack (RFC 3032 §2.1, RFC 5462 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MplsLabel {
    /// The label, 20 bits.
    pub label: u32,
    /// The traffic class, 3 bits; once called EXP.
    pub traffic_class: u8,
    /// Whether it is the last of the stack.
    pub bottom: bool,
    /// The TTL of the label, hops.
    pub ttl: u8,
}

/// What a router says of one of its interfaces (RFC 5837 §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InterfaceInformation {
    /// What the interface has to do with the datagram.
    pub role: InterfaceRole,
    /// Its number, `ifIndex` of the router's MIB.
    pub index: Option<u32>,
    /// Its address.
    pub address: Option<IpAddr>,
    /// Its name, at most 63 bytes; what is not text is replaced.
    pub name: Option<String>,
    /// Its MTU, bytes.
    pub mtu: Option<u32>,
}

/// What an interface has to do with the datagram that the error is about (RFC 5837 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InterfaceRole {
    /// The datagram arrived there.
    Incoming,
    /// The component of it, below IP, where the datagram arrived.
    IncomingSubIp,
    /// The datagram would have left there.
    Outgoing,
    /// The next hop that the datagram would have been forwarded to.
    NextHop,
}

/// Why an extension structure says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// Shorter than a header, or an object that ends before it begins or goes beyond the end.
    #[error("an ICMP extension of {length} bytes is cut off or has a wrong length at byte {at}")]
    Length {
        /// Bytes there are.
        length: usize,
        /// Where the length is wrong.
        at: usize,
    },
    /// Not version 2, the only one there is.
    #[error("ICMP extension version {0}")]
    Version(u8),
    /// The checksum is wrong: it may not be an extension at all.
    #[error("an ICMP extension with a wrong checksum")]
    Checksum,
}

impl IcmpExtension {
    /// Reads an extension structure, its header included (RFC 4884 §7); no bytes are no extensions.
    ///
    /// ```
    /// use perpacket_path::IcmpExtension;
    /// let bytes = [0x20, 0, 0xd7, 0xb4, 0, 8, 1, 1, 0x06, 0x40, 0x01, 0x02];
    /// let extensions = IcmpExtension::read(&bytes)?;
    /// let [IcmpExtension::Mpls { labels }] = &extensions[..] else { panic!() };
    /// assert_eq!((labels[0].label, labels[0].ttl), (25_600, 2));
    /// # Ok::<_, perpacket_path::ExtensionError>(())
    /// ```
    ///
    /// # Errors
    /// When it is no such structure. An object inside that breaks its own format is no error, but
    /// [`Other`](Self::Other).
    pub fn read(bytes: &[u8]) -> Result<Vec<Self>, ExtensionError> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let wrong_at = |at| ExtensionError::Length {
            length: bytes.len(),
            at,
        };
        let [version, _, high, low] = *bytes.first_chunk().ok_or(wrong_at(0))?;
        if version >> 4 != VERSION {
            return Err(ExtensionError::Version(version >> 4));
        }
        // Zero says that there is none (RFC 4884 §7).
        if (high, low) != (0, 0) && internet_sum(bytes) != 0xffff {
            return Err(ExtensionError::Checksum);
        }
        let mut extensions = Vec::new();
        let mut at = HEADER;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let [high, low, class, c_type] = *rest.first_chunk().ok_or(wrong_at(at))?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let content = rest.get(HEADER..length).ok_or(wrong_at(at))?;
            extensions.push(Self::object(class, c_type, content));
            at += length;
        }
        Ok(extensions)
    }

    fn object(class: u8, c_type: u8, content: &[u8]) -> Self {
        let known = match (class, c_type) {
            (1, 1) => label_stack(content),
            (2, _) => InterfaceInformation::read(c_type, content).map(Self::Interface),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Other {
            class,
            c_type,
            bytes: content.to_vec(),
        })
    }
}

/// RFC 4950 §3: a label stack as it was on the wire, RFC 3032 §2.1.
fn label_stack(content: &[u8]) -> Option<IcmpExtension> {
    let (entries, rest) = content.as_chunks::<4>();
    let labels = entries.iter().map(|entry| {
        let bits = u32::from_be_bytes(*entry);
        let [.., traffic_class, ttl] = *entry;
        MplsLabel {
            label: bits >> 12,
            traffic_class: traffic_class >> 1 & 0b111,
            bottom: traffic_class & 1 == 1,
            ttl,
        }
    });
    rest.is_empty().then(|| IcmpExtension::Mpls {
        labels: labels.collect(),
    })
}

impl InterfaceInformation {
    /// RFC 5837 §4.1: the C-Type says which parts follow, and they follow in this order.
    fn read(c_type: u8, mut content: &[u8]) -> Option<Self> {
        let has = |bit: u8| c_type & bit != 0;
        let information = Self {
            role: match c_type >> 6 {
                0 => InterfaceRole::Incoming,
                1 => InterfaceRole::IncomingSubIp,
                2 => InterfaceRole::Outgoing,
                _ => InterfaceRole::NextHop,
            },
            index: if has(0b1000) {
                Some(number(&mut content)?)
            } else {
                None
            },
            address: if has(0b0100) {
                Some(address(&mut content)?)
            } else {
                None
            },
            name: if has(0b0010) {
                Some(name(&mut content)?)
            } else {
                None
            },
            mtu: if has(0b0001) {
                Some(number(&mut content)?)
            } else {
                None
            },
        };
        content.is_empty().then_some(information)
    }
}

fn take<const N: usize>(content: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = content.split_first_chunk()?;
    *content = rest;
    Some(*taken)
}

fn number(content: &mut &[u8]) -> Option<u32> {
    take(content).map(u32::from_be_bytes)
}

/// RFC 5837 §4.2: the address family by IANA's number, two bytes that say nothing, the address.
fn address(content: &mut &[u8]) -> Option<IpAddr> {
    match take(content)? {
        [0, 1, _, _] => Some(Ipv4Addr::from(take::<4>(content)?).into()),
        [0, 2, _, _] => Some(Ipv6Addr::from(take::<16>(content)?).into()),
        _ => None,
    }
}

/// RFC 5837 §4.3: a length that counts itself, a multiple of 4 and at most 64, and UTF-8 that zeros
/// fill up.
fn name(content: &mut &[u8]) -> Option<String> {
    let length = usize::from(*content.first()?);
    if length == 0 || length > 64 || !length.is_multiple_of(4) {
        return None;
    }
    let (name, rest) = content.split_at_checked(length)?;
    *content = rest;
    let name = name.get(1..)?;
    let end = name
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    let name = String::from_utf8_lossy(name.get(..end)?);
    // It may be printed on a terminal.
    Some(name.replace(char::is_control, "\u{fffd}"))
}

/// The one's complement sum of 16-bit words (RFC 1071 §1), of which an odd byte at the end is the upper
/// half of one; with a right checksum among them, 0xffff.
pub(crate) fn internet_sum(bytes: &[u8]) -> u32 {
    let (words, odd) = bytes.as_chunks::<2>();
    let words = words
        .iter()
        .copied()
        .chain(odd.first().map(|byte| [*byte, 0]));
    words.fold(0, |sum, word| add(sum, u16::from_be_bytes(word).into()))
}

/// One's complement addition of 16-bit numbers: what runs over comes back at the lower end.
pub(crate) const fn add(a: u32, b: u32) -> u32 {
    let sum = a + b;
    (sum & 0xffff) + (sum >> 16)
}

#[cfg(test)]
mod tests;
