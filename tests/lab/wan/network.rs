//! A running network.

use std::io::{PipeWriter, Write, pipe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::clockwork::{Clockwork, lock};
use super::counters::Counters;
use super::engine::Engine;
use super::scenario::Scenario;
use super::truth::HopTruth;
use super::tun::Tun;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::topology::Lab;

/// The name of either host's device.
pub(super) const WAN_INTERFACE: &str = "wan0";

/// A host's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WanHost {
    pub(super) v4: IpAddr,
    pub(super) v6: IpAddr,
}

/// The left host.
pub(super) const LEFT: WanHost = WanHost {
    v4: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    v6: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
};

/// The right host.
pub(super) const RIGHT: WanHost = WanHost {
    v4: IpAddr::V4(Ipv4Addr::new(10, 255, 0, 2)),
    v6: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 255, 0, 0, 0, 2)),
};

/// Two hosts and the routers of a [`Scenario`] between them. When it is dropped, routers and devices are gone;
/// the hosts stay as long as somebody has a handle on them.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// perpacket_lab::enter()?;
/// let wan = perpacket_lab::Wan::load("ten_hops")?;
/// let socket = wan.left().run(|| std::net::UdpSocket::bind((wan.left_v4(), 0)))?;
/// socket.set_ttl(3)?;
/// socket.send_to(b"expires at hop 3", (wan.right_v4(), 33434))?;
/// let truth = wan.hop(3);
/// println!("{} after {:?}", truth.v4, truth.rtt());
/// wan.change(|scenario| scenario.hop_mut(3).icmp = perpacket_lab::Willing::Silent)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Wan {
    left: Node,
    right: Node,
    engine: Arc<Mutex<Engine>>,
    /// Written to when the engine was changed; closed to end the thread.
    call: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Wan {
    /// The name of either host's device, for a [`Sniffer`](crate::Sniffer).
    pub const INTERFACE: &str = WAN_INTERFACE;

    /// Starts the network of `tests/scenarios/NAME.toml`.
    ///
    /// # Errors
    /// [`Error::Scenario`] when the file is not there or not right, another when the kernel refuses a step.
    pub fn load(name: &str) -> Result<Self> {
        Self::start(Scenario::load(name)?)
    }

    /// Starts the network that this TOML describes.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn parse(toml: &str) -> Result<Self> {
        Self::start(Scenario::parse(toml)?)
    }

    /// Starts a network.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn start(mut scenario: Scenario) -> Result<Self> {
        scenario.complete("scenario")?;
        let lab = Lab::new();
        let (left, right) = (lab.host("left")?, lab.host("right")?);
        let mtu = scenario.mtu;
        let (called, call) = pipe().map_err(|e| Error::system("pipe", e))?;
        let engine = Arc::new(Mutex::new(Engine::new(scenario)));
        let clockwork = Clockwork {
            left: Tun::open(&left, &LEFT, mtu)?,
            right: Tun::open(&right, &RIGHT, mtu)?,
            engine: Arc::clone(&engine),
            called,
        };
        let thread = thread::Builder::new()
            .name("wan".to_owned())
            .spawn(move || clockwork.run())
            .map_err(|e| Error::system("thread of the routers", e))?;
        Ok(Self {
            left,
            right,
            engine,
            call: Some(call),
            thread: Some(thread),
        })
    }

    /// The left host.
    #[must_use]
    pub fn left(&self) -> &Node {
        &self.left
    }

    /// The right host.
    #[must_use]
    pub fn right(&self) -> &Node {
        &self.right
    }

    /// IPv4 address of the left host.
    #[must_use]
    pub fn left_v4(&self) -> IpAddr {
        LEFT.v4
    }

    /// IPv6 address of the left host.
    #[must_use]
    pub fn left_v6(&self) -> IpAddr {
        LEFT.v6
    }

    /// IPv4 address of the right host.
    #[must_use]
    pub fn right_v4(&self) -> IpAddr {
        RIGHT.v4
    }

    /// IPv6 address of the right host.
    #[must_use]
    pub fn right_v6(&self) -> IpAddr {
        RIGHT.v6
    }

    /// The two hosts' addresses, left and right: IPv4, then IPv6.
    #[must_use]
    pub fn pairs(&self) -> [(IpAddr, IpAddr); 2] {
        [(LEFT.v4, RIGHT.v4), (LEFT.v6, RIGHT.v6)]
    }

    /// What is true of hop `number`, counted from 1, as things are now.
    ///
    /// # Panics
    /// When there is no such hop.
    #[must_use]
    pub fn hop(&self, number: usize) -> HopTruth {
        self.scenario().hop_truth(number)
    }

    /// How many routers there are.
    #[must_use]
    pub fn hops(&self) -> usize {
        lock(&self.engine).scenario.hops.len()
    }

    /// Time from the left host to the right one and back, without jitter and queues.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.scenario().rtt()
    }

    /// What the network does now.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        lock(&self.engine).scenario.clone()
    }

    /// Changes what the network does. It holds for all that reaches a router after this has returned. Routers
    /// keep what they remember, such as mappings; of the hosts' devices nothing changes, `mtu` included. The
    /// closure must not use this `Wan`, which stands still meanwhile.
    ///
    /// # Errors
    /// [`Error::Scenario`] when that cannot be; then nothing has changed.
    pub fn change(&self, change: impl FnOnce(&mut Scenario)) -> Result<()> {
        let mut engine = lock(&self.engine);
        let mut scenario = engine.scenario.clone();
        change(&mut scenario);
        scenario.complete("changed scenario")?;
        engine.become_like(scenario);
        drop(engine);
        if let Some(mut call) = self.call.as_ref() {
            call.write_all(&[0])
                .map_err(|e| Error::system("wake the routers", e))?;
        }
        Ok(())
    }

    /// The most by which a packet reached a host too late since this was last asked: what the scenario did not
    /// ask for, but this machine, when it had other things to do. A test of times measures again when this
    /// is too much for it.
    #[must_use]
    pub fn take_lateness(&self) -> Duration {
        lock(&self.engine).take_lateness()
    }

    /// What the routers did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        lock(&self.engine).counters()
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.call.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}
