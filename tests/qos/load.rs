//! More than a line carries.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::qos::scene::Scene;
use crate::support::connection::DEADLINE;

const PAYLOAD: [u8; 1200] = [0; 1200];

/// Bits of one IPv4 packet.
const BITS: u32 = (1200 + 28) * 8;

/// Datagrams from host to host, until it is stopped.
pub(crate) struct Load {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts it, at so many bits of IP packet a second, and waits until the queue is full.
    pub(crate) fn start(scene: &Scene, bits_per_second: u32) -> Result<Self> {
        let wan = &scene.wan;
        let target = wan.right().run(|| UdpSocket::bind((wan.right_v4(), 0)))?;
        let socket = wan.left().run(|| UdpSocket::bind((wan.left_v4(), 0)))?;
        socket.connect(target.local_addr()?)?;
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let gap = Duration::from_secs(1) * BITS / bits_per_second;
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            for number in 0_u32.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let due = start + gap * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                socket.send(&PAYLOAD)?;
            }
            // Until the last has been sent to it, it is there.
            drop(target);
            Ok(())
        });
        let load = Self {
            enough,
            thread: Some(thread),
        };
        perpacket_lab::until(
            DEADLINE,
            || "the queue does not fill".to_owned(),
            || Ok((wan.counters().hops[1].queue_full > 0).then_some(())),
        )?;
        Ok(load)
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.enough.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("it has been stopped")?;
        thread.join().map_err(|_| anyhow!("it has panicked"))?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::SeqCst);
    }
}
