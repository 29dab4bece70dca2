//! ICMP errors that nobody on the path has sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use perpacket_lab::Node;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// What they say: nothing, what cannot be, what is absurd, and what could be.
const MTUS: [u16; 8] = [0, 68, 300, 552, 1280, 1400, 1501, 65_535];

/// From one round of them to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends "fragmentation needed" or "packet too big" about one flow again and again until it is dropped.
pub(crate) struct Forger {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Forger {
    /// From `node` to `victim`, about these packets: whole ones that the victim has sent, or the beginnings of such.
    pub(crate) fn start(node: &Node, victim: IpAddr, quotes: &[Vec<u8>]) -> Result<Self> {
        let (domain, protocol) = match victim {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = node.run(|| Socket::new(domain, Type::RAW, Some(protocol)))?;
        let messages: Vec<_> = quotes
            .iter()
            .flat_map(|quote| MTUS.map(|mtu| too_big(victim, mtu, quote)))
            .collect();
        let victim = SockAddr::from(std::net::SocketAddr::new(victim, 0));
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                for message in &messages {
                    // A full queue is no reason to stop.
                    let _ = socket.send_to(message, &victim);
                }
                counter.fetch_add(1, Ordering::SeqCst);
                thread::sleep(PAUSE);
            }
        });
        Ok(Self {
            stop,
            rounds,
            thread: Some(thread),
        })
    }

    /// How often all of them were sent.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::SeqCst)
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// RFC 1191 §4, RFC 4443 §3.2. The kernel sums up `ICMPv6` itself.
fn too_big(victim: IpAddr, mtu: u16, quote: &[u8]) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let (mut message, room) = match victim {
        IpAddr::V4(_) => (vec![3, 4, 0, 0, 0, 0, high, low], 520),
        IpAddr::V6(_) => (vec![2, 0, 0, 0, 0, 0, high, low], 1184),
    };
    message.extend(&quote[..quote.len().min(room)]);
    if victim.is_ipv4() {
        let checksum = checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or_default();
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("folded twice")
}
