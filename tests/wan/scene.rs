//! A simulated network with a sniffer at either end.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Direction, Icmp, Packet, Scenario, Sniffer, Wan};
use socket2::SockRef;

/// For what takes milliseconds, on a machine that is busy with something else.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The port at which nobody listens but the sniffer.
pub(crate) const PORT: u16 = 4000;

pub(crate) struct Scene {
    pub(crate) wan: Wan,
    pub(crate) near: Sniffer,
    pub(crate) far: Sniffer,
}

impl Scene {
    pub(crate) fn load(name: &str) -> Result<Self> {
        Self::of(Wan::load(name)?)
    }

    pub(crate) fn parse(toml: &str) -> Result<Self> {
        Self::of(Wan::parse(toml)?)
    }

    pub(crate) fn start(scenario: Scenario) -> Result<Self> {
        Self::of(Wan::start(scenario)?)
    }

    fn of(wan: Wan) -> Result<Self> {
        let near = Sniffer::on(wan.left(), Wan::INTERFACE)?;
        let far = Sniffer::on(wan.right(), Wan::INTERFACE)?;
        Ok(Self { wan, near, far })
    }

    /// A socket of the left host.
    pub(crate) fn left(&self, address: IpAddr) -> Result<UdpSocket> {
        let socket = self.wan.left().run(|| UdpSocket::bind((address, 0)))?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(socket)
    }

    /// A socket of the right host at [`PORT`].
    pub(crate) fn right(&self, address: IpAddr) -> Result<UdpSocket> {
        let socket = self.wan.right().run(|| UdpSocket::bind((address, PORT)))?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(socket)
    }

    /// The packet with this payload as the left host sent it, then what came of it there: the next ICMP error
    /// that quotes its destination and UDP checksum.
    pub(crate) fn error_about(&mut self, payload: &[u8]) -> Result<(Packet, Packet)> {
        let sent = self.near.find(SOON, |p| {
            p.direction == Direction::Outgoing && &*p.payload == payload
        })?;
        let checksum = sent.udp.context("UDP")?.checksum;
        let error = self.near.find(SOON, |p| {
            p.direction == Direction::Incoming
                && quoted(p).is_ok_and(|q| {
                    q.destination == sent.destination
                        && q.udp.is_some_and(|udp| udp.checksum == checksum)
                })
        })?;
        ensure!(error.destination.ip() == sent.source.ip(), "{error}");
        ensure!(checksums_are_right(&error), "wrong checksum: {error}");
        Ok((sent, error))
    }

    /// The packet with this payload as the right host got it.
    pub(crate) fn arrived(&mut self, payload: &[u8]) -> Result<Packet> {
        let packet = self.far.find(SOON, |p| {
            p.direction == Direction::Incoming && &*p.payload == payload
        })?;
        ensure!(checksums_are_right(&packet), "wrong checksum: {packet}");
        Ok(packet)
    }
}

/// What an ICMP error quotes.
pub(crate) fn quoted(packet: &Packet) -> Result<&Packet> {
    let icmp = packet.icmp.as_ref();
    icmp.and_then(|icmp| icmp.quoted.as_deref())
        .context("nothing is quoted")
}

pub(crate) fn icmp(packet: &Packet) -> Result<&Icmp> {
    packet.icmp.as_ref().context("not ICMP")
}

/// Sets the TTL or hop limit of all that a socket sends.
pub(crate) fn set_ttl(socket: &UdpSocket, ttl: u8) -> Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => SockRef::from(socket).set_ttl_v4(ttl.into())?,
        SocketAddr::V6(_) => SockRef::from(socket).set_unicast_hops_v6(ttl.into())?,
    }
    Ok(())
}

/// Sets the TOS byte or traffic class of all that a socket sends.
pub(crate) fn set_tos(socket: &UdpSocket, tos: u8) -> Result<()> {
    match socket.local_addr()? {
        SocketAddr::V4(_) => SockRef::from(socket).set_tos_v4(tos.into())?,
        SocketAddr::V6(_) => SockRef::from(socket).set_tclass_v6(tos.into())?,
    }
    Ok(())
}

/// Bytes of IP and UDP header.
pub(crate) fn headers(address: IpAddr) -> usize {
    if address.is_ipv4() { 28 } else { 48 }
}

/// Whether the checksums of the IPv4 header, and of UDP and ICMP with their pseudo headers, are right. Those
/// of a fragment cannot be told.
pub(crate) fn checksums_are_right(packet: &Packet) -> bool {
    let sum = |parts: &[&[u8]]| -> u32 {
        let words = parts.iter().flat_map(|part| part.chunks(2));
        let mut sum: u32 = words
            .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    };
    let raw = &packet.raw[..];
    let (addresses, transport) = match packet.source.ip() {
        IpAddr::V4(_) => {
            let (header, transport) = raw.split_at(usize::from(raw[0] & 0x0f) * 4);
            if sum(&[header]) != 0xffff {
                return false;
            }
            (&raw[12..20], transport)
        }
        IpAddr::V6(_) => (&raw[8..40], &raw[40..]),
    };
    if packet.fragment.is_some() {
        return true;
    }
    let length = u32::try_from(transport.len())
        .expect("65,535 at most")
        .to_be_bytes();
    let protocol = [0, packet.protocol];
    match packet.protocol {
        1 => sum(&[transport]) == 0xffff,
        17 if transport[6..8] == [0, 0] => packet.source.is_ipv4(),
        _ => sum(&[addresses, &length, &protocol, transport]) == 0xffff,
    }
}
