use std::time::Duration;

use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;

const MAX: u8 = 30;

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn reply(from: u8, what: What) -> Reply {
    Reply {
        from: address(from),
        what,
        rtt: Rtt {
            time: Duration::from_millis(from.into()),
            clock: Clock::Kernel,
        },
        way_back: Some(60),
        mtu: None,
        extensions: Vec::new(),
        attribution: Attribution::TransactionId,
    }
}

const EXPIRED: What = What::Icmp(IcmpErrorKind::TimeExceeded);
const PROHIBITED: What = What::Icmp(IcmpErrorKind::Prohibited);

fn unproved(from: u8) -> Reply {
    Reply {
        attribution: Attribution::OneInFlight,
        ..reply(from, EXPIRED)
    }
}

/// The peer so many hops away, of which these are silent.
fn path(peer: u8, silent: &[u8]) -> Path {
    let mut path = Path::new(MAX);
    for ttl in path.side_by_side() {
        path.sent(ttl, false);
    }
    for ttl in (peer..=MAX).rev() {
        path.answered(ttl, reply(200, What::Peer));
    }
    for ttl in (1..peer).filter(|ttl| !silent.contains(ttl)) {
        path.answered(ttl, reply(ttl, EXPIRED));
    }
    path
}

fn hop(path: &Path, ttl: u8) -> Hop {
    path.hop(ttl, &Names::default()).expect("a row")
}

#[test]
fn the_peer_is_the_smallest_ttl_that_it_answers() {
    let path = path(5, &[]);
    assert_eq!(path.peer(), Some(5));
    assert_eq!(path.side_by_side(), [1, 2, 3, 4, 5]);
    let hops = path.hops(&Names::default());
    assert_eq!(hops.len(), 5);
    assert!(hops[4].peer && hops.iter().filter(|hop| hop.peer).count() == 1);
    assert!(path.is_decided() && path.one_by_one().is_empty());
}

#[test]
fn all_are_decided_once_silent_hops_are_lost() {
    let mut path = path(5, &[2]);
    assert!(!path.is_decided());
    assert!(hop(&path, 2).silent);
    path.lost(2);
    assert!(path.is_decided());
    assert_eq!(hop(&path, 2).rtt.lost, 1);
}

#[test]
fn silent_hops_are_asked_alone_and_not_for_ever() {
    let mut path = path(5, &[2, 4]);
    for _ in 0..ALONE {
        assert_eq!(path.one_by_one(), [2, 4]);
        for ttl in [2, 4] {
            path.sent(ttl, true);
            path.lost(ttl);
        }
    }
    assert!(path.one_by_one().is_empty());
    assert_eq!(path.side_by_side(), [1, 2, 3, 4, 5]);
}

#[test]
fn short_quotes_are_not_held_against_their_hop() {
    let mut path = path(5, &[2]);
    path.lost(2);
    path.sent(2, true);
    path.answered(2, unproved(2));
    assert_eq!(path.side_by_side(), [1, 3, 4, 5]);
    assert_eq!(path.one_by_one(), [2]);
    let hop = hop(&path, 2);
    assert!(!hop.proved() && !hop.silent);
    assert_eq!((hop.rtt.sent, hop.rtt.received, hop.rtt.lost), (1, 1, 0));
}

#[test]
fn a_longer_way_is_searched_anew() {
    let mut path = path(5, &[]);
    assert_eq!(path.answered(5, reply(5, EXPIRED)), Some(address(200)));
    assert_eq!(path.peer(), None);
    assert_eq!(path.side_by_side().len(), usize::from(MAX));
    let hops = path.hops(&Names::default());
    assert!(hops.len() == 5 && !hops.iter().any(|hop| hop.peer));
    path.answered(6, reply(200, What::Peer));
    assert_eq!(path.peer(), Some(6));
    let addresses = hop(&path, 5).addresses;
    let seen: Vec<_> = addresses
        .iter()
        .map(|at| (at.address, at.replies))
        .collect();
    assert_eq!(seen, [(address(5), 1), (address(200), 1)]);
    assert!(!hop(&path, 5).peer);
}

#[test]
fn a_longer_way_is_searched_behind_a_silent_router() {
    let mut path = path(5, &[]);
    for _ in 0..SILENCE {
        assert_eq!(path.side_by_side(), [1, 2, 3, 4, 5]);
        path.sent(5, false);
        path.lost(5);
    }
    assert_eq!(path.side_by_side().len(), usize::from(MAX));
    assert_eq!(path.peer(), Some(5), "where it was last");
    for ttl in 1..=MAX {
        path.sent(ttl, false);
    }
    for ttl in (7..=MAX).rev() {
        path.answered(ttl, reply(200, What::Peer));
    }
    path.answered(6, reply(6, EXPIRED));
    path.lost(5);
    assert_eq!(path.peer(), Some(7));
    assert_eq!(path.side_by_side(), [1, 2, 3, 4, 5, 6, 7]);
    let hops = path.hops(&Names::default());
    let peers = hops.iter().filter(|hop| hop.peer).map(|hop| hop.ttl);
    assert!(hops.len() == 7 && peers.eq([7]));
    let rtt = hops[6].rtt;
    assert!(rtt.received == 1 && rtt.sent >= 1, "{rtt:?}");
}

#[test]
fn an_outage_moves_nobody() {
    let mut path = path(5, &[]);
    for _ in 0..2 * SILENCE {
        path.lost(5);
    }
    path.answered(5, reply(200, What::Peer));
    path.answered(6, reply(200, What::Peer));
    assert_eq!(path.peer(), Some(5));
    assert_eq!(path.side_by_side(), [1, 2, 3, 4, 5]);
    assert_eq!(hop(&path, 5).rtt.received, 2);
}

#[test]
fn a_shorter_way_has_fewer_rows() {
    let mut path = path(5, &[]);
    assert_eq!(path.answered(4, reply(200, What::Peer)), Some(address(4)));
    assert_eq!(path.peer(), Some(4));
    assert_eq!(path.hops(&Names::default()).len(), 4);
}

#[test]
fn who_refuses_is_the_end_until_the_peer_answers() {
    let mut path = Path::new(MAX);
    path.answered(1, reply(1, EXPIRED));
    for ttl in (2..=MAX).rev() {
        path.answered(ttl, reply(1, PROHIBITED));
    }
    assert_eq!((path.peer(), path.end()), (None, Some(2)));
    assert_eq!(hop(&path, 2).error, Some(IcmpErrorKind::Prohibited));
    path.answered(2, reply(2, EXPIRED));
    assert_eq!(path.end(), None);
    path.answered(4, reply(200, What::Peer));
    assert_eq!(path.end(), Some(4));
}

#[test]
fn a_refusal_does_not_hide_the_peer() {
    let mut path = path(5, &[3]);
    path.answered(3, reply(3, PROHIBITED));
    assert_eq!(path.end(), Some(5));
}

#[test]
fn loss_of_the_path_is_what_the_hops_beyond_have_as_well() {
    let mut path = path(4, &[]);
    // Hop 2 limits its answers; of what comes to hop 3, the peer loses none.
    for (ttl, lost) in [(1, 0), (2, 3), (3, 1), (4, 0)] {
        for _ in 0..3 {
            path.sent(ttl, false);
        }
        for _ in 0..lost {
            path.lost(ttl);
        }
        for _ in lost..3 {
            let what = if ttl == 4 { What::Peer } else { EXPIRED };
            path.answered(ttl, reply(ttl, what));
        }
    }
    assert_eq!(hop(&path, 2).rtt.loss(), Some(0.75));
    for ttl in 1..=4 {
        assert_eq!(hop(&path, ttl).path_loss, Some(0.0));
    }
    path.sent(4, false);
    path.lost(4);
    assert_eq!(hop(&path, 3).path_loss, Some(0.2), "the peer's");
    assert_eq!(hop(&path, 1).path_loss, Some(0.0), "its own");
}

#[test]
fn a_hop_has_only_so_many_addresses() {
    let mut path = Path::new(MAX);
    for from in 0..=u8::MAX {
        path.answered(1, reply(from, EXPIRED));
    }
    assert_eq!(hop(&path, 1).addresses.len(), ADDRESSES);
    assert_eq!(hop(&path, 1).address(), Some(address(255)));
}

#[test]
fn a_row_reads_well_as_json() {
    let mut path = path(3, &[]);
    path.answered(2, reply(9, PROHIBITED));
    let json = serde_json::to_value(hop(&path, 2)).expect("serialises");
    assert_eq!(json["ttl"], 2);
    assert_eq!(json["peer"], false);
    assert_eq!(json["addresses"][0]["address"], "192.0.2.9");
    assert_eq!(json["addresses"][1]["replies"], 1);
    assert_eq!(json["rtt"]["last_us"], 9_000.0);
    assert_eq!(json["error"], "prohibited");
    assert_eq!(json["attribution"], "transaction_id");
    assert_eq!(json["clock"], "kernel");
    assert_eq!(json["reply_ttl"], 60);
    assert!(json["quote"].is_null() && json["mtu"].is_null());
}

fn whatever() -> impl Strategy<Value = What> {
    prop_oneof![
        Just(What::Peer),
        Just(EXPIRED),
        Just(PROHIBITED),
        Just(What::Icmp(IcmpErrorKind::PacketTooBig)),
    ]
}

proptest! {
    /// In whatever order things come, also for TTLs that were never sent.
    #[test]
    fn nothing_breaks_it(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), prop::option::of(whatever()), any::<bool>()), 0..60),
        max in prop_oneof![1..40_u8, Just(u8::MAX)],
    ) {
        let mut path = Path::new(max);
        for (ttl, from, what, alone) in steps {
            path.sent(ttl, alone);
            match what {
                Some(what) => drop(path.answered(ttl, reply(from, what))),
                None => path.lost(ttl),
            }
            prop_assert!(path.side_by_side().iter().all(|ttl| *ttl <= max));
            prop_assert!(path.one_by_one().iter().all(|ttl| *ttl <= max));
        }
        let hops = path.hops(&Names::default());
        prop_assert!(path.end().is_none_or(|end| hops.len() == usize::from(end)));
        for (number, hop) in (1..=u8::MAX).zip(&hops) {
            prop_assert_eq!(hop.ttl, number);
            prop_assert_eq!(hop.silent, hop.addresses.is_empty());
        }
    }
}
