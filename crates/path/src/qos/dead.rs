//! Marks that a path swallows, and going back to DSCP 0 (RFC 8835 §4.2).

use std::{fmt, net::SocketAddr};

use perpacket_udp::{Dscp, Ecn, MessageOptions, Tos};
use perpacket_webrtc::{PacketClass, Policy, PolicySnapshot, Session};
use serde::Serialize;

use super::mark::Mark;

/// A mark with which nothing arrives, while best effort does.
///
/// How sure that is comes from the blocks in which best effort was answered. If the path treats
/// both alike, each such block could as well have lost the other one, whatever the loss is and however it
/// comes in bursts: the chance that it was always this one is halved with every block (the sign test).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DeadMark {
    /// The mark.
    pub mark: Mark,
    /// How many probes were sent with it, and lost.
    pub lost: u64,
    /// The mark's losses for which the probe of best effort beside it was answered.
    pub beside_answered: u32,
}

impl DeadMark {
    /// The DSCP that does not arrive. `None` where there is an ECN field, which may be why: with the DSCP alone it
    /// may be another thing, and what packets have is probed alone.
    pub(super) fn dscp(&self) -> Option<Dscp> {
        (self.mark.ecn == Ecn::NotEct).then_some(self.mark.dscp)
    }
}

impl fmt::Display for DeadMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mark, lost, .. } = self;
        write!(
            f,
            "{mark} does not arrive, {lost} of {lost} probes are lost: "
        )?;
        match self.dscp() {
            None => write!(f, "send without ECN"),
            Some(dscp) => write!(f, "send with DSCP 0 what has {dscp} (RFC 8835 §4.2)"),
        }
    }
}

/// Whose options have been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FallBackLevel {
    /// The session's, for the class.
    Session,
    /// The peer's, for the class: they come before the session's, and said the DSCP.
    Peer(SocketAddr),
}

/// A class of packets that has gone back to DSCP 0. Dropping it changes nothing.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FallenBack {
    /// The class. All of it: where two RTP streams of a session have different marks, both are at 0 now.
    pub class: PacketClass,
    /// The mark that it had, or part of it.
    pub from: Dscp,
    /// Whose options were changed.
    pub level: FallBackLevel,
    /// The DSCP that these options said by themselves.
    #[serde(skip)]
    before: Option<Dscp>,
    #[serde(skip)]
    fall_back: FallBack,
}

impl FallenBack {
    /// Takes it back, unless somebody has set another DSCP since.
    pub fn undo(&self) {
        let mut options = self.fall_back.own_options(self.class, self.level);
        if options.dscp == Some(Dscp::CS0) {
            options.dscp = self.before;
            self.fall_back.set(self.class, self.level, options);
        }
    }
}

/// What a session's packets are marked with, and how to change it.
#[derive(Clone, Debug)]
pub(super) struct FallBack {
    session: Session,
    policy: Policy,
}

/// The classes of a peer's packets.
const CLASSES: [PacketClass; 4] = [
    PacketClass::Stun,
    PacketClass::Dtls,
    PacketClass::Srtp,
    PacketClass::Srtcp,
];

impl FallBack {
    pub(super) fn new(session: &Session, policy: &Policy) -> Self {
        Self {
            session: session.clone(),
            policy: policy.clone(),
        }
    }

    /// The code points other than 0 that packets to this peer can have, by class.
    pub(super) fn in_use(&self, peer: SocketAddr) -> Vec<(PacketClass, Dscp)> {
        let (of_peer, of_session) = (self.policy.peer(peer), self.session.options());
        let PolicySnapshot { all, streams, .. } = self.policy.snapshot();
        let mut in_use = Vec::new();
        for class in CLASSES {
            let above = of_peer.resolve(class).or(of_session.resolve(class));
            let base = all.resolve(class);
            let mut dscps = vec![dscp(&above.or(base))];
            if class == PacketClass::Srtp {
                let with = |(_, stream): &(_, MessageOptions)| dscp(&above.or(*stream).or(base));
                dscps.extend(streams.iter().map(with));
            }
            let mut dscps: Vec<_> = dscps.into_iter().flatten().collect();
            dscps.sort_unstable();
            dscps.dedup();
            let marked = dscps.into_iter().filter(|dscp| *dscp != Dscp::CS0);
            in_use.extend(marked.map(|dscp| (class, dscp)));
        }
        in_use
    }

    /// Sets DSCP 0 for each class of packets to this peer that can have a mark, and nothing else: TTL, DF, ECN
    /// and source stay as they are, wherever they come from.
    pub(super) fn leave(&self, peer: SocketAddr, dead: Dscp) -> Vec<FallenBack> {
        let of_peer = self.policy.peer(peer);
        let in_use = self.in_use(peer).into_iter();
        let classes = in_use.filter(|(_, dscp)| *dscp == dead);
        let back = classes.map(|(class, from)| {
            let level = match dscp(&of_peer.resolve(class)) {
                Some(_) => FallBackLevel::Peer(peer),
                None => FallBackLevel::Session,
            };
            let options = self.own_options(class, level);
            self.set(class, level, options.with_dscp(Dscp::CS0));
            FallenBack {
                class,
                from,
                level,
                before: options.dscp,
                fall_back: self.clone(),
            }
        });
        back.collect()
    }

    fn own_options(&self, class: PacketClass, level: FallBackLevel) -> MessageOptions {
        let overrides = match level {
            FallBackLevel::Session => self.session.options(),
            FallBackLevel::Peer(peer) => self.policy.peer(peer),
        };
        overrides.classes[class.index()]
    }

    fn set(&self, class: PacketClass, level: FallBackLevel, options: MessageOptions) {
        let set = match level {
            FallBackLevel::Session => self.session.set_class_options(class, options),
            FallBackLevel::Peer(peer) => self.policy.set_peer_class_options(peer, class, options),
        };
        // All but the DSCP was in force before, and every DSCP can be.
        if let Err(error) = set {
            tracing::error!(%error, %class, "the DSCP of a class cannot be changed");
        }
    }
}

/// The DSCP that these options say.
fn dscp(options: &MessageOptions) -> Option<Dscp> {
    let of_tos = || options.tos.map(|tos| Tos::from_byte(tos).dscp());
    options.dscp.or_else(of_tos)
}

#[cfg(test)]
mod tests {
    use perpacket_udp::Ecn;
    use perpacket_webrtc::{CustomNet, MediaKind, Priority, Stream};

    use super::*;

    fn peer() -> SocketAddr {
        ([192, 0, 2, 1], 5000).into()
    }

    fn marked(dscp: Dscp) -> MessageOptions {
        MessageOptions::NONE.with_dscp(dscp)
    }

    #[test]
    fn the_advice_is_about_what_may_be_at_fault() {
        let dead = |mark: &str| DeadMark {
            mark: mark.parse().expect("a mark"),
            lost: 20,
            beside_answered: 20,
        };
        for (mark, advice) in [
            ("AF41", "send with DSCP 0 what has AF41"),
            ("AF41+ect1", "send without ECN"),
            ("ect1", "send without ECN"),
        ] {
            let text = dead(mark).to_string();
            assert!(text.contains(advice), "{text}");
        }
    }

    #[test]
    fn what_is_in_use_is_found_at_every_level() {
        let net = CustomNet::new();
        let session = net.session("a");
        let fall_back = FallBack::new(&session, net.policy());
        assert_eq!(fall_back.in_use(peer()), []);

        net.policy().replace(&Policy::rfc8837(
            Priority::High,
            &[(111, MediaKind::Audio), (96, MediaKind::InteractiveVideo)],
        ));
        assert_eq!(
            fall_back.in_use(peer()),
            [
                (PacketClass::Dtls, Dscp::AF21),
                (PacketClass::Srtp, Dscp::AF41),
                (PacketClass::Srtp, Dscp::EF),
                (PacketClass::Srtcp, Dscp::EF),
            ]
        );
        session
            .set_class_options(PacketClass::Srtp, marked(Dscp::CS1))
            .expect("valid");
        let srtp = |in_use: Vec<(PacketClass, Dscp)>| -> Vec<_> {
            let srtp = in_use
                .into_iter()
                .filter(|(class, _)| *class == PacketClass::Srtp);
            srtp.map(|(_, dscp)| dscp).collect()
        };
        assert_eq!(srtp(fall_back.in_use(peer())), [Dscp::CS1]);
        net.policy()
            .set_peer_options(peer(), MessageOptions::NONE.with_tos(0xb8))
            .expect("valid");
        assert_eq!(srtp(fall_back.in_use(peer())), [Dscp::EF]);
    }

    /// What a packet of the session gets, as the policy resolves it.
    fn resolved(net: &CustomNet, session: &Session, class: PacketClass) -> MessageOptions {
        let PolicySnapshot { all, .. } = net.policy().snapshot();
        let above = net.policy().peer(peer()).resolve(class);
        above
            .or(session.options().resolve(class))
            .or(all.resolve(class))
    }

    #[test]
    fn only_the_dscp_changes_and_can_be_taken_back() {
        let whole = MessageOptions::NONE
            .with_tos(0xb9)
            .with_ttl(9)
            .with_df_bit(true);
        let levels: [fn(&CustomNet, &Session, MessageOptions); 5] = [
            |net, _, options| net.policy().set_default_options(options).expect("valid"),
            |net, _, options| {
                net.set_class_options(PacketClass::Dtls, options)
                    .expect("valid");
            },
            |_, session, options| session.set_options(options).expect("valid"),
            |_, session, options| {
                session
                    .set_class_options(PacketClass::Dtls, options)
                    .expect("valid");
            },
            |net, _, options| net.set_peer_options(peer(), options).expect("valid"),
        ];
        for (number, level) in levels.into_iter().enumerate() {
            let net = CustomNet::new();
            let session = net.session("a");
            level(&net, &session, whole);
            let before = (session.options(), net.policy().snapshot());
            let fall_back = FallBack::new(&session, net.policy());

            assert!(fall_back.leave(peer(), Dscp::AF41).is_empty());
            let done = fall_back.leave(peer(), Dscp::EF);
            let dtls = done.iter().find(|done| done.class == PacketClass::Dtls);
            let at_peer = FallBackLevel::Peer(peer());
            assert_eq!(dtls.map(|dtls| dtls.level == at_peer), Some(number == 4));
            let now = resolved(&net, &session, PacketClass::Dtls);
            assert_eq!(now.tos_byte(), Some(1), "level {number}");
            assert_eq!((now.ttl, now.df_bit), (Some(9), Some(true)));

            for done in &done {
                done.undo();
                done.undo();
            }
            assert_eq!((session.options(), net.policy().snapshot()), before);
        }
    }

    #[test]
    fn what_was_set_later_stays() {
        let net = CustomNet::new();
        let session = net.session("a");
        net.policy()
            .set_stream_options(Stream::Ssrc(7), marked(Dscp::EF).with_ecn(Ecn::Ect0))
            .expect("valid");
        let done = FallBack::new(&session, net.policy()).leave(peer(), Dscp::EF);
        assert_eq!(done.len(), 1);
        assert_eq!((done[0].class, done[0].from), (PacketClass::Srtp, Dscp::EF));
        session
            .set_class_options(PacketClass::Srtp, marked(Dscp::AF41))
            .expect("valid");
        done[0].undo();
        assert_eq!(
            session.options().resolve(PacketClass::Srtp),
            marked(Dscp::AF41)
        );
    }
}
