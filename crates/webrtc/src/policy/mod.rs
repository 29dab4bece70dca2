//! Which options a datagram gets.

mod live;
mod overrides;
mod packed;
mod peer;
mod peers;
mod rfc8837;
mod words;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use foldhash::fast::RandomState;
use perpacket_udp::{MessageOptions, OptionsError, PackedOptions};

use live::{Live, Packs};
use peers::Peers;
use words::{Key, Words};

pub(crate) use overrides::LiveOverrides;
pub use overrides::Overrides;
pub(crate) use packed::Packed;
pub(crate) use peer::{PeerKey, is_v4, key};
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
    base: Live<Base>,
    peers: Peers,
}

impl Shared {
    /// What holds for everybody, as far as it fits into a word; `None` while it changes.
    #[inline]
    fn resolve_base(&self, class: PacketClass, rtp: Option<RtpStream>) -> Option<Packed> {
        let base = self.base.resolve(class);
        match rtp {
            Some(rtp) if base.has_streams() => self.base.resolve_with(class, |base, streams| {
                let mut packed = Packed::NONE;
                if base.has_ssrcs() {
                    packed = streams.get(&Key::from(Stream::Ssrc(rtp.ssrc)));
                }
                if base.has_payload_types() {
                    let name = Stream::PayloadType(rtp.payload_type);
                    packed = packed.or(streams.get(&Key::from(name)));
                }
                packed.or(base)
            }),
            _ => Some(base),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Base {
    /// Per class, and the default for any class.
    all: Overrides,
    streams: HashMap<Stream, MessageOptions, RandomState>,
}

impl Packs for Base {
    /// The options of streams, as far as they fit into a word.
    type Index = Words;

    fn pack(&self, class: PacketClass) -> Packed {
        let mut packed = self.all.pack(class);
        // The class that RTP streams can be told apart in.
        if class == PacketClass::Srtp {
            for (stream, options) in &self.streams {
                packed = packed.and_streams(*stream);
                if Packed::from(options).has_more() {
                    packed = packed.and_more();
                }
            }
        }
        packed
    }

    fn index(&self, before: &Self, index: &Words) {
        for stream in before.streams.keys() {
            if !self.streams.contains_key(stream) {
                index.set(&Key::from(*stream), Packed::NONE);
            }
        }
        for (stream, options) in &self.streams {
            index.set(&Key::from(*stream), Packed::from(options));
        }
    }
}

impl Base {
    fn set_stream(&mut self, stream: Stream, options: MessageOptions) {
        if options.is_empty() {
            self.streams.remove(&stream);
        } else {
            self.streams.insert(stream, options);
        }
    }

    /// What is set for a stream, first what comes first.
    fn of_stream(&self, rtp: RtpStream) -> impl Iterator<Item = MessageOptions> {
        let names = [
            Stream::Ssrc(rtp.ssrc),
            Stream::PayloadType(rtp.payload_type),
        ];
        names
            .into_iter()
            .filter_map(|name| self.streams.get(&name).copied())
    }

    /// What is set for streams, in order.
    fn streams(&self) -> Vec<(Stream, MessageOptions)> {
        let streams = self.streams.iter();
        let mut streams: Vec<_> = streams.map(|(stream, set)| (*stream, *set)).collect();
        streams.sort_unstable_by_key(|(stream, _)| *stream);
        streams
    }
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

impl From<Stream> for Key {
    #[inline]
    fn from(stream: Stream) -> Self {
        let (kind, number) = match stream {
            Stream::Ssrc(ssrc) => (0, ssrc),
            Stream::PayloadType(number) => (1, number.into()),
        };
        Self {
            parts: [kind, number.into()],
            number: 0,
        }
    }
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

/// What a policy has for one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) options: PackedOptions,
    pub(crate) source: Option<IpAddr>,
}

impl From<Resolved> for MessageOptions {
    fn from(Resolved { options, source }: Resolved) -> Self {
        Self {
            source,
            ..options.into()
        }
    }
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
        self.change_base(|base| base.set_stream(stream, options));
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
    #[expect(clippy::must_use_candidate, reason = "it changes the policy")]
    pub fn remove_peer(&self, peer: SocketAddr) -> Option<Overrides> {
        let peers = &self.shared.peers;
        let removed = peers.change(peer, |overrides| *overrides = Overrides::default());
        (!removed.is_empty()).then_some(removed)
    }

    /// Takes over everything that `other` sets, and forgets what this sets beyond that: the way to
    /// another policy, or with an empty one to none, while connections run. What holds for everybody
    /// changes at one moment; peers follow one by one.
    pub fn replace(&self, other: &Self) {
        if Arc::ptr_eq(&self.shared, &other.shared) {
            return;
        }
        self.shared.base.replace(&other.shared.base.load_full());
        self.shared.peers.replace(&other.shared.peers);
    }

    /// What is set for a peer.
    #[must_use]
    pub fn peer(&self, peer: SocketAddr) -> Overrides {
        self.shared.peers.get(&peer)
    }

    /// Everything that is set. Sessions list their own.
    #[must_use]
    pub fn snapshot(&self) -> PolicySnapshot {
        let base = self.shared.base.load_full();
        let mut peers = self.shared.peers.list();
        peers.sort_unstable_by_key(|(peer, _)| *peer);
        PolicySnapshot {
            all: base.all.clone(),
            streams: base.streams(),
            peers,
        }
    }

    /// The options of a datagram of this class to this peer, outside of any session.
    #[must_use]
    pub fn resolve(&self, peer: SocketAddr, class: PacketClass) -> MessageOptions {
        let resolved = self.resolve_packet(&peer, &peer, class, None, None);
        resolved.into()
    }

    /// The options of this very datagram.
    #[must_use]
    pub fn resolve_datagram(&self, peer: SocketAddr, datagram: &Classified) -> MessageOptions {
        let resolved = self.resolve_packet(&peer, &peer, datagram.class, datagram.rtp, None);
        resolved.into()
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
        self.resolve_step_by_step(&peer, &peer, class, None, Some(session))
    }

    /// All eight steps, for a datagram that is sent to `target`: behind a TURN relay, that is another
    /// than the peer.
    #[expect(
        clippy::inline_always,
        reason = "calls are a good part of what a send takes"
    )]
    #[inline(always)]
    pub(crate) fn resolve_packet(
        &self,
        target: &SocketAddr,
        peer: &SocketAddr,
        class: PacketClass,
        rtp: Option<RtpStream>,
        session: Option<&LiveOverrides>,
    ) -> Resolved {
        let shared = &*self.shared;
        let mut packed = shared.peers.resolve(peer, class);
        if let Some(session) = session {
            packed = packed.or(session.resolve(class));
        }
        if let Some(base) = shared.resolve_base(class, rtp) {
            packed = packed.or(base);
            if !packed.has_more() {
                return Resolved {
                    options: packed.options(),
                    source: None,
                };
            }
        }
        self.resolve_all(target, peer, class, rtp, session)
    }

    #[cold]
    fn resolve_all(
        &self,
        target: &SocketAddr,
        peer: &SocketAddr,
        class: PacketClass,
        rtp: Option<RtpStream>,
        session: Option<&LiveOverrides>,
    ) -> Resolved {
        let session = session.map(Live::load);
        let session = session.as_deref().map(Arc::as_ref);
        let options = self.resolve_step_by_step(target, peer, class, rtp, session);
        Resolved {
            options: PackedOptions::from(&options),
            source: options.source,
        }
    }

    /// The same where something is set that does not fit into a word.
    fn resolve_step_by_step(
        &self,
        target: &SocketAddr,
        peer: &SocketAddr,
        class: PacketClass,
        rtp: Option<RtpStream>,
        session: Option<&Overrides>,
    ) -> MessageOptions {
        let v4 = is_v4(target);
        let usable = |mut options: MessageOptions| {
            options.source = options
                .source
                .filter(|source| source.to_canonical().is_ipv4() == v4);
            options
        };
        let mut options = usable(self.shared.peers.get(peer).resolve(class));
        if let Some(session) = session {
            options = options.or(usable(session.resolve(class)));
        }
        let base = self.shared.base.load();
        if let Some(rtp) = rtp {
            for of_stream in base.of_stream(rtp) {
                options = options.or(usable(of_stream));
            }
        }
        options.or(usable(base.all.resolve(class)))
    }

    fn change_base(&self, change: impl FnOnce(&mut Base)) {
        self.shared.base.change(change);
    }

    fn change_peer(&self, peer: SocketAddr, change: impl FnOnce(&mut Overrides)) {
        self.shared.peers.change(peer, change);
    }
}

#[cfg(test)]
mod tests;
