//! The engine in real time: a thread between two TUN devices.

use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;

use super::engine::Engine;
use super::router::Way;
use super::tun::Tun;

/// The kernel wakes a thread this much too late or less, mostly: the thread is awake this much before a packet
/// is due.
const EARLY: Duration = Duration::from_micros(60);

/// Packets read from one device before the other has its turn, and what is due is done.
const BATCH: usize = 32;

/// The largest IP packet.
const MAX_PACKET: usize = 65_535;

/// Two devices and what is between them.
pub(super) struct Clockwork {
    pub(super) left: Tun,
    pub(super) right: Tun,
    pub(super) engine: Arc<Mutex<Engine>>,
    /// Has something to read when the engine was changed; closed to end the thread.
    pub(super) called: PipeReader,
}

impl Clockwork {
    /// Carries packets until the pipe is closed.
    pub(super) fn run(mut self) {
        // 50 µs otherwise, by which the kernel may delay every timer (PR_SET_TIMERSLACK(2const)).
        let _ = prctl::set_timerslack(1);
        let start = Instant::now();
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let next = self.turn(start, &mut buffer);
            match self.wait(start, next) {
                Ok(false) => {}
                Ok(true) => {
                    let mut calls = [0; 64];
                    if !self.called.read(&mut calls).is_ok_and(|calls| calls > 0) {
                        return;
                    }
                }
                Err(e) => panic!("poll of the TUN devices: {e}"),
            }
        }
    }

    /// Reads what is there, delivers what is due, and returns when to look again.
    fn turn(&self, start: Instant, buffer: &mut [u8]) -> Option<Duration> {
        let mut engine = lock(&self.engine);
        for (device, way) in [(&self.left, Way::Out), (&self.right, Way::Back)] {
            for _ in 0..BATCH {
                // It fails as long as the device is set down.
                let Ok(Some(length)) = device.receive(buffer) else {
                    break;
                };
                engine.send(buffer[..length].to_vec(), way, nanoseconds(start.elapsed()));
            }
        }
        engine.advance(nanoseconds(start.elapsed()));
        while let Some((due, delivery)) = engine.delivery(nanoseconds(start.elapsed())) {
            let device = match delivery.way {
                Way::Out => &self.right,
                Way::Back => &self.left,
            };
            let late = start.elapsed().saturating_sub(Duration::from_nanos(due));
            let taken = device.deliver(&delivery.packet).is_ok();
            engine.account(delivery.way, taken, late);
        }
        let delivery = engine.next_delivery().map(Duration::from_nanos);
        let early = delivery.map(|due| due.saturating_sub(EARLY));
        let event = engine.next_event().map(Duration::from_nanos);
        early.into_iter().chain(event).min()
    }

    /// Waits for packets, and until a time. Whether somebody called.
    fn wait(&self, start: Instant, until: Option<Duration>) -> nix::Result<bool> {
        let left = until.map(|until| TimeSpec::from(until.saturating_sub(start.elapsed())));
        let mut fds = [self.left.as_fd(), self.right.as_fd(), self.called.as_fd()]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match ppoll(&mut fds, left, None) {
            Ok(_) | Err(Errno::EINTR) => Ok(fds[2].any().unwrap_or(true)),
            Err(e) => Err(e),
        }
    }
}

/// The engine, also after a panic of someone who changed it.
pub(super) fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("no test runs for 584 years")
}
