//! What a session says of its sockets.

use std::net::SocketAddr;

use perpacket_webrtc::{CustomConn, CustomNet, DropCause, Event, PacketClass, udp::MessageOptions};
use webrtc_util::Conn as _;

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A datagram that could not go out did not go out with DF 0 either.
#[tokio::test]
async fn what_is_not_sent_is_not_oversize() {
    let net = CustomNet::new();
    let mut events = net.events();
    let session = net.session("alice");
    session.set_path_mtu(Some(1200)).unwrap();
    let conn = CustomConn::bind(&session.net(), loopback()).unwrap();
    let itself = conn.local_addr().unwrap();

    // More than UDP can carry.
    conn.send_to(&vec![0x80; 66_000], itself).await.unwrap();
    conn.send_to(&[0x80; 1300], itself).await.unwrap();

    let total = session.total().total();
    assert_eq!((total.sent, total.oversize), (1, 1));
    assert_eq!(total.dropped_for(DropCause::TooBig), 1);
    let event = events.try_recv().unwrap();
    assert!(matches!(event, Event::Dropped { .. }), "{event:?}");
    let event = events.try_recv().unwrap();
    assert!(
        matches!(event, Event::Oversize { length: 1300, .. }),
        "{event:?}"
    );
}

/// webrtc-ice can keep a connection that it has closed.
#[tokio::test]
async fn a_closed_socket_counts_in_the_total_only() {
    let session = CustomNet::new().session("alice");
    let conns = [(); 2].map(|()| CustomConn::bind(&session.net(), loopback()).unwrap());
    let peers = [(); 2].map(|()| std::net::UdpSocket::bind(loopback()).unwrap());
    let peers = peers.each_ref().map(|peer| peer.local_addr().unwrap());
    for (conn, peer) in conns.iter().zip(peers) {
        conn.send_to(b"x", peer).await.unwrap();
    }
    assert_eq!(session.peers().len(), 2);
    conns[0].close().await.unwrap();
    let open: Vec<_> = session.peers().into_iter().map(|(peer, _)| peer).collect();
    assert_eq!(open, [peers[1]]);
    assert_eq!(session.total().total().sent, 2);
}

#[tokio::test]
async fn sessions_count_their_own_sockets_only() {
    let net = CustomNet::new();
    let [alice, bob] = ["alice", "bob"].map(|name| net.session(name));
    let of = |session: &perpacket_webrtc::Session| CustomConn::bind(&session.net(), loopback());
    let (one, other) = (of(&alice).unwrap(), of(&bob).unwrap());
    let peer = std::net::UdpSocket::bind(loopback()).unwrap();
    let peer = peer.local_addr().unwrap();
    for conn in [&one, &one, &other] {
        conn.send_to(b"x", peer).await.unwrap();
    }
    let sent = |session: &perpacket_webrtc::Session| session.total().total().sent;
    assert_eq!((sent(&alice), sent(&bob)), (2, 1));
    drop(one);
    assert_eq!((sent(&alice), sent(&bob)), (2, 1));
    assert_eq!(alice.peers(), []);
    assert_eq!(net.snapshot().total.total().sent, 3);
    // Another of the same name begins anew.
    drop((alice, other, bob));
    assert_eq!(sent(&net.session("alice")), 0);
}

#[test]
fn options_are_replaced_as_one_or_not_at_all() {
    let session = CustomNet::new().session("alice");
    session
        .set_options(MessageOptions::NONE.with_ttl(5))
        .unwrap();
    let before = session.options();
    let mut after = before.clone();
    after.any = MessageOptions::NONE.with_tos(8);
    after.classes[PacketClass::Srtp.index()] = MessageOptions::NONE.with_ttl(0);
    session.replace_options(&after).unwrap_err();
    assert_eq!(session.options(), before);
    after.classes[PacketClass::Srtp.index()] = MessageOptions::NONE.with_ttl(9);
    session.replace_options(&after).unwrap();
    assert_eq!(session.options(), after);
}
