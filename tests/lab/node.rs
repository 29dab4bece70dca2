//! A host or a router: one network namespace.

use std::fmt;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::{Error, Result};
use crate::{netlink, sysctl};

/// A host or router of the lab: one network namespace with `lo` up and whatever [links](crate::Link)
/// it was given.
///
/// A clone is a handle on the same namespace. The namespace has no name and no mount: when the last
/// handle, thread, socket and program in it are gone, the kernel takes it down, with its links.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    name: String,
    namespace: File,
    interfaces: AtomicUsize,
}

impl Node {
    pub(crate) fn new(name: &str, router: bool) -> Result<Self> {
        // On a thread of its own: unshare moves the calling thread, for good.
        let namespace = on_thread(name, || -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Error::Refused {
                operation: format!("a network namespace for {name}"),
                source: e.into(),
                advice: "call perpacket_lab::enter() first thing in main".to_owned(),
            })?;
            sysctl::set_lab_defaults()?;
            if router {
                sysctl::forward()?;
            }
            netlink::bring_up("lo")?;
            netlink::cut_segments("lo")?;
            File::open("/proc/thread-self/ns/net")
                .map_err(|e| Error::system(format!("open the namespace of {name}"), e))
        })?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            namespace,
            interfaces: AtomicUsize::new(0),
        })))
    }

    /// The name it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The inode number of the namespace, as `/proc/PID/ns/net` shows it.
    ///
    /// # Errors
    /// When the descriptor cannot be examined.
    pub fn namespace_id(&self) -> Result<u64> {
        self.0
            .namespace
            .metadata()
            .map(|m| m.ino())
            .map_err(|e| Error::system(format!("fstat the namespace of {}", self.name()), e))
    }

    /// Runs `f` on a new thread inside this node and returns what it returns. Sockets that `f` makes
    /// belong to the node for ever, wherever they are used afterwards.
    ///
    /// # Panics
    /// With `f`'s own panic, and when the kernel does not let the thread in.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_thread(self.name(), || {
            self.enter_thread();
            f()
        })
    }

    /// Moves the calling thread into this node.
    pub(crate) fn enter_thread(&self) {
        if let Err(e) = setns(&self.0.namespace, CloneFlags::CLONE_NEWNET) {
            panic!("setns into {}: {e}", self.name());
        }
    }

    /// Adds a route to `destination` (`"0.0.0.0/0"`, `"fd00:2::/64"`) through gateway `via`.
    ///
    /// # Errors
    /// When one does not parse, or the kernel refuses, e.g. because no link leads to the gateway.
    pub fn route(&self, destination: &str, via: &str) -> Result<()> {
        let destination = parse_prefix(destination)?;
        let via: IpAddr = via.parse().map_err(|_| Error::Address {
            text: via.to_owned(),
            expected: "an IP address",
        })?;
        self.run(|| netlink::add_route(destination, via))
    }

    /// Removes the route to `destination`.
    ///
    /// # Errors
    /// When it does not parse or there is no such route.
    pub fn route_del(&self, destination: &str) -> Result<()> {
        let destination = parse_prefix(destination)?;
        self.run(|| netlink::delete_route(destination))
    }

    /// Adds an address with its prefix length (`"10.0.1.1/24"`) to an interface.
    ///
    /// # Errors
    /// When it does not parse or the kernel refuses.
    pub fn add_addr(&self, interface: &str, address: &str) -> Result<()> {
        let address = parse_prefix(address)?;
        self.run(|| netlink::add_address(interface, address))
    }

    /// Removes an address from an interface.
    ///
    /// # Errors
    /// When it does not parse or is not there.
    pub fn del_addr(&self, interface: &str, address: &str) -> Result<()> {
        let address = parse_prefix(address)?;
        self.run(|| netlink::delete_address(interface, address))
    }

    /// Sets an interface up. Routes that went with it when it was set down do not come back.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn link_set_up(&self, interface: &str) -> Result<()> {
        self.run(|| netlink::bring_up(interface))
    }

    /// Sets an interface down; the kernel drops the routes over it.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn link_set_down(&self, interface: &str) -> Result<()> {
        self.run(|| netlink::bring_down(interface))
    }

    /// Sets an interface's MTU, bytes. Below 1,280 the kernel turns IPv6 off on it.
    ///
    /// # Errors
    /// When there is no such interface or the kernel refuses the value.
    pub fn set_mtu(&self, interface: &str, mtu: u32) -> Result<()> {
        self.run(|| netlink::set_mtu(interface, mtu))
    }

    /// Writes a setting of this namespace, e.g. `sysctl("net.ipv4.icmp_ratelimit", "0")`.
    ///
    /// # Errors
    /// When there is no such setting, it is not kept per namespace, or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| sysctl::write(name, value))
    }

    /// The name for the next interface: `eth0`, `eth1` and so on.
    pub(crate) fn next_interface(&self) -> String {
        let index = self.0.interfaces.fetch_add(1, Ordering::Relaxed);
        format!("eth{index}")
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.namespace.as_fd()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.0.name).finish()
    }
}

/// Parses an address with its prefix length.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet> {
    text.parse().map_err(|_| Error::Address {
        text: text.to_owned(),
        expected: "an IP address with a prefix length, such as 10.0.1.1/24",
    })
}

/// Runs `f` on a thread of its own, and passes its panic on.
fn on_thread<T: Send>(name: &str, f: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, f)
            .expect("the system has a thread left")
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic))
    })
}
