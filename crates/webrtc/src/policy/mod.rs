//! Which options a datagram gets.

mod overrides;
mod rfc8837;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, SocketAddrV6},
    sync::Arc,
};

use arc_swap::ArcSwap;
use perpacket_udp::{MessageOptions, OptionsError};

pub(crate) use overrides::LiveOverrides;
pub use overrides::Overrides;
pub use rfc8837::{MediaKind, Priority};

use crate::{Classified, PacketClass, RtpStream};

/// The options of every datagram, by what it is and whom it goes to. Any thread can change them at
/// any time; the next datagram sees it.
///
/// They are resolved field by field, and the first that is set wins:
///
/// 1. peer and class, 2. peer, 3. session and class, 4. session,
/// 5. RTP stream by SSRC, 6. RTP stream by payload type, 7. class, 8. default.
///
/// What none of them sets is left to the socket. A `source` counts only for destinations of its own
/// address family. Clones share one policy. Resolving takes no lock and allocates nothing.
///
/// ```
/// use perpacket_udp::{Dscp, MessageOptions};
/// use perpacket_webrtc::{PacketClass, Policy};
///
/// let policy = Policy::new();
/// policy.set_class_options(PacketClass::Srtp, MessageOptions::default().with_dscp(Dscp::AF41))?;
/// let peer = "192.0.2.1:5000".parse().unwrap();
/// policy.set_peer_options(peer, MessageOptions::default().with_ttl(10))?;
///
/// let options = policy.resolve(peer, PacketClass::Srtp);
/// assert_eq!((options.ttl, options.dscp), (Some(10), Some(Dscp::AF41)));
/// # Ok::<_, perpacket_udp::OptionsError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Policy {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What holds for everybody: few entries, swapped whole.
    base: ArcSwap<Base>,
    /// One entry a peer: there can be very many, so each is replaced alone.
    peers: papaya::HashMap<SocketAddr, Overrides>,
}

#[derive(Clone, Debug, Default)]
struct Base {
    /// Per class, and the default for any class.
    all: Overrides,
    streams: BTreeMap<Stream, MessageOptions>,
}

/// RTP streams, named by what their packets have in the clear (RFC 3711 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Stream {
    /// The one with this synchronisation source.
    Ssrc(u32),
    /// All with this payload type, 0..=127.
    PayloadType(u8),
}

/// What a [`Policy`] holds, as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PolicySnapshot {
    /// The options of all datagrams, and of each class.
    pub all: Overrides,
    /// The options of RTP streams, in order.
    pub streams: Vec<(Stream, MessageOptions)>,
    /// The options of peers, in the order of their addresses.
    pub peers: Vec<(SocketAddr, Overrides)>,
}

impl Policy {
    /// Sets nothing: every datagram goes out as the system sends it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the options of datagrams that nothing else names.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_default_options(&self, options: MessageOptions) -> Result<(), OptionsError> {
        options.validate()?;
        self.change_base(|base| base.all.any = options);
        Ok(())
    }

    /// Sets the options of a class, in place of those it had. [`MessageOptions::NONE`] removes them.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_class_options(
        &self,
        class: PacketClass,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        options.validate()?;
        self.change_base(|base| base.all.set_class(class, options));
        Ok(())
    }

    /// Sets the options of RTP streams. [`MessageOptions::NONE`] removes them.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_stream_options(
        &self,
        stream: Stream,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        options.validate()?;
        if let Stream::PayloadType(value @ 128..) = stream {
            return Err(OptionsError::OutOfRange {
                field: "payload_type",
                value: value.into(),
                range: "0..=127",
            });
        }
        self.change_base(|base| {
            if options.is_empty() {
                base.streams.remove(&stream);
            } else {
                base.streams.insert(stream, options);
            }
        });
        Ok(())
    }

    /// Sets the options of everything that goes to a peer, in place of those it had.
    /// [`MessageOptions::NONE`] removes them.
    ///
    /// Behind a TURN relay the peer is whom the server relays to, not the server.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_peer_options(
        &self,
        peer: SocketAddr,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        options.validate()?;
        self.change_peer(peer, |overrides| overrides.any = options);
        Ok(())
    }

    /// Sets the options of one class of what goes to a peer. [`MessageOptions::NONE`] removes them.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_peer_class_options(
        &self,
        peer: SocketAddr,
        class: PacketClass,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        options.validate()?;
        self.change_peer(peer, |overrides| overrides.set_class(class, options));
        Ok(())
    }

    /// Forgets all that was set for a peer, and returns it.
    #[expect(clippy::must_use_candidate, reason = "most only want it gone")]
    pub fn remove_peer(&self, peer: SocketAddr) -> Option<Overrides> {
        self.shared.peers.pin().remove(&key(peer)).cloned()
    }

    /// Takes over everything that `other` sets, and forgets what this sets beyond that: the way to
    /// another policy, or with an empty one to none, while connections run. What holds for everybody
    /// changes at one moment; peers follow one by one.
    pub fn replace(&self, other: &Self) {
        if Arc::ptr_eq(&self.shared, &other.shared) {
            return;
        }
        self.shared.base.store(other.shared.base.load_full());
        let (peers, others) = (self.shared.peers.pin(), other.shared.peers.pin());
        peers.retain(|peer, _| others.contains_key(peer));
        for (peer, overrides) in &others {
            peers.insert(*peer, overrides.clone());
        }
    }

    /// What is set for a peer.
    #[must_use]
    pub fn peer(&self, peer: SocketAddr) -> Overrides {
        self.shared
            .peers
            .pin()
            .get(&key(peer))
            .cloned()
            .unwrap_or_default()
    }

    /// Everything that is set. Sessions list their own.
    #[must_use]
    pub fn snapshot(&self) -> PolicySnapshot {
        let base = self.shared.base.load_full();
        let mut peers: Vec<_> = self
            .shared
            .peers
            .pin()
            .iter()
            .map(|(peer, set)| (*peer, set.clone()))
            .collect();
        peers.sort_unstable_by_key(|(peer, _)| *peer);
        let streams = base
            .streams
            .iter()
            .map(|(stream, options)| (*stream, *options))
            .collect();
        PolicySnapshot {
            all: base.all.clone(),
            streams,
            peers,
        }
    }

    /// The options of a datagram of this class to this peer, outside of any session.
    #[must_use]
    pub fn resolve(&self, peer: SocketAddr, class: PacketClass) -> MessageOptions {
        self.resolve_packet(peer, peer, class, None, None)
    }

    /// The options of this very datagram.
    #[must_use]
    pub fn resolve_datagram(&self, peer: SocketAddr, datagram: &Classified) -> MessageOptions {
        self.resolve_packet(peer, peer, datagram.class, datagram.rtp, None)
    }

    /// The options of a datagram of this class to this peer, of a session that has these options of its own. What
    /// is set for RTP streams does not count.
    #[must_use]
    pub fn resolve_in_session(
        &self,
        peer: SocketAddr,
        class: PacketClass,
        session: &Overrides,
    ) -> MessageOptions {
        self.resolve_packet(peer, peer, class, None, Some(session))
    }

    /// All eight steps, for a datagram that is sent to `target`: behind a TURN relay, that is another
    /// than the peer.
    #[inline]
    pub(crate) fn resolve_packet(
        &self,
        target: SocketAddr,
        peer: SocketAddr,
        class: PacketClass,
        rtp: Option<RtpStream>,
        session: Option<&Overrides>,
    ) -> MessageOptions {
        let v4 = target.ip().to_canonical().is_ipv4();
        let usable = |mut options: MessageOptions| {
            options.source = options
                .source
                .filter(|source| source.to_canonical().is_ipv4() == v4);
            options
        };
        let mut options = MessageOptions::NONE;
        if let Some(overrides) = self.shared.peers.pin().get(&key(peer)) {
            options = usable(overrides.resolve(class));
        }
        if let Some(session) = session {
            options = options.or(usable(session.resolve(class)));
        }
        let base = self.shared.base.load();
        if let Some(rtp) = rtp
            && !base.streams.is_empty()
        {
            for stream in [
                Stream::Ssrc(rtp.ssrc),
                Stream::PayloadType(rtp.payload_type),
            ] {
                if let Some(of_stream) = base.streams.get(&stream) {
                    options = options.or(usable(*of_stream));
                }
            }
        }
        options.or(usable(base.all.resolve(class)))
    }

    fn change_base(&self, change: impl Fn(&mut Base)) {
        self.shared.base.rcu(|base| {
            let mut base = Base::clone(base);
            change(&mut base);
            base
        });
    }

    fn change_peer(&self, peer: SocketAddr, change: impl Fn(&mut Overrides)) {
        let peers = self.shared.peers.pin();
        let changed = |before: Option<&Overrides>| {
            let mut overrides = before.cloned().unwrap_or_default();
            change(&mut overrides);
            overrides
        };
        peers.compute(key(peer), |entry| {
            let before = entry.map(|(_, overrides)| overrides);
            let after = changed(before);
            match (before, after.is_empty()) {
                (None, true) => papaya::Operation::Abort(()),
                (Some(_), true) => papaya::Operation::Remove,
                (_, false) => papaya::Operation::Insert(after),
            }
        });
    }
}

/// One name for one peer: an IPv4 address is the same in v4-mapped form, and neither flow label nor
/// scope tells peers apart, because candidates in a session description have none.
pub(crate) fn key(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => peer,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => (v4, v6.port()).into(),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use perpacket_udp::{Dscp, Ecn};

    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn ttl(ttl: u8) -> MessageOptions {
        MessageOptions::NONE.with_ttl(ttl)
    }

    /// Each level is set to another TTL, from the last to the first, and each time the new one wins.
    #[test]
    fn the_first_level_that_sets_a_field_wins() {
        let policy = Policy::new();
        let session = LiveOverrides::default();
        let (it, class) = (peer("192.0.2.1:5"), PacketClass::Srtp);
        let rtp = RtpStream {
            payload_type: 96,
            ssrc: 7,
        };
        let resolve = || {
            policy
                .resolve_packet(it, it, class, Some(rtp), Some(&session.load()))
                .ttl
        };

        assert_eq!(resolve(), None);
        policy.set_default_options(ttl(8)).expect("valid");
        assert_eq!(resolve(), Some(8));
        policy.set_class_options(class, ttl(7)).expect("valid");
        assert_eq!(resolve(), Some(7));
        policy
            .set_stream_options(Stream::PayloadType(96), ttl(6))
            .expect("valid");
        assert_eq!(resolve(), Some(6));
        policy
            .set_stream_options(Stream::Ssrc(7), ttl(5))
            .expect("valid");
        assert_eq!(resolve(), Some(5));
        session.change(|overrides| overrides.any = ttl(4));
        assert_eq!(resolve(), Some(4));
        session.change(|overrides| overrides.set_class(class, ttl(3)));
        assert_eq!(resolve(), Some(3));
        policy.set_peer_options(it, ttl(2)).expect("valid");
        assert_eq!(resolve(), Some(2));
        policy
            .set_peer_class_options(it, class, ttl(1))
            .expect("valid");
        assert_eq!(resolve(), Some(1));

        assert_eq!(
            policy.remove_peer(it).map(|removed| removed.any.ttl),
            Some(Some(2))
        );
        assert_eq!(policy.remove_peer(it), None);
        assert_eq!(resolve(), Some(3));
        policy
            .set_stream_options(Stream::Ssrc(7), MessageOptions::NONE)
            .expect("valid");
        policy
            .set_stream_options(Stream::PayloadType(96), MessageOptions::NONE)
            .expect("valid");
        session.change(|overrides| *overrides = Overrides::default());
        assert_eq!(resolve(), Some(7));
        assert_eq!(
            policy.resolve(peer("192.0.2.1:6"), PacketClass::Dtls).ttl,
            Some(8)
        );
    }

    #[test]
    fn fields_come_from_different_levels() {
        let policy = Policy::new();
        let it = peer("[2001:db8::1]:5");
        policy
            .set_class_options(
                PacketClass::Dtls,
                MessageOptions::NONE.with_dscp(Dscp::AF11),
            )
            .expect("valid");
        policy
            .set_peer_options(it, MessageOptions::NONE.with_ecn(Ecn::Ect0))
            .expect("valid");
        assert_eq!(
            policy.resolve(it, PacketClass::Dtls).tos_byte(),
            Some(10 << 2 | 2)
        );
        assert_eq!(policy.resolve(it, PacketClass::Stun).tos_byte(), Some(2));
    }

    #[test]
    fn a_source_counts_for_its_own_family_only() {
        let policy = Policy::new();
        let (v4, v6) = (peer("192.0.2.1:5"), peer("[2001:db8::1]:5"));
        let source =
            |text: &str| MessageOptions::NONE.with_source(text.parse().expect("an address"));
        policy
            .set_default_options(source("10.0.0.1"))
            .expect("valid");
        policy
            .set_class_options(PacketClass::Stun, source("fd00::1"))
            .expect("valid");
        let resolved = |to| {
            policy
                .resolve(to, PacketClass::Dtls)
                .source
                .map(|s| s.to_string())
        };
        assert_eq!(resolved(v4).as_deref(), Some("10.0.0.1"));
        assert_eq!(resolved(v6), None);
        assert_eq!(
            policy.resolve(v6, PacketClass::Stun).source,
            source("fd00::1").source
        );
    }

    #[test]
    fn a_peer_has_one_name() {
        let policy = Policy::new();
        policy
            .set_peer_options(peer("192.0.2.1:5"), ttl(9))
            .expect("valid");
        assert_eq!(
            policy
                .resolve(peer("[::ffff:192.0.2.1]:5"), PacketClass::Stun)
                .ttl,
            Some(9)
        );
        policy
            .set_peer_options(peer("[fe80::1]:5"), ttl(9))
            .expect("valid");
        assert_eq!(
            policy.resolve(peer("[fe80::1%3]:5"), PacketClass::Stun).ttl,
            Some(9)
        );
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let policy = Policy::new();
        let it = peer("192.0.2.1:5");
        policy
            .set_peer_class_options(it, PacketClass::Stun, ttl(3))
            .expect("valid");
        policy.set_peer_options(it, ttl(4)).expect("valid");
        assert_eq!(policy.snapshot().peers.len(), 1);
        policy
            .set_peer_class_options(it, PacketClass::Stun, MessageOptions::NONE)
            .expect("valid");
        policy
            .set_peer_options(it, MessageOptions::NONE)
            .expect("valid");
        assert_eq!(policy.snapshot(), PolicySnapshot::default());
    }

    #[test]
    fn a_policy_replaces_another() {
        let (it, gone) = (peer("192.0.2.1:5"), peer("192.0.2.2:5"));
        let policy = Policy::rfc8837(Priority::High, &[(111, MediaKind::Audio)]);
        policy.set_peer_options(gone, ttl(3)).expect("valid");
        policy.set_peer_options(it, ttl(4)).expect("valid");
        let next = Policy::rfc8837(Priority::Low, &[(96, MediaKind::InteractiveVideo)]);
        next.set_peer_options(it, ttl(5)).expect("valid");
        policy.replace(&next);
        assert_eq!(policy.snapshot(), next.snapshot());
        policy.replace(&policy.clone());
        assert_eq!(policy.snapshot(), next.snapshot());
        policy.replace(&Policy::new());
        assert_eq!(policy.snapshot(), PolicySnapshot::default());
    }

    #[test]
    fn bad_values_change_nothing() {
        let policy = Policy::new();
        assert!(policy.set_default_options(ttl(0)).is_err());
        assert!(policy.set_class_options(PacketClass::Stun, ttl(0)).is_err());
        assert!(
            policy
                .set_peer_options(peer("192.0.2.1:5"), ttl(0))
                .is_err()
        );
        assert!(
            policy
                .set_stream_options(Stream::PayloadType(128), ttl(1))
                .is_err()
        );
        assert_eq!(policy.snapshot(), PolicySnapshot::default());
    }

    #[test]
    fn resolving_does_not_allocate() {
        let policy = Policy::rfc8837(Priority::High, &[(111, MediaKind::Audio)]);
        for n in 0..1000u16 {
            let [high, low] = n.to_be_bytes();
            policy
                .set_peer_options(([10, 0, high, low], n).into(), ttl(9))
                .expect("valid");
        }
        let session = LiveOverrides::default();
        session.change(|overrides| overrides.any = ttl(4));
        let rtp = RtpStream {
            payload_type: 111,
            ssrc: 7,
        };
        let resolve = || {
            policy.resolve_packet(
                peer("10.0.0.9:9"),
                peer("10.0.0.9:9"),
                PacketClass::Srtp,
                Some(rtp),
                Some(&session.load()),
            )
        };
        assert_eq!(resolve().ttl, Some(9));
        let allocations = allocation_counter::measure(|| {
            for _ in 0..100 {
                std::hint::black_box(resolve());
            }
        });
        assert_eq!(allocations.count_total, 0);
    }
}
