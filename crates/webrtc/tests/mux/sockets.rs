//! The mux's own sockets: which there are, from which an answer goes, and when they close.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use perpacket_webrtc::udp::{MessageOptions, RecvMeta, Tos};
use perpacket_webrtc::{AddressFamily, CustomMux, CustomNet, MuxError, PacketClass, Tap};
use webrtc::ice::udp_mux::UDPMux as _;

use crate::support::{Agent, PASSWORD, Peer, answer, check, media, nomination, refused, soon};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[tokio::test]
async fn replies_come_from_the_address_that_was_addressed() {
    let net = CustomNet::new();
    let specific = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        .into_iter()
        .fold(CustomMux::builder(&net), |builder, ip| {
            builder.bind(address(&format!("{ip}:0")))
        })
        .build()
        .expect("three sockets on one port");
    let wildcard = CustomMux::bind(&net, address("0.0.0.0:0")).expect("a mux");
    for mux in [specific, wildcard] {
        let agent = Agent::new(&mux, "alice").await;
        let port = mux.local_addrs()[0].port();
        let mut peer = Peer::new(address(&format!("127.0.0.1:{port}"))).await;
        for ip in ["127.0.0.3", "127.0.0.2"] {
            peer.mux = address(&format!("{ip}:{port}"));
            // The answer to a check comes from where it went to, and all else from where the peer
            // nominated.
            peer.send(&nomination("alice", PASSWORD)).await;
            agent.grant().await;
            assert_eq!(peer.recv().await.1, peer.mux);
            agent.send(&media(1), peer.address()).await;
            assert_eq!(peer.recv().await, (media(1), peer.mux));
            let nominated = peer.mux;
            peer.mux = address(&format!("127.0.0.1:{port}"));
            peer.send(&check("alice", PASSWORD)).await;
            agent.grant().await;
            assert_eq!(peer.recv().await.1, peer.mux);
            agent.send(&media(2), peer.address()).await;
            assert_eq!(peer.recv().await, (media(2), nominated));
        }
    }
}

#[tokio::test]
async fn both_families_on_one_port() {
    let net = CustomNet::new();
    let mux = CustomMux::builder(&net)
        .bind(address("127.0.0.1:0"))
        .bind(address("[::1]:0"))
        .build()
        .expect("two sockets on one port");
    let locals = mux.local_addrs();
    assert_eq!(locals[0].port(), locals[1].port());

    for (family, local, other) in [
        (AddressFamily::V4, locals[0], locals[1]),
        (AddressFamily::V6, locals[1], locals[0]),
    ] {
        let mux = mux.with_family(family);
        let agent = Agent::new(&mux, "alice").await;
        agent.teach(&mux);
        assert_eq!(agent.conn.local_addr().expect("known"), local);
        assert!(mux.offers(local.ip()) && !mux.offers(other.ip()));
        let before = mux.snapshot().refused.other_family;
        Peer::new(other).await.send(&check("alice", PASSWORD)).await;
        refused(&mux, |refused| refused.other_family == before + 1).await;
        assert_eq!(mux.snapshot().addresses, 0);
        let peer = Peer::new(local).await;
        // Nothing came from there yet: the socket is found all the same.
        agent.send(&media(1), peer.address()).await;
        assert_eq!(peer.recv().await, (media(1), local));
        peer.send(&check("alice", PASSWORD)).await;
        assert_eq!(agent.grant().await, peer.address());
    }
}

#[tokio::test]
async fn what_a_mux_cannot_be_is_said() {
    let net = CustomNet::new();
    let none = CustomMux::builder(&net).build();
    assert!(matches!(none, Err(MuxError::NoAddress)));
    let two = CustomMux::builder(&net)
        .bind(address("127.0.0.1:5000"))
        .bind(address("127.0.0.2:5001"))
        .build();
    assert_eq!(
        two.expect_err("two ports").to_string(),
        "a mux has one port, and 127.0.0.1:5000 and 127.0.0.2:5001 have two"
    );
    let holder = StdSocket::bind("127.0.0.1:0").expect("a socket");
    let taken = holder.local_addr().expect("bound");
    let error = CustomMux::bind(&net, taken).expect_err("taken").to_string();
    assert!(
        error.starts_with(&format!("cannot bind a UDP socket to {taken}: ")),
        "{error}"
    );
}

/// A port that is free here and taken there is not the one.
#[tokio::test]
async fn a_port_is_found_that_is_free_everywhere() {
    let net = CustomNet::new();
    let _held: Vec<_> = (0..500)
        .filter_map(|_| StdSocket::bind("127.0.0.2:0").ok())
        .collect();
    for _ in 0..50 {
        let mux = CustomMux::builder(&net)
            .bind(address("127.0.0.1:0"))
            .bind(address("127.0.0.2:0"))
            .build()
            .expect("a port");
        let locals = mux.local_addrs();
        assert_eq!(locals[0].port(), locals[1].port());
    }
}

#[tokio::test]
async fn a_closed_mux_has_no_socket() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let agent = Agent::new(&mux, "alice").await;
    let local = mux.local_addrs()[0];
    let reader = {
        let conn = Arc::clone(&agent.conn);
        tokio::spawn(async move { conn.recv_from(&mut [0; 99]).await.is_err() })
    };
    mux.close().await;
    StdSocket::bind(local).expect("the port is free");
    assert!(reader.await.expect("no panic"), "a pending read ends");
    // As on a network that loses everything.
    agent.send(&media(1), local).await;
    assert!(Arc::new(mux.clone()).get_conn("bob").await.is_err());
    assert_eq!(mux.snapshot().connections, 0);
    mux.close().await;
}

#[tokio::test]
async fn a_mux_that_nobody_holds_closes() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let local = mux.local_addrs()[0];
    let agent = Agent::new(&mux, "alice").await;
    drop(mux);
    let (result, ()) = tokio::join!(agent.conn.recv_from(&mut []), async {});
    assert!(result.is_err());
    drop(agent);
    while StdSocket::bind(local).is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(net.snapshot().conns.len(), 0);
}

/// webrtc-ice closes the connection of a candidate that it has twice, and may read it by then.
#[tokio::test]
async fn closing_before_a_check_has_no_effect_while_it_is_read() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let agent = Agent::new(&mux, "alice").await;
    let reader = {
        let conn = Arc::clone(&agent.conn);
        tokio::spawn(async move {
            let mut buffer = [0; 999];
            let (length, source) = conn.recv_from(&mut buffer).await.expect("open");
            (buffer[..length].to_vec(), source)
        })
    };
    tokio::task::yield_now().await;
    agent.conn.close().await.expect("closed");
    // Longer than it takes to see that it is read.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let peer = Peer::new(mux.local_addrs()[0]).await;
    peer.send(&check("alice", PASSWORD)).await;
    let (request, source) = reader.await.expect("no panic");
    agent.send(&answer(&request, PASSWORD), source).await;
    peer.recv().await;
    assert_eq!(mux.snapshot().addresses, 1);
    agent.conn.close().await.expect("closed");
    assert!(agent.conn.recv_from(&mut [0; 99]).await.is_err());
    assert_eq!(mux.snapshot().addresses, 0);
}

/// ICE has given up before any check came.
#[tokio::test]
async fn what_is_closed_and_not_read_goes() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let agent = Agent::new(&mux, "alice").await;
    let nothing = agent.conn.recv_from(&mut []);
    let waited = tokio::time::timeout(Duration::from_millis(1), nothing).await;
    assert!(waited.is_err());
    agent.conn.close().await.expect("closed");
    soon("the connection to go", async {
        while mux.snapshot().connections > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// What was set for a session is gone with it, also on a mux where nothing happens any more.
#[tokio::test]
async fn a_session_that_ends_is_forgotten() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let agent = Agent::new(&mux.for_session(&net.session("alice")), "alice").await;
    let peer = Peer::new(mux.local_addrs()[0]).await;
    peer.send(&check("alice", PASSWORD)).await;
    agent.grant().await;
    peer.recv().await;
    assert_eq!(net.snapshot().sessions.len(), 1);
    drop(agent);
    assert_eq!(net.snapshot().sessions.len(), 0);
    assert_eq!(net.snapshot().conns.len(), 1, "the mux's own");
}

#[tokio::test]
async fn a_wildcard_offers_what_a_candidate_can_name() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("[::]:0")).expect("a mux");
    let offers = |ip: &str| mux.offers(ip.parse().expect("an address"));
    assert!(offers("2001:db8::1") && offers("fd00::1"));
    assert!(!offers("fe80::1") && !offers("10.0.0.1"));
}

#[tokio::test]
async fn one_username_one_connection() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let first = Agent::new(&mux, "alice").await;
    let second = Agent::new(&mux, "alice").await;
    assert_eq!(mux.snapshot().connections, 1);
    drop(first);
    assert_eq!(mux.snapshot().connections, 1);
    mux.remove_conn_by_ufrag("alice").await;
    assert_eq!(mux.snapshot().connections, 0);
    assert!(second.conn.recv_from(&mut [0; 99]).await.is_err());
}

struct Claims(Mutex<Vec<(Vec<u8>, Option<IpAddr>)>>);

impl Tap for Claims {
    fn claim(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        assert_ne!(datagram.last(), Some(&9), "a tap that fails");
        let is_mine = datagram.last() == Some(&7);
        if is_mine {
            let claimed = (datagram.to_vec(), meta.destination);
            self.0.lock().expect("no panic").push(claimed);
        }
        is_mine
    }
}

#[tokio::test]
async fn a_tap_comes_before_the_peer_connection() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let session = net.session("alice");
    let agent = Agent::new(&mux.for_session(&session), "alice").await;
    let peer = Peer::new(mux.local_addrs()[0]).await;
    peer.send(&check("alice", PASSWORD)).await;
    agent.grant().await;
    let claims = Arc::new(Claims(Mutex::default()));
    let guard = session.tap(claims.clone());
    peer.send(&media(7)).await;
    peer.send(&media(8)).await;
    assert_eq!(agent.recv().await.0, media(8));
    // One that panics harms nobody.
    peer.send(&media(9)).await;
    assert_eq!(agent.recv().await.0, media(9));
    drop(guard);
    peer.send(&media(7)).await;
    assert_eq!(agent.recv().await.0, media(7));
    let claims = claims.0.lock().expect("no panic");
    assert_eq!(*claims, [(media(7), Some(peer.mux.ip()))]);
    assert_eq!(session.total().class(PacketClass::Srtp).received, 4);
}

/// What arrives says what was sent: here by the sender's own socket, on the wire in the lab.
#[tokio::test]
async fn options_follow_the_session() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, address("127.0.0.1:0")).expect("a mux");
    let session = net.session("alice");
    session
        .set_options(MessageOptions {
            ttl: Some(33),
            tos: Some(0xb8),
            ..MessageOptions::NONE
        })
        .expect("valid");
    let alice = Agent::new(&mux.for_session(&session), "alice").await;
    let bob = Agent::new(&mux, "bob").await;
    let receiver = perpacket_webrtc::udp::UdpSocket::bind(address("127.0.0.1:0")).expect("bound");
    let to = receiver.local_addr();
    let mut seen = Vec::new();
    for agent in [&alice, &bob] {
        agent.send(&media(1), to).await;
        let meta = receiver.recv_from(&mut [0; 200]).await.expect("received");
        seen.push((meta.ttl, meta.tos.map(Tos::byte)));
    }
    assert_eq!(seen, [(Some(33), Some(0xb8)), (Some(64), Some(0))]);
    assert_eq!(session.total().class(PacketClass::Srtp).sent, 1);
}
