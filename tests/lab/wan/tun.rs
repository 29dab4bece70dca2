//! The hosts' devices.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;
use nix::errno::Errno;
use tun_rs::{DeviceBuilder, SyncDevice};

use super::network::{WAN_INTERFACE, WanHost};
use crate::error::{Error, Result, Skip};
use crate::node::{Node, parse_prefix};
use crate::{netlink, sysctl};

/// Packets that the kernel keeps until they are read.
const ROOM: u32 = 10_000;

/// A host's TUN device: what the host sends is read here, and what is written here the host receives.
pub(super) struct Tun(SyncDevice);

impl Tun {
    /// Makes the device of a host, with addresses and default routes.
    pub(super) fn open(node: &Node, host: &WanHost, mtu: u16) -> Result<Self> {
        node.run(|| {
            let made = DeviceBuilder::new()
                .name(WAN_INTERFACE)
                .mtu(mtu)
                .enable(false)
                .build_sync()
                .and_then(|device| device.set_nonblocking(true).map(|()| device));
            let device = made.map_err(|e| no_device(node, e))?;
            // The only packets are those that a test sends: no search for routers, no link-local address.
            let of_device = format!("net.ipv6.conf.{WAN_INTERFACE}");
            sysctl::write(&format!("{of_device}.router_solicitations"), "0")?;
            sysctl::write(&format!("{of_device}.addr_gen_mode"), "1")?;
            netlink::cut_segments(WAN_INTERFACE)?;
            netlink::set_queue_length(WAN_INTERFACE, ROOM)?;
            netlink::bring_up(WAN_INTERFACE)?;
            for (address, prefix, everything) in [(host.v4, 24, "0.0.0.0/0"), (host.v6, 64, "::/0")]
            {
                let net = IpNet::new_assert(address, prefix);
                netlink::add_address(WAN_INTERFACE, net)?;
                // Nobody has the gateway's address: on a TUN device it only says which device.
                let gateway = net
                    .hosts()
                    .next()
                    .expect("the net is larger than one address");
                netlink::add_route(parse_prefix(everything)?, gateway)?;
            }
            Ok(Self(device))
        })
    }

    /// The next packet that the host has sent, if there is one.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.0.recv(buffer) {
                Ok(length) => return Ok(Some(length)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives the host a packet.
    pub(super) fn deliver(&self, packet: &[u8]) -> io::Result<()> {
        self.0.send(packet).map(drop)
    }
}

/// What the person at this machine can do, where that is known. Whoever may open the file still needs
/// `CAP_NET_ADMIN` for a device, which the lab has in its own networks; hence the mode that the kernel's
/// `Documentation/networking/tuntap.rst` advises.
fn no_device(node: &Node, error: io::Error) -> Error {
    let advice = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES) => "as root `chmod 666 /dev/net/tun`",
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => {
            "as root `modprobe tun`, or `mknod -m 666 /dev/net/tun c 10 200`"
        }
        _ => return Error::system(format!("TUN device of {}", node.name()), error),
    };
    Skip(format!("/dev/net/tun cannot be opened ({error}): {advice}")).into()
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
