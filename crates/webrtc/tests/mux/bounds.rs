//! Memory: what a peer connection that does not read, and what strangers can take.

use perpacket_webrtc::{CustomMux, CustomNet, DropCause};

use crate::support::{Agent, PASSWORD, Peer, check, media, refused};

#[tokio::test]
async fn a_queue_is_bounded_and_counts_what_it_drops() {
    let net = CustomNet::new();
    let mux = CustomMux::builder(&net)
        .bind("127.0.0.1:0".parse().expect("an address"))
        .queue_bytes(100 * (100 + 64))
        .build()
        .expect("a mux");
    let session = net.session("alice");
    let agent = Agent::new(&mux.for_session(&session), "alice").await;
    agent.teach(&mux);
    let peer = Peer::new(mux.local_addrs()[0]).await;
    peer.send(&check("alice", PASSWORD)).await;
    agent.recv().await;
    for n in 0..150 {
        peer.send(&media(n)).await;
        tokio::task::yield_now().await;
    }
    refused(&mux, |refused| refused.queue_full == 50).await;
    assert_eq!(
        session.total().total().dropped_for(DropCause::QueueFull),
        50
    );
    for n in 0..100 {
        assert_eq!(agent.recv().await.0, media(n));
    }
    peer.send(&media(200)).await;
    assert_eq!(agent.recv().await.0, media(200));
}

/// A copied username without the password leaves room for who has both.
#[tokio::test]
async fn checks_that_nobody_vouches_for_leave_room() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let agent = Agent::new(&mux, "alice").await;
    let peer = Peer::new(mux.local_addrs()[0]).await;
    peer.send(&check("alice", PASSWORD)).await;
    agent.grant().await;
    peer.recv().await;

    let stranger = Peer::new(mux.local_addrs()[0]).await;
    for _ in 0..200 {
        stranger.send(&check("alice", "guessed")).await;
        tokio::task::yield_now().await;
    }
    refused(&mux, |refused| refused.unproved > 100).await;
    peer.send(&media(1)).await;
    loop {
        let (datagram, source) = agent.recv().await;
        if source == peer.address() {
            break assert_eq!(datagram, media(1));
        }
    }
}

/// One peer connection that can send in the name of any address owns a few of them at a time.
#[tokio::test]
async fn the_addresses_of_one_connection_are_bounded() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let agent = Agent::new(&mux, "alice").await;
    agent.teach(&mux);
    for _ in 0..100 {
        let peer = Peer::new(mux.local_addrs()[0]).await;
        peer.send(&check("alice", PASSWORD)).await;
        agent.recv().await;
    }
    assert_eq!(mux.snapshot().addresses, 32);
    drop(agent);
    assert_eq!(mux.snapshot().addresses, 0);
}

/// Checks to peers that never answer are forgotten, the oldest first.
#[tokio::test]
async fn unanswered_checks_are_bounded() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let agent = Agent::new(&mux, "alice").await;
    let peer = Peer::new(mux.local_addrs()[0]).await;
    for _ in 0..1000 {
        agent.send(&check("theirs", "x"), peer.address()).await;
    }
    assert_eq!(mux.snapshot().transactions, 128);
    drop(agent);
    assert_eq!(mux.snapshot().transactions, 0);
}
