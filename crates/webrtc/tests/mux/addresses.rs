//! Which peer connection an address belongs to.

use std::net::SocketAddr;

use perpacket_webrtc::{CustomMux, CustomNet};

use crate::support::{Agent, PASSWORD, Peer, answer, check, media, nomination, refused};

const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

fn mux(address: &str) -> (CustomMux, SocketAddr) {
    let mux = CustomMux::bind(&CustomNet::new(), address.parse().expect("an address"));
    let mux = mux.expect("a mux");
    let address = mux.local_addrs()[0];
    (mux, address)
}

/// The peer connection's answer proves the address where the mux does not know the password.
#[tokio::test]
async fn an_address_belongs_to_who_granted_its_check() {
    for address in LOOPBACKS {
        let (mux, address) = mux(address);
        let agent = Agent::new(&mux, "alice").await;
        let peer = Peer::new(address).await;

        peer.send(&media(1)).await;
        refused(&mux, |refused| refused.unknown_source == 1).await;

        peer.send(&check("alice", PASSWORD)).await;
        let (request, source) = agent.recv().await;
        assert_eq!(source, peer.address());
        peer.send(&media(2)).await;
        refused(&mux, |refused| refused.unknown_source == 2).await;

        agent.send(&answer(&request, PASSWORD), source).await;
        assert_eq!(peer.recv().await, (answer(&request, PASSWORD), address));
        peer.send(&media(3)).await;
        assert_eq!(agent.recv().await, (media(3), peer.address()));
        assert_eq!(mux.snapshot().addresses, 1);
    }
}

/// Without an answer, however many checks there are, nothing belongs to anyone.
#[tokio::test]
async fn a_check_that_nobody_grants_proves_nothing() {
    let (mux, address) = mux("127.0.0.1:0");
    let agent = Agent::new(&mux, "alice").await;
    let peer = Peer::new(address).await;
    for _ in 0..10 {
        peer.send(&check("alice", "not her password")).await;
        agent.recv().await;
    }
    peer.send(&media(1)).await;
    refused(&mux, |refused| refused.unknown_source == 1).await;
    assert_eq!(mux.snapshot().addresses, 0);
}

/// Where the mux knows the password it needs no answer, and lets nothing forged through.
#[tokio::test]
async fn the_password_proves_an_address() {
    for address in LOOPBACKS {
        let (mux, address) = mux(address);
        let agent = Agent::new(&mux, "alice").await;
        agent.teach(&mux);
        let peer = Peer::new(address).await;

        peer.send(&check("alice", "not her password")).await;
        let mut without = check("alice", PASSWORD);
        // No MESSAGE-INTEGRITY (24 bytes), no FINGERPRINT (8 bytes).
        without.truncate(without.len() - 32);
        let length = u16::try_from(without.len() - 20).expect("short");
        without[2..4].copy_from_slice(&length.to_be_bytes());
        peer.send(&without).await;
        refused(&mux, |refused| refused.bad_integrity == 2).await;
        assert_eq!(mux.snapshot().addresses, 0);

        peer.send(&check("alice", PASSWORD)).await;
        peer.send(&media(1)).await;
        agent.recv().await;
        assert_eq!(agent.recv().await, (media(1), peer.address()));
    }
}

/// A password that is learnt before ICE gathers is not lost.
#[tokio::test]
async fn a_password_may_come_first() {
    let (mux, address) = mux("127.0.0.1:0");
    mux.learn(&format!("a=ice-ufrag:alice\r\na=ice-pwd:{PASSWORD}\r\n"));
    let agent = Agent::new(&mux, "alice").await;
    let peer = Peer::new(address).await;
    peer.send(&check("alice", "not her password")).await;
    refused(&mux, |refused| refused.bad_integrity == 1).await;
    peer.send(&check("alice", PASSWORD)).await;
    agent.recv().await;
    assert_eq!(mux.snapshot().addresses, 1);
}

/// An address whose owner is alive stays, whatever is sent in its name; and is free when the owner
/// is gone.
#[tokio::test]
async fn nobody_takes_over_an_address() {
    for knows in [false, true] {
        let (mux, address) = mux("127.0.0.1:0");
        let alice = Agent::new(&mux, "alice").await;
        let mallory = Agent::new(&mux, "mallory").await;
        if knows {
            alice.teach(&mux);
            mallory.teach(&mux);
        }
        let peer = Peer::new(address).await;
        peer.send(&check("alice", PASSWORD)).await;
        alice.grant().await;
        peer.recv().await;

        // The right password of another peer connection: its checks get answers, and no more.
        peer.send(&nomination("mallory", PASSWORD)).await;
        mallory.grant().await;
        peer.recv().await;
        assert!(mux.snapshot().refused.address_taken > 0);
        peer.send(&media(1)).await;
        assert_eq!(alice.recv().await.0, media(1));

        alice.conn.close().await.expect("closed");
        peer.send(&check("mallory", PASSWORD)).await;
        mallory.grant().await;
        peer.recv().await;
        peer.send(&media(2)).await;
        assert_eq!(mallory.recv().await.0, media(2));
        assert_eq!(mux.snapshot().addresses, 1);
        assert_eq!(mux.snapshot().connections, 1);
    }
}

/// Who only sends in the name of an address yields to who can read there as well.
#[tokio::test]
async fn an_answer_outweighs_a_check() {
    let (mux, address) = mux("127.0.0.1:0");
    let mallory = Agent::new(&mux, "mallory").await;
    mallory.teach(&mux);
    let alice = Agent::new(&mux, "alice").await;
    alice.teach(&mux);
    let peer = Peer::new(address).await;

    peer.send(&check("mallory", PASSWORD)).await;
    mallory.recv().await;
    peer.send(&check("alice", PASSWORD)).await;
    alice.grant().await;
    peer.recv().await;
    peer.send(&media(1)).await;
    assert_eq!(mallory.recv().await.0, media(1));

    alice
        .send(&check("theirs", "their password"), peer.address())
        .await;
    let (request, _) = peer.recv().await;
    peer.send(&answer(&request, "their password")).await;
    alice.recv().await;
    peer.send(&media(2)).await;
    assert_eq!(alice.recv().await.0, media(2));

    // And not the other way round.
    mallory
        .send(&check("theirs", "their password"), peer.address())
        .await;
    let (request, _) = peer.recv().await;
    peer.send(&answer(&request, "their password")).await;
    mallory.recv().await;
    peer.send(&media(3)).await;
    assert_eq!(alice.recv().await.0, media(3));
}

/// An answer counts only from where it was asked for.
#[tokio::test]
async fn answers_come_from_who_was_asked() {
    let (mux, address) = mux("127.0.0.1:0");
    let alice = Agent::new(&mux, "alice").await;
    let peer = Peer::new(address).await;
    let neighbour = Peer::new(address).await;

    alice
        .send(&check("theirs", "their password"), peer.address())
        .await;
    let (request, _) = peer.recv().await;
    neighbour.send(&answer(&request, "their password")).await;
    neighbour
        .send(&answer(&check("theirs", "x"), "their password"))
        .await;
    refused(&mux, |refused| refused.unknown_transaction == 2).await;
    assert_eq!(mux.snapshot().addresses, 0);

    peer.send(&answer(&request, "their password")).await;
    assert_eq!(alice.recv().await.1, peer.address());
    assert_eq!(mux.snapshot().transactions, 0);
}

/// A session that restarts ICE takes its addresses with it.
#[tokio::test]
async fn a_restart_keeps_the_addresses_in_the_session() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let session = net.session("alice");
    let of_session = mux.for_session(&session);
    let before = Agent::new(&of_session, "before").await;
    let peer = Peer::new(mux.local_addrs()[0]).await;
    peer.send(&check("before", PASSWORD)).await;
    before.grant().await;
    peer.recv().await;

    let after = Agent::new(&of_session, "after").await;
    peer.send(&check("after", PASSWORD)).await;
    after.grant().await;
    peer.recv().await;
    peer.send(&media(1)).await;
    assert_eq!(after.recv().await.0, media(1));
    drop(before);
    peer.send(&media(2)).await;
    assert_eq!(after.recv().await.0, media(2));
    assert_eq!(mux.snapshot().connections, 1);
    assert_eq!(session.total().total().received, 4);
}

#[tokio::test]
async fn what_is_for_nobody_is_counted() {
    let (mux, address) = mux("127.0.0.1:0");
    let agent = Agent::new(&mux, "alice").await;
    let peer = Peer::new(address).await;
    peer.send(&[0; 40]).await;
    peer.send(&check("alice", PASSWORD)[..30]).await;
    refused(&mux, |refused| refused.malformed == 2).await;
    peer.send(&check("bob", PASSWORD)).await;
    peer.send(&check("", PASSWORD)).await;
    refused(&mux, |refused| refused.unknown_username == 2).await;
    let mut allocate = check("alice", PASSWORD);
    allocate[1] = 3;
    peer.send(&allocate).await;
    refused(&mux, |refused| refused.no_username == 1).await;
    peer.send(&vec![0x80; 9000]).await;
    refused(&mux, |refused| refused.truncated == 1).await;
    peer.send(&[]).await;
    refused(&mux, |refused| refused.unknown_source == 1).await;
    assert_eq!(mux.snapshot().refused.total(), 7);
    drop(agent);
    peer.send(&check("alice", PASSWORD)).await;
    refused(&mux, |refused| refused.unknown_username == 3).await;
}
