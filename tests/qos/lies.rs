//! Forged ICMP errors, while something is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::scene::Scene;
use crate::support::forged_icmp::{Forger, Kind};
use crate::support::hosts::Family;

pub(crate) struct Lies {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u32>>>,
}

impl Lies {
    /// Has the right host send, in the name of every router, what quotes probes that it cannot have seen.
    pub(crate) fn tell(scene: &Scene, family: Family) -> Result<Self> {
        let near = scene.wan.pairs()[family as usize].0;
        let prober = &scene.measured.prober;
        let flow = (
            SocketAddr::new(near, prober.local().port()),
            prober.remote(),
        );
        let routers: Vec<_> = (1..=scene.wan.hops())
            .map(|hop| scene.wan.hop(hop).address(near))
            .collect();
        let forger = Forger::new(scene.wan.right(), family)?;
        let enough = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&enough);
        let thread = std::thread::spawn(move || {
            // The head of a STUN request: with another transaction, and none.
            let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
            request.extend([7; 12]);
            let mut told = 0;
            while !stop.load(Ordering::SeqCst) {
                for (number, router) in routers.iter().enumerate() {
                    let kind = Kind::ALL[number % Kind::ALL.len()];
                    for quoted in [&request[..], &request[..8], &[]] {
                        forger.send(kind, *router, flow, quoted)?;
                        told += 1;
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            Ok(told)
        });
        Ok(Self {
            enough,
            thread: Some(thread),
        })
    }

    /// Ends it; how many there were.
    pub(crate) fn end(mut self) -> Result<u32> {
        self.enough.store(true, Ordering::SeqCst);
        let thread = self.thread.take().context("it has ended")?;
        thread.join().map_err(|_| anyhow!("it has panicked"))?
    }
}

impl Drop for Lies {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::SeqCst);
    }
}
