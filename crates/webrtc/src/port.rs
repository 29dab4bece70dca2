use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use arc_swap::ArcSwap;
use perpacket_udp::{
    Error, IcmpError, IcmpErrors, MessageOptions, RecvBatch, RecvMeta, Transmit, UdpSocket,
    prefetch,
};

use crate::{
    Classified, DropCause, Event, PacketClass, Relayed, RtpStream, channel_binding, classify,
    counters::Counters,
    header::{Sent, SentWith},
    net::Hub,
    policy::{Packed, PeerKey},
    probe::Egress,
    protection::Protection,
    relayed_payload,
    session::{SessionId, SessionState},
    tap::Taps,
};

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
    protection: Protection,
    /// Set once there is somebody who sends.
    pub(crate) egress: OnceLock<Weak<dyn Egress>>,
}

/// A datagram on its way out: whose it is, and what its header is to say.
pub(crate) struct Outgoing {
    pub(crate) class: PacketClass,
    /// Behind a TURN relay: whom the server relays to.
    pub(crate) peer: SocketAddr,
    /// Its options, but for a source address.
    pub(crate) packed: Packed,
    /// It is larger than this path MTU, bytes of IP packet.
    pub(crate) oversize: Option<u32>,
}

impl Outgoing {
    /// For one that is dropped before anything is known of it.
    pub(crate) fn dropped(datagram: &[u8], peer: SocketAddr) -> Self {
        Self {
            class: classify(datagram).class,
            peer,
            packed: Packed::NONE,
            oversize: None,
        }
    }
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
            protection: Protection::default(),
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
            None => &self.protection,
        }
    }

    /// Classifies a datagram, and gives it its options.
    #[inline]
    pub(crate) fn outgoing(&self, datagram: &mut Transmit<'_>) -> Outgoing {
        let (contents, target) = (datagram.contents, &datagram.destination);
        let classified = classify(contents);
        if classified.class == PacketClass::Turn
            && let Some((channel, peer)) = channel_binding(contents)
        {
            self.learn_channel(channel, peer);
        }
        match classified.class {
            PacketClass::Dtls => self
                .protection()
                .sends_dtls(unwrapped(&classified, contents)),
            PacketClass::Srtp | PacketClass::Srtcp => self.protection().sends_media(),
            _ => {}
        }
        let relayed = classified.relayed.as_ref();
        let relayed = relayed.map(|relayed| self.peer_behind(relayed, *target));
        let peer = relayed.as_ref().unwrap_or(target);
        let (mut options, mut packed) =
            self.resolve(target, peer, classified.class, classified.rtp);
        let oversize = self.oversize(contents.len(), target);
        if oversize.is_some() {
            options.df_bit = Some(false);
            packed = Packed::from(&options);
        }
        let outgoing = Outgoing {
            class: classified.class,
            peer: *peer,
            packed,
            oversize,
        };
        datagram.options = options;
        outgoing
    }

    #[inline]
    fn resolve(
        &self,
        target: &SocketAddr,
        peer: &SocketAddr,
        class: PacketClass,
        rtp: Option<RtpStream>,
    ) -> (MessageOptions, Packed) {
        let overrides = self.session.as_deref().map(|session| &session.overrides);
        let policy = &self.hub.policy;
        policy.resolve_packet(target, peer, class, rtp, overrides)
    }

    /// What decides by which way the session's packets go to a peer: the source address and the flow
    /// label that the policy has for DTLS, which every peer connection sends.
    pub(crate) fn way_to(&self, peer: SocketAddr) -> MessageOptions {
        let (options, _) = self.resolve(&peer, &peer, PacketClass::Dtls, None);
        MessageOptions {
            source: options.source,
            flow_label: options.flow_label,
            ..MessageOptions::NONE
        }
    }

    /// The path MTU of the session, bytes of IP packet, if a datagram of that length is larger.
    #[inline]
    fn oversize(&self, length: usize, target: &SocketAddr) -> Option<u32> {
        let mtu = self.session.as_deref()?.path_mtu.load(Relaxed);
        (mtu != 0 && length + header_length(*target) > mtu as usize).then_some(mtu)
    }

    /// Sends a datagram. What cannot go out is counted and reported: to the stack it looks like one
    /// that the network lost.
    pub(crate) async fn send(
        &self,
        socket: &UdpSocket,
        transmit: &Transmit<'_>,
        outgoing: &Outgoing,
    ) {
        match socket.send(transmit).await {
            Ok(_) => {
                let with = self.sent_with(socket, &transmit.destination, outgoing.packed);
                self.is_sent(with, &socket.local_addr(), transmit, outgoing);
            }
            Err(error) => self.is_not_sent(&error, transmit.contents, outgoing),
        }
    }

    /// Gives a datagram to a socket.
    #[inline]
    pub(crate) fn try_send(
        &self,
        socket: &UdpSocket,
        transmit: &Transmit<'_>,
        outgoing: &Outgoing,
    ) -> Result<SentWith, Error> {
        socket.try_send(transmit)?;
        Ok(self.sent_with(socket, &transmit.destination, outgoing.packed))
    }

    /// Counts and reports what has become of it, if there was room for it: whether there was. `local` is the address
    /// of the socket, which must not be locked any more: taps can do anything, and close it.
    #[inline]
    pub(crate) fn settle(
        &self,
        sent: Result<SentWith, Error>,
        local: &SocketAddr,
        transmit: &Transmit<'_>,
        outgoing: &Outgoing,
    ) -> bool {
        match sent {
            Ok(with) => self.is_sent(with, local, transmit, outgoing),
            Err(error) if is_full(&error) => return false,
            Err(error) => self.is_not_sent(&error, transmit.contents, outgoing),
        }
        true
    }

    #[inline]
    fn is_sent(
        &self,
        with: SentWith,
        local: &SocketAddr,
        transmit: &Transmit<'_>,
        outgoing: &Outgoing,
    ) {
        let Outgoing { class, .. } = *outgoing;
        let length = transmit.contents.len();
        self.show(local, class, transmit, with);
        self.counters.sent_with(&outgoing.peer, class, length, with);
        if let Some(mtu) = outgoing.oversize {
            self.report_oversize(outgoing, length, mtu);
        }
    }

    #[cold]
    fn is_not_sent(&self, error: &Error, datagram: &[u8], outgoing: &Outgoing) {
        let cause = error.io().map_or(DropCause::Invalid, DropCause::of);
        tracing::debug!(%error, %cause, "datagram dropped");
        self.dropped(outgoing, datagram.len(), cause);
    }

    /// A datagram was queued, and counted as sent, but cannot go out.
    #[cold]
    pub(crate) fn unsent(&self, transmit: &Transmit<'_>, error: &io::Error) {
        let classified = classify(transmit.contents);
        let outgoing = Outgoing {
            class: classified.class,
            peer: self.peer_of(&classified, transmit.destination),
            packed: Packed::from(&transmit.options),
            oversize: None,
        };
        let length = transmit.contents.len();
        self.counters.unsent(outgoing.peer, outgoing.class, length);
        self.dropped(&outgoing, length, DropCause::of(error));
    }

    /// What a datagram was sent with.
    #[inline]
    pub(crate) fn sent_with(
        &self,
        socket: &UdpSocket,
        target: &SocketAddr,
        options: Packed,
    ) -> SentWith {
        let defaults = &self.counters.defaults;
        defaults.sent_with(socket, target, options)
    }

    /// Shows the session's taps what the kernel took.
    #[inline]
    pub(crate) fn show(
        &self,
        local: &SocketAddr,
        class: PacketClass,
        transmit: &Transmit<'_>,
        with: SentWith,
    ) {
        if let Some(session) = &self.session
            && !session.taps.is_empty()
        {
            session.taps.sent(
                transmit.contents,
                &Sent {
                    local: *local,
                    source: transmit.options.source,
                    destination: transmit.destination,
                    class,
                    header: self.counters.defaults.header(with),
                },
            );
        }
    }

    #[cold]
    fn report_oversize(&self, outgoing: &Outgoing, length: usize, mtu: u32) {
        let Outgoing { peer, class, .. } = *outgoing;
        self.counters.oversize(peer, class);
        self.emit(|session, local| Event::Oversize {
            session,
            local,
            peer,
            class,
            length,
            mtu,
        });
    }

    /// The next datagram, whatever the kernel says meanwhile. Cancel-safe.
    pub(crate) async fn receive(&self, socket: &UdpSocket, buffer: &mut [u8]) -> RecvMeta {
        let mut rest = REST.0;
        loop {
            match socket.recv_from(buffer).await {
                Ok(meta) => return meta,
                Err(error) => self.receive_failed(&error, &mut rest).await,
            }
        }
    }

    /// All datagrams that are there, and at least one, whatever the kernel says meanwhile. Cancel-safe.
    pub(crate) async fn receive_batch(&self, socket: &UdpSocket, batch: &mut RecvBatch) {
        let mut rest = REST.0;
        while let Err(error) = socket.recv_batch(batch).await {
            self.receive_failed(&error, &mut rest).await;
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
        let outgoing = Outgoing::dropped(datagram, peer);
        self.dropped(&outgoing, datagram.len(), DropCause::Unprotected);
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

    /// A datagram that did not fit into the buffer; `start` is what did.
    pub(crate) fn truncated(&self, start: &[u8], source: SocketAddr) {
        let outgoing = Outgoing::dropped(start, source);
        self.dropped(&outgoing, start.len(), DropCause::Truncated);
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

/// Whether it is for want of room that a datagram is not sent yet.
#[cold]
fn is_full(error: &Error) -> bool {
    let would_block = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    error.io().is_some_and(would_block)
}

/// Bytes of the headers of IP and UDP, without options (RFC 791 §3.1, RFC 8200 §3, RFC 768).
#[inline]
pub(crate) fn header_length(target: SocketAddr) -> usize {
    if target.ip().to_canonical().is_ipv4() {
        28
    } else {
        48
    }
}

/// What is inside, where it is wrapped for a relay.
fn unwrapped<'a>(classified: &Classified, datagram: &'a [u8]) -> &'a [u8] {
    classified
        .relayed
        .and_then(|_| relayed_payload(datagram))
        .map_or(datagram, |(_, payload)| payload)
}
