use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

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
        let resolved = policy.resolve_packet(&it, &it, class, Some(rtp), Some(&session));
        MessageOptions::from(resolved).ttl
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
    let source = |text: &str| MessageOptions::NONE.with_source(text.parse().expect("an address"));
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
        let resolved = policy.resolve_packet(
            &peer("10.0.0.9:9"),
            &peer("10.0.0.9:9"),
            PacketClass::Srtp,
            Some(rtp),
            Some(&session),
        );
        MessageOptions::from(resolved)
    };
    assert_eq!(resolve().ttl, Some(9));
    let allocations = allocation_counter::measure(|| {
        for _ in 0..100 {
            std::hint::black_box(resolve());
        }
    });
    assert_eq!(allocations.count_total, 0);
}

/// Looks again and again while somebody else makes changes, in turns.
fn while_it_changes<T: PartialEq + std::fmt::Debug + Sync>(
    change: impl Fn(bool),
    look: impl Fn() -> T + Sync,
    expected: &[T; 2],
) {
    let done = AtomicBool::new(false);
    change(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let found = look();
                    assert!(expected.contains(&found), "{found:?}");
                }
            });
        }
        for turn in 0..30_000 {
            change(turn % 2 == 0);
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn streams_change_at_one_moment() {
    let policy = Policy::new();
    let policies = [1, 2].map(|n| {
        let policy = Policy::new();
        let by_ssrc = policy.set_stream_options(Stream::Ssrc(7), ttl(n));
        let tos = MessageOptions::NONE.with_tos(n);
        let by_number = policy.set_stream_options(Stream::PayloadType(96), tos);
        by_ssrc.and(by_number).expect("valid");
        policy
    });
    let it = peer("192.0.2.1:5");
    let rtp = Some(RtpStream {
        payload_type: 96,
        ssrc: 7,
    });
    let look = || {
        let resolved = policy.resolve_packet(&it, &it, PacketClass::Srtp, rtp, None);
        let options = MessageOptions::from(resolved);
        (options.ttl, options.tos)
    };
    while_it_changes(
        |turn| policy.replace(&policies[usize::from(turn)]),
        look,
        &[(Some(1), Some(1)), (Some(2), Some(2))],
    );
}

/// What fits into a word and what does not are kept in two places.
#[test]
fn a_peer_always_has_its_options() {
    let policy = Policy::new();
    let it = peer("192.0.2.1:5");
    policy.set_peer_options(it, ttl(1)).expect("valid");
    let change = |turn| {
        let options = if turn {
            MessageOptions::NONE.with_source([192, 0, 2, 9].into())
        } else {
            MessageOptions::NONE
        };
        let set = policy.set_peer_class_options(it, PacketClass::Dtls, options);
        set.expect("valid");
    };
    let look = || policy.resolve(it, PacketClass::Dtls);
    let source = ttl(1).with_source([192, 0, 2, 9].into());
    while_it_changes(change, look, &[ttl(1), source]);
}
