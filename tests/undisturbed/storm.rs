//! ICMP errors about the session, as fast as a host can get them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use perpacket_lab::{Node, Packet};
use perpacket_webrtc::PacketClass;

use crate::support::forged_icmp::{Forger, Kind};
use crate::support::forged_too_big;
use crate::support::hosts::Family;
use crate::support::wire::class_of;

/// How many of each kind in a round, and from one round to the next.
const AT_ONCE: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Says of packets of the session that they are too big, that their TTL has run out and that nobody is there, until it
/// is dropped.
pub(crate) struct Storm {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _sizes: forged_too_big::Forger,
}

impl Storm {
    /// From `node`, about what the victim has sent lately.
    pub(crate) fn start(node: &Node, family: Family, sent: &[Packet]) -> Result<Self> {
        let last = |class| {
            let mut of_class = sent.iter().rev().filter(|it| class_of(it) == Some(class));
            let last = of_class.next().cloned();
            last.with_context(|| format!("no {class}"))
        };
        let classes = [PacketClass::Srtp, PacketClass::Dtls, PacketClass::Stun];
        let quoted = classes.into_iter().map(last).collect::<Result<Vec<_>>>()?;
        let victim = quoted[0].source.ip();
        let whole: Vec<_> = quoted.iter().map(|packet| packet.raw.to_vec()).collect();
        let sizes = forged_too_big::Forger::start(node, victim, &whole)?;
        let forger = Forger::new(node, family)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                for (packet, kind) in quoted
                    .iter()
                    .flat_map(|packet| Kind::ALL.map(|kind| (packet, kind)))
                    .flat_map(|one| [one; AT_ONCE])
                {
                    let flow = (packet.source, packet.destination);
                    let liar = packet.destination.ip();
                    // A full queue is no reason to stop.
                    let _ = forger.send(kind, liar, flow, &packet.payload);
                }
                thread::sleep(PAUSE);
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
            _sizes: sizes,
        })
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
