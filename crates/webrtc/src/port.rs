mod outgoing;

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use perpacket_udp::{Error, IcmpError, IcmpErrors, RecvBatch, RecvMeta, UdpSocket, prefetch};

use crate::{
    Classified, DropCause, Event, PacketClass, Relayed, RtpStream, classify,
    counters::Counters,
    net::Hub,
    policy::PeerKey,
    probe::Egress,
    protection::Protection,
    relayed_payload,
    session::{SessionId, SessionState},
    tap::Taps,
};

pub(crate) use outgoing::{Addressed, Outgoing, header_length};

/// How many TURN channels of one socket are told apart.
const CHANNELS: usize = 1024;

/// How long a socket rests that cannot receive: at first, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

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
    /// Where there is no session, which has one for all its sockets.
    protection: Option<Box<Protection>>,
    /// Set once there is somebody who sends.
    pub(crate) egress: OnceLock<Weak<dyn Egress>>,
}

impl Port {
    pub(crate) fn new(
        local: SocketAddr,
        session: Option<Arc<SessionState>>,
        hub: Arc<Hub>,
    ) -> Self {
        Self {
            local,
            protection: session.is_none().then(Box::default),
            session,
            counters: Counters::default(),
            hub,
            channels: ArcSwap::default(),
            egress: OnceLock::new(),
        }
    }

    pub(crate) fn session_id(&self) -> Option<&SessionId> {
        self.session.as_deref().map(|session| &session.id)
    }

    /// Whether anything can still be sent by it. Who closes a connection may keep it.
    pub(crate) fn is_open(&self) -> bool {
        let egress = self.egress.get();
        egress.is_none_or(|egress| egress.upgrade().is_some_and(|egress| egress.is_open()))
    }

    fn protection(&self) -> &Protection {
        match &self.session {
            Some(session) => &session.protection,
            None => (self.protection.as_ref()).expect("there is one where there is no session"),
        }
    }

    /// The next datagram, whatever the kernel says meanwhile. Cancel-safe.
    pub(crate) async fn receive(&self, socket: &UdpSocket, buffer: &mut [u8]) -> RecvMeta {
        let mut rest = REST.0;
        loop {
            match socket.recv_from(buffer).await {
                Ok(meta) => return meta,
                Err(error) => Box::pin(self.receive_failed(&error, &mut rest)).await,
            }
        }
    }

    /// All datagrams that are there, and at least one, whatever the kernel says meanwhile. Cancel-safe.
    pub(crate) async fn receive_batch(&self, socket: &UdpSocket, batch: &mut RecvBatch) {
        let mut rest = REST.0;
        while let Err(error) = socket.recv_batch(batch).await {
            Box::pin(self.receive_failed(&error, &mut rest)).await;
        }
    }

    #[cold]
    async fn receive_failed(&self, error: &Error, rest: &mut Duration) {
        tracing::warn!(%error, "trying again");
        self.emit(|session, local| Event::ReceiveFailed {
            session,
            local,
            error: error.to_string(),
        });
        tokio::time::sleep(*rest).await;
        *rest = REST.1.min(*rest * 2);
    }

    /// Counts and reports a datagram to a peer, or from it.
    fn dropped(&self, peer: SocketAddr, class: PacketClass, length: usize, cause: DropCause) {
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

    /// Counts what came in, and whether the peer connection is to have it.
    #[inline]
    pub(crate) fn arrived(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        let classified = classify(datagram);
        if !self.protection().admits(unwrapped(&classified, datagram)) {
            self.unprotected(&classified, datagram, meta);
            return false;
        }
        let peer = self.peer_of(&classified, meta.source);
        self.counters.received(peer, classified.class, meta);
        !self
            .session
            .as_ref()
            .is_some_and(|session| session.taps.claim(datagram, meta))
    }

    /// The same for datagrams of one sender that came in together, each with its number; shows the numbers of those that
    /// the peer connection is to have.
    #[inline]
    pub(crate) fn arrived_together<'a>(
        &self,
        datagrams: impl Iterator<Item = (usize, (&'a [u8], &'a RecvMeta))>,
        mut admit: impl FnMut(usize),
    ) {
        let protection = self.protection();
        let mut tally = None;
        for (number, (datagram, meta)) in datagrams {
            let classified = classify(datagram);
            if !protection.admits(unwrapped(&classified, datagram)) {
                self.unprotected(&classified, datagram, meta);
                continue;
            }
            let relayed = classified.relayed.as_ref();
            let peer = match relayed.map(|relayed| self.peer_behind(relayed, meta.source)) {
                None => PeerKey::from(&meta.source),
                Some(peer) => peer.into(),
            };
            let class = classified.class;
            self.counters.tally(&mut tally, peer, class, meta);
            if let Some(session) = &self.session
                && !session.taps.is_empty()
            {
                // A tap may look at what has been counted.
                self.counters.settle(&mut tally);
                if session.taps.claim(datagram, meta) {
                    continue;
                }
            }
            admit(number);
        }
        self.counters.settle(&mut tally);
    }

    /// A datagram that nobody with the keys can have sent.
    #[cold]
    fn unprotected(&self, classified: &Classified, datagram: &[u8], meta: &RecvMeta) {
        let peer = self.peer_of(classified, meta.source);
        let length = datagram.len();
        self.dropped(peer, classified.class, length, DropCause::Unprotected);
    }

    /// Asks for what is looked at first when a datagram arrives.
    #[inline]
    pub(crate) fn prefetch_head(&self) {
        prefetch(std::ptr::from_ref(&self.session).addr(), 1);
        self.counters.prefetch_head();
    }

    /// Asks for what is looked at then.
    #[inline]
    pub(crate) fn prefetch(&self, rtp: Option<RtpStream>) {
        if let Some(RtpStream { ssrc, .. }) = rtp {
            self.protection().prefetch(ssrc);
        }
        if let Some(session) = &self.session {
            prefetch(std::ptr::from_ref(&session.taps).addr(), size_of::<Taps>());
        }
    }

    /// Counts and reports what came in and is not for the peer connection. Of what did not fit into the buffer
    /// `datagram` is the start.
    #[cold]
    pub(crate) fn refused(&self, datagram: &[u8], source: SocketAddr, cause: DropCause) {
        let Classified { class, .. } = classify(datagram);
        self.dropped(source, class, datagram.len(), cause);
    }

    pub(crate) fn emit(&self, event: impl FnOnce(Option<SessionId>, SocketAddr) -> Event) {
        self.hub
            .emit(|| event(self.session_id().cloned(), self.local));
    }

    #[inline]
    fn peer_of(&self, classified: &Classified, address: SocketAddr) -> SocketAddr {
        match &classified.relayed {
            None => address,
            Some(relayed) => self.peer_behind(relayed, address),
        }
    }

    /// Whom a TURN server relays to, or the server where that is not known.
    #[cold]
    fn peer_behind(&self, relayed: &Relayed, server: SocketAddr) -> SocketAddr {
        match relayed {
            Relayed::Peer(peer) => *peer,
            Relayed::Channel(channel) => self
                .channels
                .load()
                .iter()
                .find_map(|(number, peer)| (number == channel).then_some(*peer))
                .unwrap_or(server),
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

    /// The network says that a datagram did not arrive.
    pub(crate) fn complained(&self, error: IcmpError) {
        self.counters.icmp(error.destination, error.kind);
        if let Some(session) = &self.session {
            session.taps.icmp(&error);
        }
        self.emit(|session, local| Event::Icmp {
            session,
            local,
            error,
        });
    }

    /// Counts what the network says of this socket's datagrams, until the socket is gone.
    pub(crate) async fn count_errors(self: Arc<Self>, mut errors: IcmpErrors) {
        while let Some(error) = errors.recv().await {
            self.complained(error);
        }
    }
}

/// What is inside, where it is wrapped for a relay.
fn unwrapped<'a>(classified: &Classified, datagram: &'a [u8]) -> &'a [u8] {
    classified
        .relayed
        .and_then(|_| relayed_payload(datagram))
        .map_or(datagram, |(_, payload)| payload)
}
