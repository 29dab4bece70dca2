//! Server-reflexive addresses.

use std::net::SocketAddr;

use perpacket_webrtc::{CustomMux, CustomNet, MuxError, StunHeader};
use stun::{
    agent::TransactionId,
    message::{BINDING_SUCCESS, Message},
    xoraddr::XorMappedAddress,
};
use tokio::net::UdpSocket;

use crate::support::{Agent, soon};

const MAPPED: &str = "203.0.113.9:40000";

fn mapped_answer(request: &[u8], mapped: SocketAddr) -> Vec<u8> {
    let header = StunHeader::parse(request).expect("STUN");
    let mut answer = Message::new();
    answer
        .build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(TransactionId(header.transaction_id)),
            Box::new(XorMappedAddress {
                ip: mapped.ip(),
                port: mapped.port(),
            }),
        ])
        .expect("an answer");
    answer.raw
}

/// The first request is lost, and strangers answer before the server does.
#[tokio::test]
async fn only_the_server_is_believed() {
    for (local, mapped) in [("127.0.0.1:0", MAPPED), ("[::1]:0", "[2001:db8::9]:40000")] {
        let local: SocketAddr = local.parse().expect("an address");
        let mapped: SocketAddr = mapped.parse().expect("an address");
        let net = CustomNet::new();
        let mux = CustomMux::bind(&net, local).expect("a mux");
        let server = UdpSocket::bind(local).await.expect("a socket");
        let stranger = UdpSocket::bind(local).await.expect("a socket");
        let address = server.local_addr().expect("bound");
        let discovery = tokio::spawn({
            let mux = mux.clone();
            async move { mux.discover(address).await }
        });
        let mut buffer = [0; 500];
        let receive = async |buffer: &mut [u8]| {
            soon("a request", server.recv_from(buffer))
                .await
                .expect("received")
        };
        let (first, source) = receive(&mut buffer).await;
        assert_eq!(source, mux.local_addrs()[0]);
        let lie = SocketAddr::new(mapped.ip(), 666);
        let to_first = mapped_answer(&buffer[..first], lie);
        stranger.send_to(&to_first, source).await.expect("sent");
        let mut other = buffer;
        other[10] ^= 1;
        let to_other = mapped_answer(&other[..first], lie);
        server.send_to(&to_other, source).await.expect("sent");

        let mut again = [0; 500];
        let (second, _) = receive(&mut again).await;
        assert_eq!(again[..second], buffer[..first], "the same request again");
        let truth = mapped_answer(&again[..second], mapped);
        server.send_to(&truth, source).await.expect("sent");

        let found = soon("the address", discovery).await.expect("no panic");
        let found = found.expect("an answer");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].mapped, found[0].server), (mapped, address));
        assert_eq!(mux.snapshot().refused.unknown_transaction, 2);
        assert_eq!(mux.snapshot().transactions, 0);
        assert_eq!(mux.reflexive(), found);
    }
}

#[tokio::test]
async fn a_description_is_completed() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = server.local_addr().expect("bound");
    let (found, ()) = tokio::join!(mux.discover(address), async {
        let mut buffer = [0; 500];
        let (length, source) = server.recv_from(&mut buffer).await.expect("received");
        let answer = mapped_answer(&buffer[..length], MAPPED.parse().expect("an address"));
        server.send_to(&answer, source).await.expect("sent");
    });
    found.expect("an answer");
    let _agent = Agent::new(&mux, "alice").await;
    let description = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        a=ice-ufrag:alice\r\na=ice-pwd:secret\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n";
    let completed = mux.complete(description);
    assert!(completed.starts_with(description), "{completed}");
    let line = completed.lines().last().expect("a line");
    assert!(
        line.contains(" 203.0.113.9 40000 typ srflx raddr 127.0.0.1 "),
        "{line}"
    );
    assert_eq!(mux.nat_1to1_ips(), Vec::<String>::new(), "another port");
}

/// Two servers say the same: it is offered once.
#[tokio::test]
async fn what_servers_agree_about_is_there_once() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let mapped = SocketAddr::new(
        "203.0.113.9".parse().expect("an IP"),
        mux.local_addrs()[0].port(),
    );
    for _ in 0..2 {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let address = server.local_addr().expect("bound");
        let (found, ()) = tokio::join!(mux.discover(address), async {
            let mut buffer = [0; 500];
            let (length, source) = server.recv_from(&mut buffer).await.expect("received");
            let answer = mapped_answer(&buffer[..length], mapped);
            server.send_to(&answer, source).await.expect("sent");
        });
        found.expect("an answer");
    }
    assert_eq!(mux.snapshot().reflexive.len(), 2);
    assert_eq!(mux.candidates().len(), 1);
    assert_eq!(mux.nat_1to1_ips(), ["203.0.113.9/127.0.0.1"]);
}

/// Whoever gives up leaves nothing behind.
#[tokio::test]
async fn a_discovery_that_is_dropped_is_forgotten() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = silent.local_addr().expect("bound");
    let mut buffer = [0; 500];
    tokio::select! {
        _ = mux.discover(address) => panic!("no answer was given"),
        asked = silent.recv_from(&mut buffer) => drop(asked.expect("received")),
    }
    soon("the request to be forgotten", async {
        while mux.snapshot().transactions > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_of_the_other_family_is_refused() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let error = mux
        .discover("[::1]:3478".parse().expect("an address"))
        .await;
    assert!(matches!(error, Err(MuxError::NoSocketTowards { .. })));
}

/// A server that has no use for the request.
#[tokio::test]
async fn what_went_wrong_is_said() {
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, "127.0.0.1:0".parse().expect("an address")).expect("a mux");
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = server.local_addr().expect("bound");
    let (found, ()) = tokio::join!(mux.discover(address), async {
        let mut buffer = [0; 500];
        let (length, source) = server.recv_from(&mut buffer).await.expect("received");
        // An error response without a word.
        buffer[..4].copy_from_slice(&[0x01, 0x11, 0, 0]);
        assert!(length >= 20);
        server.send_to(&buffer[..20], source).await.expect("sent");
    });
    let error = found.expect_err("refused").to_string();
    let local = mux.local_addrs()[0];
    assert_eq!(
        error,
        format!("the STUN server {address}, asked from {local}: the server refused the request")
    );
    assert_eq!(mux.snapshot().transactions, 0);
    assert_eq!(mux.reflexive(), []);
}
