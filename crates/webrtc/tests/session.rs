//! What a session says of its sockets.

use std::net::SocketAddr;

use perpacket_webrtc::{CustomConn, CustomNet, DropCause, Event};
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
