//! What a socket hands on while it waits for one server's answer.
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::net::SocketAddr;
use std::time::Duration;

use perpacket_webrtc::{CustomConn, CustomNet, DropCause};
use stun::agent::TransactionId;
use stun::message::{
    BINDING_REQUEST, BINDING_SUCCESS, METHOD_ALLOCATE, Message, MessageType, Setter,
};
use stun::xoraddr::XorMappedAddress;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use webrtc_util::Conn as _;

const DEADLINE: Duration = Duration::from_secs(20);

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn message(attributes: &[Box<dyn Setter>]) -> Message {
    let mut message = Message::new();
    message.build(attributes).unwrap();
    message
}

fn binding_request() -> Message {
    message(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())])
}

fn answer_to(request: &[u8]) -> Vec<u8> {
    let id = TransactionId(request[8..20].try_into().unwrap());
    let mapped = XorMappedAddress {
        ip: [203, 0, 113, 5].into(),
        port: 4000,
    };
    message(&[Box::new(BINDING_SUCCESS), Box::new(id), Box::new(mapped)]).raw
}

fn dropped(net: &CustomNet, cause: DropCause) -> u64 {
    net.snapshot().total.total().dropped_for(cause)
}

async fn request_at(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 1500];
    let (length, client) = timeout(DEADLINE, server.recv_from(&mut buffer))
        .await
        .unwrap()
        .unwrap();
    (buffer[..length].to_vec(), client)
}

/// The network loses two requests, strangers send what they like, and whoever receives gives up again
/// and again: the answer is found all the same, and is the first that is handed on.
#[tokio::test]
async fn a_lost_request_is_sent_again_and_only_its_answer_is_heard() {
    let net = CustomNet::new();
    let conn = CustomConn::bind(&net, loopback()).unwrap();
    let server = UdpSocket::bind(loopback()).await.unwrap();
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    let request = binding_request();
    conn.send_to(&request.raw, server.local_addr().unwrap())
        .await
        .unwrap();

    let serve = async {
        for _lost in 0..2 {
            let (again, client) = request_at(&server).await;
            assert_eq!(again, request.raw);
            stranger.send_to(&answer_to(&again), client).await.unwrap();
            stranger.send_to(b"noise", client).await.unwrap();
            let other = binding_request();
            server
                .send_to(&answer_to(&other.raw), client)
                .await
                .unwrap();
        }
        let (again, client) = request_at(&server).await;
        server.send_to(&answer_to(&again), client).await.unwrap();
        server.send_to(&answer_to(&again), client).await.unwrap();
        stranger.send_to(b"from a peer", client).await.unwrap();
    };
    let receive = async {
        let mut buffer = [0; 1280];
        loop {
            let patience = Duration::from_millis(30);
            if let Ok(received) = timeout(patience, conn.recv_from(&mut buffer)).await {
                let (length, source) = received.unwrap();
                return (buffer[..length].to_vec(), source);
            }
        }
    };
    let (received, ()) = timeout(DEADLINE, async { tokio::join!(receive, serve) })
        .await
        .unwrap();
    assert_eq!(
        received,
        (answer_to(&request.raw), server.local_addr().unwrap())
    );
    assert_eq!(dropped(&net, DropCause::Stranger), 4);
    assert_eq!(dropped(&net, DropCause::Unexpected), 2);
    assert_eq!(net.snapshot().total.total().sent, 3);

    let mut buffer = [0; 1280];
    let after = timeout(DEADLINE, conn.recv_from(&mut buffer))
        .await
        .unwrap();
    assert_eq!(&buffer[..after.unwrap().0], b"from a peer");
    assert_eq!(dropped(&net, DropCause::Unexpected), 3);
}

/// A TURN client reads before it sends. What somebody sent to its port by then it must not see.
#[tokio::test]
async fn what_came_before_the_first_request_is_judged_too() {
    let net = CustomNet::new();
    let conn = CustomConn::bind(&net, loopback()).unwrap();
    let server = UdpSocket::bind(loopback()).await.unwrap();
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    let local = conn.local_addr().unwrap();
    stranger
        .send_to(&binding_request().raw, local)
        .await
        .unwrap();

    let allocate = message(&[
        Box::new(MessageType::new(
            METHOD_ALLOCATE,
            stun::message::CLASS_REQUEST,
        )),
        Box::new(TransactionId::new()),
    ]);
    let client = async {
        let mut buffer = [0; 1500];
        let receive = conn.recv_from(&mut buffer);
        tokio::pin!(receive);
        // It has been polled once before anything is sent.
        tokio::select! {
            biased;
            received = &mut receive => panic!("{received:?}"),
            () = std::future::ready(()) => {}
        }
        conn.send_to(&allocate.raw, server.local_addr().unwrap())
            .await
            .unwrap();
        receive.await.unwrap().1
    };
    let serve = async {
        let (request, client) = request_at(&server).await;
        server.send_to(&answer_to(&request), client).await.unwrap();
    };
    let (source, ()) = timeout(DEADLINE, async { tokio::join!(client, serve) })
        .await
        .unwrap();
    assert_eq!(source, server.local_addr().unwrap());
    assert_eq!(dropped(&net, DropCause::Stranger), 1);
}

#[tokio::test]
async fn who_only_listens_hears_everything() {
    let net = CustomNet::new();
    let conn = CustomConn::bind(&net, loopback()).unwrap();
    let peer = UdpSocket::bind(loopback()).await.unwrap();
    let local = conn.local_addr().unwrap();
    for _ in 0..3 {
        peer.send_to(&binding_request().raw, local).await.unwrap();
        let mut buffer = [0; 1500];
        let received = timeout(DEADLINE, conn.recv_from(&mut buffer))
            .await
            .unwrap();
        assert_eq!(received.unwrap().1, peer.local_addr().unwrap());
    }
}
