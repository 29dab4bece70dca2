//! The way out of a datagram: what it is, which options it gets, and what becomes of it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
};

use perpacket_udp::{Error, MessageOptions, PackedOptions, Transmit, UdpSocket};

use super::{Port, unwrapped};
use crate::{
    DropCause, Event, PacketClass, RtpStream, channel_binding, classify,
    classify::srtp,
    header::{Sent, SentWith},
    policy::Resolved,
};

/// What is known of a datagram on its way out: whose it is, and what its header is to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) class: PacketClass,
    /// Whom a TURN server relays it to, which is its peer then.
    behind: Option<SocketAddr>,
    pub(crate) options: PackedOptions,
    pub(crate) source: Option<IpAddr>,
    /// It is larger than this path MTU, bytes of IP packet.
    oversize: Option<u32>,
}

/// A datagram, and whom it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addressed<'a> {
    pub(crate) contents: &'a [u8],
    /// As the stack names them.
    pub(crate) target: &'a SocketAddr,
    /// As the kernel does.
    pub(crate) destination: &'a SocketAddr,
}

impl<'a> Addressed<'a> {
    /// Where both have one name.
    #[inline]
    pub(crate) fn to(target: &'a SocketAddr, contents: &'a [u8]) -> Self {
        Self {
            contents,
            target,
            destination: target,
        }
    }
}

impl Outgoing {
    /// Whose it is, if the stack sends it to `target`.
    #[inline]
    pub(crate) fn peer<'a>(&'a self, target: &'a SocketAddr) -> &'a SocketAddr {
        self.behind.as_ref().unwrap_or(target)
    }

    /// Whether it is to go out with the DF bit.
    pub(crate) fn forbids_fragments(&self) -> bool {
        MessageOptions::from(self.options).df_bit == Some(true)
    }
}

impl Port {
    /// Classifies a datagram, and finds its options.
    #[expect(
        clippy::inline_always,
        reason = "calls are a good part of what a send takes"
    )]
    #[inline(always)]
    pub(crate) fn outgoing(&self, contents: &[u8], target: &SocketAddr) -> Outgoing {
        match srtp(contents) {
            // It is most of what there is.
            Some(rtp) => {
                self.protection().sends_media();
                self.with_options(contents.len(), target, None, PacketClass::Srtp, Some(rtp))
            }
            None => self.outgoing_other(contents, target),
        }
    }

    #[inline(never)]
    fn outgoing_other(&self, contents: &[u8], target: &SocketAddr) -> Outgoing {
        let classified = classify(contents);
        let class = classified.class;
        match class {
            PacketClass::Turn => {
                if let Some((channel, peer)) = channel_binding(contents) {
                    self.learn_channel(channel, peer);
                }
            }
            PacketClass::Dtls => self
                .protection()
                .sends_dtls(unwrapped(&classified, contents)),
            PacketClass::Srtp | PacketClass::Srtcp => self.protection().sends_media(),
            _ => {}
        }
        let behind = classified.relayed.as_ref();
        let behind = behind.map(|relayed| self.peer_behind(relayed, *target));
        self.with_options(contents.len(), target, behind, class, classified.rtp)
    }

    #[expect(
        clippy::inline_always,
        reason = "calls are a good part of what a send takes"
    )]
    #[inline(always)]
    fn with_options(
        &self,
        length: usize,
        target: &SocketAddr,
        behind: Option<SocketAddr>,
        class: PacketClass,
        rtp: Option<RtpStream>,
    ) -> Outgoing {
        let peer = behind.as_ref().unwrap_or(target);
        let Resolved {
            mut options,
            source,
        } = self.resolve(target, peer, class, rtp);
        let oversize = self.oversize(length, target);
        if oversize.is_some() {
            options = options.with_df_bit(false);
        }
        Outgoing {
            class,
            behind,
            options,
            source,
            oversize,
        }
    }

    #[inline]
    fn resolve(
        &self,
        target: &SocketAddr,
        peer: &SocketAddr,
        class: PacketClass,
        rtp: Option<RtpStream>,
    ) -> Resolved {
        let overrides = self.session.as_deref().map(|session| &session.overrides);
        let policy = &self.hub.policy;
        policy.resolve_packet(target, peer, class, rtp, overrides)
    }

    /// What decides by which way the session's packets go to a peer: the source address and the flow
    /// label that the policy has for DTLS, which every peer connection sends.
    pub(crate) fn way_to(&self, peer: SocketAddr) -> MessageOptions {
        let resolved = self.resolve(&peer, &peer, PacketClass::Dtls, None);
        let options = MessageOptions::from(resolved);
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
        datagram: Addressed<'_>,
        outgoing: &Outgoing,
    ) {
        let Addressed {
            contents,
            destination,
            ..
        } = datagram;
        let Outgoing {
            options, source, ..
        } = *outgoing;
        let sent = socket.send_packed(contents, destination, options, source.as_ref());
        match sent.await {
            Ok(_) => {
                let with = self.sent_with(socket, destination, options);
                self.is_sent(with, &socket.local_addr(), datagram, outgoing);
            }
            Err(error) => self.is_not_sent(&error, datagram, outgoing),
        }
    }

    /// Gives a datagram to a socket. An error is in a box so that what comes of nearly all sends is small.
    #[expect(
        clippy::inline_always,
        reason = "calls are a good part of what a send takes"
    )]
    #[inline(always)]
    pub(crate) fn try_send(
        &self,
        socket: &UdpSocket,
        datagram: Addressed<'_>,
        outgoing: &Outgoing,
    ) -> Result<SentWith, Box<Error>> {
        let Addressed {
            contents,
            destination,
            ..
        } = datagram;
        let Outgoing {
            options,
            ref source,
            ..
        } = *outgoing;
        match socket.try_send_packed(contents, destination, options, source.as_ref()) {
            Ok(_) => Ok(self.sent_with(socket, destination, options)),
            Err(error) => Err(Box::new(error)),
        }
    }

    /// Counts and reports what has become of it, if there was room for it: whether there was. `local` is the address
    /// of the socket, which must not be locked any more: taps can do anything, and close it.
    #[inline]
    pub(crate) fn settle(
        &self,
        sent: Result<SentWith, Box<Error>>,
        local: &SocketAddr,
        datagram: Addressed<'_>,
        outgoing: &Outgoing,
    ) -> bool {
        match sent {
            Ok(with) => self.is_sent(with, local, datagram, outgoing),
            Err(error) if is_full(&error) => return false,
            Err(error) => self.is_not_sent(&error, datagram, outgoing),
        }
        true
    }

    #[expect(
        clippy::inline_always,
        reason = "calls are a good part of what a send takes"
    )]
    #[inline(always)]
    fn is_sent(
        &self,
        with: SentWith,
        local: &SocketAddr,
        datagram: Addressed<'_>,
        outgoing: &Outgoing,
    ) {
        let Addressed {
            contents,
            target,
            destination,
        } = datagram;
        self.show(local, contents, *destination, outgoing, with);
        let peer = outgoing.peer(target);
        self.counters
            .sent_with(peer, outgoing.class, contents.len(), with);
        if let Some(mtu) = outgoing.oversize {
            self.report_oversize(*peer, outgoing.class, contents.len(), mtu);
        }
    }

    #[cold]
    fn is_not_sent(&self, error: &Error, datagram: Addressed<'_>, outgoing: &Outgoing) {
        let cause = error.io().map_or(DropCause::Invalid, DropCause::of);
        tracing::debug!(%error, %cause, "datagram dropped");
        self.not_sent(datagram, outgoing, cause);
    }

    /// Counts and reports a datagram that does not go out.
    #[cold]
    pub(crate) fn not_sent(&self, datagram: Addressed<'_>, outgoing: &Outgoing, cause: DropCause) {
        let Addressed {
            contents, target, ..
        } = datagram;
        let peer = *outgoing.peer(target);
        self.dropped(peer, outgoing.class, contents.len(), cause);
    }

    /// A datagram was queued, and counted as sent, but cannot go out.
    #[cold]
    pub(crate) fn unsent(&self, transmit: &Transmit<'_>, error: &io::Error) {
        let classified = classify(transmit.contents);
        let peer = self.peer_of(&classified, transmit.destination);
        let (class, length) = (classified.class, transmit.contents.len());
        self.counters.unsent(peer, class, length);
        self.dropped(peer, class, length, DropCause::of(error));
    }

    /// What a datagram was sent with.
    #[inline]
    fn sent_with(
        &self,
        socket: &UdpSocket,
        destination: &SocketAddr,
        options: PackedOptions,
    ) -> SentWith {
        let defaults = &self.counters.defaults;
        defaults.sent_with(socket, destination, options)
    }

    /// Shows the session's taps what the kernel took.
    #[inline]
    fn show(
        &self,
        local: &SocketAddr,
        contents: &[u8],
        destination: SocketAddr,
        outgoing: &Outgoing,
        with: SentWith,
    ) {
        if let Some(session) = &self.session
            && !session.taps.is_empty()
        {
            session.taps.sent(
                contents,
                &Sent {
                    local: *local,
                    source: outgoing.source,
                    destination,
                    class: outgoing.class,
                    header: self.counters.defaults.header(with),
                },
            );
        }
    }

    /// What a probe was sent with.
    pub(crate) fn probe_sent_with(&self, socket: &UdpSocket, probe: &Transmit<'_>) -> SentWith {
        let options = PackedOptions::from(&probe.options);
        self.sent_with(socket, &probe.destination, options)
    }

    /// Counts a probe that the kernel took, and shows it to the session's taps. It is no news of what the policy has.
    pub(crate) fn probed(
        &self,
        local: &SocketAddr,
        probe: &Transmit<'_>,
        remote: SocketAddr,
        with: SentWith,
    ) {
        let outgoing = Outgoing {
            class: PacketClass::Stun,
            behind: None,
            options: PackedOptions::from(&probe.options),
            source: probe.options.source,
            oversize: None,
        };
        let contents = probe.contents;
        self.counters.sent(remote, outgoing.class, contents.len());
        self.show(local, contents, probe.destination, &outgoing, with);
    }

    #[cold]
    fn report_oversize(&self, peer: SocketAddr, class: PacketClass, length: usize, mtu: u32) {
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
