use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use perpacket_udp::{IcmpErrors, MessageOptions, RecvMeta};

use crate::{
    Classified, DropCause, Event, PacketClass, Relayed, channel_binding, classify,
    counters::Counters,
    net::Hub,
    session::{SessionId, SessionState},
};

/// How many TURN channels of one socket are told apart.
const CHANNELS: usize = 1024;

/// What one socket of a peer connection knows and counts, apart from the socket itself, so that
/// whoever holds this keeps no descriptor open.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) local: SocketAddr,
    pub(crate) session: Option<Arc<SessionState>>,
    pub(crate) counters: Counters,
    pub(crate) hub: Arc<Hub>,
    /// Which peer each TURN channel leads to.
    channels: ArcSwap<Vec<(u16, SocketAddr)>>,
}

/// A datagram on its way out: whose it is, and what its header is to say.
pub(crate) struct Outgoing {
    pub(crate) class: PacketClass,
    /// Behind a TURN relay: whom the server relays to.
    pub(crate) peer: SocketAddr,
    pub(crate) options: MessageOptions,
}

impl Port {
    pub(crate) fn new(
        local: SocketAddr,
        session: Option<Arc<SessionState>>,
        hub: Arc<Hub>,
    ) -> Self {
        Self {
            local,
            session,
            counters: Counters::default(),
            hub,
            channels: ArcSwap::default(),
        }
    }

    pub(crate) fn session_id(&self) -> Option<&SessionId> {
        self.session.as_deref().map(|session| &session.id)
    }

    /// Classifies a datagram and resolves its options.
    #[inline]
    pub(crate) fn outgoing(&self, datagram: &[u8], target: SocketAddr) -> Outgoing {
        let classified = classify(datagram);
        if classified.class == PacketClass::Turn
            && let Some((channel, peer)) = channel_binding(datagram)
        {
            self.learn_channel(channel, peer);
        }
        let peer = self.peer_of(&classified, target);
        let session = self.session.as_deref().map(|session| &session.overrides);
        let policy = &self.hub.policy;
        let options =
            policy.resolve_packet(target, peer, classified.class, classified.rtp, session);
        Outgoing {
            class: classified.class,
            peer,
            options,
        }
    }

    pub(crate) fn dropped(&self, outgoing: &Outgoing, length: usize, cause: DropCause) {
        let Outgoing { peer, class, .. } = *outgoing;
        self.counters.dropped(peer, class, cause);
        self.emit(|session, local| Event::Dropped {
            session,
            local,
            peer,
            class,
            length,
            cause,
        });
    }

    #[inline]
    pub(crate) fn received(&self, datagram: &[u8], meta: &RecvMeta) {
        let classified = classify(datagram);
        self.counters.received(
            self.peer_of(&classified, meta.source),
            classified.class,
            meta,
        );
    }

    /// A datagram that did not fit into the buffer; `start` is what did.
    pub(crate) fn truncated(&self, start: &[u8], source: SocketAddr) {
        let class = classify(start).class;
        let outgoing = Outgoing {
            class,
            peer: source,
            options: MessageOptions::NONE,
        };
        self.dropped(&outgoing, start.len(), DropCause::Truncated);
    }

    pub(crate) fn emit(&self, event: impl FnOnce(Option<SessionId>, SocketAddr) -> Event) {
        self.hub
            .emit(|| event(self.session_id().cloned(), self.local));
    }

    #[inline]
    fn peer_of(&self, classified: &Classified, address: SocketAddr) -> SocketAddr {
        match classified.relayed {
            None => address,
            Some(Relayed::Peer(peer)) => peer,
            Some(Relayed::Channel(channel)) => self
                .channels
                .load()
                .iter()
                .find_map(|(number, peer)| (*number == channel).then_some(*peer))
                .unwrap_or(address),
        }
    }

    fn learn_channel(&self, channel: u16, peer: SocketAddr) {
        if self.channels.load().contains(&(channel, peer)) {
            return;
        }
        self.channels.rcu(|channels| {
            let mut channels = Vec::clone(channels);
            channels.retain(|(number, _)| *number != channel);
            if channels.len() == CHANNELS {
                channels.remove(0);
            }
            channels.push((channel, peer));
            channels
        });
    }

    /// Counts what the network says of this socket's datagrams, until the socket is gone.
    pub(crate) async fn count_errors(self: Arc<Self>, mut errors: IcmpErrors) {
        while let Some(error) = errors.recv().await {
            self.counters.icmp(error.destination, error.kind);
            self.emit(|session, local| Event::Icmp {
                session,
                local,
                error,
            });
        }
    }
}
