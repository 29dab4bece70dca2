//! The two ends of a connection that a mux stands between.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use perpacket_webrtc::{CustomMux, RefusedCounters, StunClass, StunHeader};
use stun::{
    agent::TransactionId,
    attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter},
    textattrs::TextAttribute,
};
use tokio::net::UdpSocket;
use webrtc::ice::udp_mux::UDPMux as _;
use webrtc_util::Conn;

pub(crate) const PASSWORD: &str = "a password of twenty-two";

/// Longer than any wait that succeeds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// A check for the peer connection of that username fragment.
pub(crate) fn check(ufrag: &str, password: &str) -> Vec<u8> {
    message(ufrag, password, TransactionId::new(), false)
}

/// The same with USE-CANDIDATE.
pub(crate) fn nomination(ufrag: &str, password: &str) -> Vec<u8> {
    message(ufrag, password, TransactionId::new(), true)
}

fn message(ufrag: &str, password: &str, id: TransactionId, nominates: bool) -> Vec<u8> {
    let username = TextAttribute::new(ATTR_USERNAME, format!("{ufrag}:theirs"));
    let mut setters: Vec<Box<dyn Setter>> =
        vec![Box::new(BINDING_REQUEST), Box::new(id), Box::new(username)];
    if nominates {
        setters.push(Box::new(Flag));
    }
    setters.push(Box::new(integrity(password)));
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters).expect("a check");
    message.raw
}

struct Flag;

impl Setter for Flag {
    fn add_to(&self, message: &mut Message) -> Result<(), stun::Error> {
        message.add(ATTR_USE_CANDIDATE, &[]);
        Ok(())
    }
}

/// What grants a request.
pub(crate) fn answer(request: &[u8], password: &str) -> Vec<u8> {
    let header = StunHeader::parse(request).expect("STUN");
    assert_eq!(header.class, StunClass::Request);
    let mut message = Message::new();
    message
        .build(&[
            Box::new(BINDING_SUCCESS),
            Box::new(TransactionId(header.transaction_id)),
            Box::new(integrity(password)),
            Box::new(FINGERPRINT),
        ])
        .expect("an answer");
    message.raw
}

fn integrity(password: &str) -> MessageIntegrity {
    MessageIntegrity::new_short_term_integrity(password.to_owned())
}

/// Something that looks like SRTP.
pub(crate) fn media(n: u8) -> Vec<u8> {
    let mut datagram = vec![n; 100];
    datagram[0] = 0x80;
    datagram[1] = 96;
    datagram
}

/// The peer connection's end.
pub(crate) struct Agent {
    pub(crate) conn: Arc<dyn Conn + Send + Sync>,
    pub(crate) ufrag: String,
}

impl Agent {
    pub(crate) async fn new(mux: &CustomMux, ufrag: &str) -> Self {
        let conn = Arc::new(mux.clone()).get_conn(ufrag).await;
        Self {
            conn: conn.expect("an open mux"),
            ufrag: ufrag.to_owned(),
        }
    }

    /// Tells the mux the password.
    pub(crate) fn teach(&self, mux: &CustomMux) {
        mux.learn(&format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:{PASSWORD}\r\n",
            self.ufrag
        ));
    }

    pub(crate) async fn recv(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let (length, source) = soon("a datagram", self.conn.recv_from(&mut buffer))
            .await
            .expect("open");
        (buffer[..length].to_vec(), source)
    }

    pub(crate) async fn send(&self, datagram: &[u8], target: SocketAddr) {
        let sent = self.conn.send_to(datagram, target).await;
        assert_eq!(sent.expect("never fails"), datagram.len());
    }

    /// Reads a check and grants it; who sent it.
    pub(crate) async fn grant(&self) -> SocketAddr {
        let (request, source) = self.recv().await;
        self.send(&answer(&request, PASSWORD), source).await;
        source
    }
}

/// The client's end.
pub(crate) struct Peer {
    pub(crate) socket: UdpSocket,
    pub(crate) mux: SocketAddr,
}

impl Peer {
    pub(crate) async fn new(mux: SocketAddr) -> Self {
        let socket = UdpSocket::bind((mux.ip(), 0)).await.expect("a socket");
        Self { socket, mux }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    pub(crate) async fn send(&self, datagram: &[u8]) {
        let sent = self.socket.send_to(datagram, self.mux).await;
        assert_eq!(sent.expect("sent"), datagram.len());
    }

    pub(crate) async fn recv(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let (length, source) = soon("a datagram", self.socket.recv_from(&mut buffer))
            .await
            .expect("received");
        (buffer[..length].to_vec(), source)
    }
}

/// Waits until what was refused is so.
pub(crate) async fn refused(mux: &CustomMux, is_so: impl Fn(&RefusedCounters) -> bool) {
    let waited = tokio::time::timeout(DEADLINE, async {
        while !is_so(&mux.snapshot().refused) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let waited = waited.await.is_ok();
    assert!(waited, "refused: {:?}", mux.snapshot().refused);
}
