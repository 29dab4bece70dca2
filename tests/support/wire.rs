//! What a datagram on the wire is, and what its header says.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use anyhow::{Result, bail, ensure};
use perpacket_lab::{Direction, Packet};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::PacketClass;

/// The classes that a peer connection sends without a TURN server.
pub(crate) const CLASSES: [PacketClass; 4] = [
    PacketClass::Stun,
    PacketClass::Dtls,
    PacketClass::Srtp,
    PacketClass::Srtcp,
];

/// By the first bytes, RFC 7983 §7 and RFC 5761 §4. Written anew: the classifier that the options were chosen by is
/// not to be its own judge.
pub(crate) fn class_of(packet: &Packet) -> Option<PacketClass> {
    packet.udp?;
    match *packet.payload {
        [0..=3, ..] => Some(PacketClass::Stun),
        [20..=63, ..] => Some(PacketClass::Dtls),
        [128..=191, 192..=223, ..] => Some(PacketClass::Srtcp),
        [128..=191, ..] => Some(PacketClass::Srtp),
        _ => None,
    }
}

/// The payload type of RTP.
pub(crate) fn payload_type(packet: &Packet) -> Option<u8> {
    (class_of(packet)? == PacketClass::Srtp).then(|| packet.payload[1] & 0x7f)
}

/// The synchronisation source of RTP.
pub(crate) fn ssrc(packet: &Packet) -> Option<u32> {
    payload_type(packet)?;
    packet
        .payload
        .get(8..12)?
        .try_into()
        .ok()
        .map(u32::from_be_bytes)
}

/// Whether the header says what the options ask for, in the fields that they set.
pub(crate) fn complies(packet: &Packet, options: &MessageOptions) -> bool {
    // IPv6 has no DF bit: small datagrams go out whole either way.
    let df = options.df_bit.filter(|_| packet.source.is_ipv4());
    options.ttl.is_none_or(|ttl| ttl == packet.ttl)
        && df.is_none_or(|df| df == packet.df)
        && options.tos_byte().is_none_or(|tos| tos == packet.tos)
}

/// The datagrams that `from` put on the wire, after a moment.
pub(crate) fn sent_after(
    packets: &[Packet],
    from: IpAddr,
    moment: SystemTime,
) -> impl Iterator<Item = &Packet> {
    packets.iter().filter(move |packet| {
        packet.direction == Direction::Outgoing
            && packet.udp.is_some()
            && packet.source.ip() == from
            && packet.at > moment
    })
}

/// How many there are of each of [`CLASSES`].
pub(crate) fn count<'a>(packets: impl Iterator<Item = &'a Packet>) -> [usize; 4] {
    let mut counts = [0; 4];
    for class in packets.filter_map(class_of) {
        if let Some(at) = CLASSES.iter().position(|known| *known == class) {
            counts[at] += 1;
        }
    }
    counts
}

/// Fails with the first that does not comply.
///
/// A thread that has asked the policy and not yet called the kernel when a setter returns, sends what held before. So
/// as many datagrams as there are sending threads may comply with `before` instead.
pub(crate) fn all_comply<'a>(
    packets: impl Iterator<Item = &'a Packet>,
    options: impl Fn(&Packet, PacketClass) -> MessageOptions,
    before: impl Fn(&Packet, PacketClass) -> MessageOptions,
) -> Result<()> {
    const THREADS: usize = 3;
    let mut late = 0;
    for packet in packets {
        let Some(class) = class_of(packet) else {
            bail!("what is this? {packet}");
        };
        let options = options(packet, class);
        if complies(packet, &options) {
            continue;
        }
        ensure!(
            late < THREADS && complies(packet, &before(packet, class)),
            "{class}, not {options:?}: {packet}"
        );
        late += 1;
    }
    Ok(())
}

/// Fails unless each datagram that came in at the far wire is one of those that went out on the near one, after
/// `routers` routers, and says how many of each class those are.
pub(crate) fn arrived_as_sent(
    near: &[Packet],
    far: &[Packet],
    from: IpAddr,
    routers: u8,
) -> Result<[usize; 4]> {
    type Key<'a> = (SocketAddr, SocketAddr, &'a [u8]);
    fn key(packet: &Packet) -> Key<'_> {
        (packet.source, packet.destination, &packet.payload)
    }
    let mut sent = HashMap::<Key<'_>, Vec<&Packet>>::new();
    for packet in sent_after(near, from, SystemTime::UNIX_EPOCH) {
        sent.entry(key(packet)).or_default().push(packet);
    }
    let arrived = || {
        far.iter().filter(|packet| {
            packet.direction == Direction::Incoming
                && packet.udp.is_some()
                && packet.source.ip() == from
        })
    };
    for packet in arrived() {
        let same = |sent: &&Packet| {
            sent.ttl == packet.ttl + routers && sent.tos == packet.tos && sent.df == packet.df
        };
        let candidates = sent.get(&key(packet));
        ensure!(
            candidates.is_some_and(|sent| sent.iter().any(same)),
            "arrived: {packet}, sent: {candidates:?}"
        );
    }
    Ok(count(arrived()))
}
