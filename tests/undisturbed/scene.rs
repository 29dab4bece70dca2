//! A call, and what is seen of it for a while.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use perpacket_lab::{Chain, Direction, Sniffer};
use perpacket_udp::{Dscp, MessageOptions};
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;

use super::measuring::{Done, Measuring};
use super::media::{Media, Received};
use super::storm::Storm;
use super::wire::Span;
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::measured::{Measured, Way};
use crate::support::numbers::Numbers;
use crate::support::peer::{Peer, Task, negotiate};

/// What the link in the middle carries, bytes. More than the call needs, so that only probes are too big for it.
pub(crate) const NARROW: usize = 1400;

/// Two routers, and the peer.
pub(crate) const HOPS: u8 = 3;

/// What the left session sends with; no probe does.
pub(crate) const OPTIONS: MessageOptions = MessageOptions::NONE
    .with_ttl(61)
    .with_df_bit(true)
    .with_dscp(Dscp::CS1);

/// What goes on while the call is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    Nothing,
    Measurements,
    /// Forged ICMP errors, and nobody who listens to them.
    Storm,
    /// Both.
    MeasurementsInStorm,
}

impl During {
    pub(crate) fn is_measured(self) -> bool {
        matches!(self, Self::Measurements | Self::MeasurementsInStorm)
    }

    pub(crate) fn is_storm(self) -> bool {
        matches!(self, Self::Storm | Self::MeasurementsInStorm)
    }
}

/// What was seen.
pub(crate) struct Seen {
    pub(crate) span: Span,
    /// What came out of the connection on the right, and on the left.
    pub(crate) received: [Vec<Received>; 2],
    pub(crate) done: Option<Done>,
}

/// Media and a data channel, both ways.
pub(crate) struct Scene {
    family: Family,
    chain: Chain,
    addresses: [IpAddr; 2],
    measured: Measured,
    media: [Media; 2],
    _sending: [Task<()>; 2],
    numbers: [Numbers; 2],
    changes: Arc<AtomicUsize>,
}

impl Scene {
    pub(crate) fn new(way: Way, family: Family) -> Result<Self> {
        let chain = Chain::with_mtus(&[1500, u32::try_from(NARROW)?, 1500])?;
        let (near, far) = chain.pairs()[family as usize];
        let mut measured = Measured::new([&chain.left, &chain.right], [near, far], way)?;
        measured.session.set_options(OPTIONS)?;
        let media = [Media::add(&measured.left)?, Media::add(&measured.right)?];
        negotiate(&measured.left, &measured.right, false)?;
        let sending = [
            media[0].send(&measured.left),
            media[1].send(&measured.right),
        ];
        let mut numbers = [&measured.left, &measured.right].map(Numbers::send);
        numbers[0].go_on(&mut measured.right)?;
        numbers[1].go_on(&mut measured.left)?;
        for media in &media {
            let arrives = || Ok((media.received().len() > 20).then_some(()));
            perpacket_lab::until(DEADLINE, || "media".to_owned(), arrives)?;
        }
        let changes = Arc::new(AtomicUsize::new(0));
        for peer in [&measured.left, &measured.right] {
            count_changes(peer, &changes);
        }
        Ok(Self {
            family,
            addresses: [near, far],
            measured,
            media,
            _sending: sending,
            numbers,
            changes,
            chain,
        })
    }

    /// Looks at the call for so long, and at all that was sent until it has arrived.
    pub(crate) fn see(&mut self, during: During, long: Duration) -> Result<Seen> {
        let [near, far] = [&self.chain.links[0].a, &self.chain.links[2].b];
        let mut wires = [
            Sniffer::on(&self.chain.left, near)?,
            Sniffer::on(&self.chain.right, far)?,
        ];
        let dropped = self.dropped();
        let start = SystemTime::now();
        let measuring = during
            .is_measured()
            .then(|| Measuring::start(&self.measured));
        let storm = if during.is_storm() {
            self.talk()?;
            let near = self.addresses[0];
            let mut sent = wires[0].packets().to_vec();
            sent.retain(|packet| packet.udp.is_some() && packet.source.ip() == near);
            let liar = &self.chain.routers[0];
            Some(Storm::start(liar, self.family, &sent)?)
        } else {
            None
        };
        let until = Instant::now() + long;
        while Instant::now() < until {
            self.talk()?;
        }
        let done = measuring.map(|it| it.finish(&self.measured)).transpose()?;
        drop(storm);
        let end = SystemTime::now();
        for (wire, from) in wires
            .iter_mut()
            .zip([1, 0].map(|side| self.addresses[side]))
        {
            wire.wait_for(DEADLINE, |packets| {
                let later = packets.iter().rev().take_while(|packet| packet.at > end);
                let from_there =
                    |direction, source| direction == Direction::Incoming && source == from;
                later
                    .filter(|packet| from_there(packet.direction, packet.source.ip()))
                    .count()
                    > 20
            })?;
        }
        self.talk()?;

        ensure!(
            self.dropped() == dropped,
            "{:?}, before {dropped:?}",
            self.dropped()
        );
        ensure!(self.changes.load(Ordering::SeqCst) == 0, "ICE has changed");
        let prober = &self.measured.prober;
        let has_changed = self.measured.left.block_on(prober.refresh())?;
        ensure!(!has_changed, "another pair or other credentials");
        for media in &self.media {
            ensure!(media.failed() == 0, "{} sends failed", media.failed());
        }
        let [near, far] = wires;
        let captures = [near.stop()?, far.stop()?];
        for capture in &captures {
            ensure!(
                capture.dropped == 0,
                "the capture has {} holes",
                capture.dropped
            );
        }
        let span = Span {
            captures,
            addresses: self.addresses,
            start,
            end,
        };
        let received = [1, 0].map(|side| {
            let mut received: Vec<Received> = self.media[side].received();
            received.retain(|packet| (start..end).contains(&packet.at));
            received
        });
        Ok(Seen {
            span,
            received,
            done,
        })
    }

    /// All that the data channel was given has arrived, in order, and both ends are well.
    pub(crate) fn finish(mut self) -> Result<()> {
        let [there, back] = self.numbers;
        let Measured { left, right, .. } = &mut self.measured;
        there.all_arrive(left, right)?;
        back.all_arrive(right, left)
    }

    /// Receives what there is on the data channel at both ends.
    fn talk(&mut self) -> Result<()> {
        self.numbers[0].go_on(&mut self.measured.right)?;
        self.numbers[1].go_on(&mut self.measured.left)
    }

    /// How many datagrams either session has dropped, in or out.
    fn dropped(&self) -> [Vec<u64>; 2] {
        let sessions = [&self.measured.session, &self.measured.far_session];
        sessions.map(|session| session.total().total().dropped.to_vec())
    }
}

fn count_changes(peer: &Peer, changes: &Arc<AtomicUsize>) {
    let (ice, all) = (Arc::clone(changes), Arc::clone(changes));
    peer.connection
        .on_ice_connection_state_change(Box::new(move |_| {
            ice.fetch_add(1, Ordering::SeqCst);
            Box::pin(async {})
        }));
    peer.connection
        .on_peer_connection_state_change(Box::new(move |state| {
            // It is told of late.
            let change = usize::from(state != RTCPeerConnectionState::Connected);
            all.fetch_add(change, Ordering::SeqCst);
            Box::pin(async {})
        }));
}
