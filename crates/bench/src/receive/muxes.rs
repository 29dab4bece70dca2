//! The muxes that are compared, each with a reader for every peer.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use perpacket_webrtc::{CustomMux, CustomNet};
use stun::{
    agent::TransactionId,
    attributes::ATTR_USERNAME,
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message},
    textattrs::TextAttribute,
};
use tokio::{sync::Notify, time::timeout};
use webrtc::ice::udp_mux::{UDPMux, UDPMuxDefault, UDPMuxParams};
use webrtc_util::Conn;

use super::burst::Peers;

/// What webrtc-ice reads with.
pub(super) const BUFFER: usize = 8192;

/// For what takes no time but on a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(10);

const PASSWORD: &str = "a password of twenty-two";

/// Whose mux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `UDPMuxDefault` on a tokio socket.
    Stock,
    /// `CustomMux`.
    Custom,
}

/// A mux, and tasks that read it.
pub(super) struct Mux {
    pub(super) address: SocketAddr,
    arrived: Arc<Arrived>,
    expected: usize,
    _open: Arc<dyn UDPMux + Send + Sync>,
}

/// How much media the readers got.
#[derive(Debug, Default)]
struct Arrived {
    count: AtomicUsize,
    /// At this number somebody wants to know.
    goal: AtomicUsize,
    reached: Notify,
}

impl Mux {
    /// A mux that has a peer connection for each of the first peers, and knows their addresses.
    pub(super) async fn new(kind: Kind, peers: &Peers, number: usize) -> Result<Self> {
        let (mux, address, custom) = make(kind).await?;
        let arrived = Arc::new(Arrived::default());
        for (at, peer) in peers.iter(number).enumerate() {
            let ufrag = format!("peer{at}");
            let conn = Arc::clone(&mux).get_conn(&ufrag).await?;
            introduce(&ufrag, peer, address, conn.as_ref(), custom.as_ref()).await?;
            tokio::spawn(read(conn, Arc::clone(&arrived)));
        }
        Ok(Self {
            address,
            arrived,
            expected: 0,
            _open: mux,
        })
    }

    /// Waits until the readers have got so many more.
    pub(super) async fn read(&mut self, count: usize) -> Result<()> {
        self.expected += count;
        self.arrived.goal.store(self.expected, Relaxed);
        let reached = async {
            while self.arrived.count.load(Relaxed) < self.expected {
                self.arrived.reached.notified().await;
            }
        };
        timeout(PATIENCE, reached).await.with_context(|| {
            let missing = self.expected - self.arrived.count.load(Relaxed);
            format!("{missing} datagrams were lost")
        })
    }
}

async fn make(
    kind: Kind,
) -> Result<(Arc<dyn UDPMux + Send + Sync>, SocketAddr, Option<CustomMux>)> {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Ok(match kind {
        Kind::Stock => {
            let socket = tokio::net::UdpSocket::bind(anywhere).await?;
            let address = socket.local_addr()?;
            let mux = UDPMuxDefault::new(UDPMuxParams::new(socket));
            (mux, address, None)
        }
        Kind::Custom => {
            let mux = CustomMux::bind(&CustomNet::new(), anywhere)?;
            let address = *mux.local_addrs().first().context("a socket")?;
            (Arc::new(mux.clone()), address, Some(mux))
        }
    })
}

/// A check from the peer, and whatever else the mux has to see before it knows the address.
async fn introduce(
    ufrag: &str,
    peer: &UdpSocket,
    to: SocketAddr,
    conn: &(dyn Conn + Send + Sync),
    custom: Option<&CustomMux>,
) -> Result<()> {
    if let Some(mux) = custom {
        mux.learn(&format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:{PASSWORD}\r\n"));
    }
    peer.send_to(&check(ufrag)?, to)?;
    let mut buffer = [0; BUFFER];
    let (_, source) = timeout(PATIENCE, conn.recv_from(&mut buffer))
        .await
        .context("a check did not arrive")??;
    // The stock mux learns an address from what is sent there.
    conn.send_to(&[0; 20], source).await?;
    Ok(())
}

fn check(ufrag: &str) -> Result<Vec<u8>> {
    let mut message = Message::new();
    message.build(&[
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(TextAttribute::new(ATTR_USERNAME, format!("{ufrag}:theirs"))),
        Box::new(MessageIntegrity::new_short_term_integrity(
            PASSWORD.to_owned(),
        )),
        Box::new(FINGERPRINT),
    ])?;
    Ok(message.raw)
}

/// Reads as the candidate of a peer connection does.
async fn read(conn: Arc<dyn Conn + Send + Sync>, arrived: Arc<Arrived>) {
    let mut buffer = vec![0; BUFFER];
    while conn.recv_from(&mut buffer).await.is_ok() {
        let count = arrived.count.fetch_add(1, Relaxed) + 1;
        if count == arrived.goal.load(Relaxed) {
            arrived.reached.notify_one();
        }
    }
}
