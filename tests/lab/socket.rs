//! `AF_PACKET` sockets on one interface (`packet(7)`).

use std::io::{self, IoSliceMut};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    SockaddrStorage, bind, getsockopt, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;
use nix::{cmsg_space, getsockopt_impl, setsockopt_impl, sockopt_impl};
use socket2::{SockFilter, SockRef};

use crate::error::{Error, Result};
use crate::packet::Direction;

/// Room for some 150,000 small packets that wait to be read, bytes. The kernel takes half of it and
/// doubles that.
const ROOM: usize = 128 << 20;

/// Where one socket may not have that much, this much is spread over several,
const SHARED_ROOM: usize = 64 << 20;

/// but not over more than these.
const MAX_SOCKETS: usize = 64;

/// The largest IP packet, and the largest segmented send.
const MAX_PACKET: usize = 65_535;

/// An IP packet as it was captured.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) at: SystemTime,
    pub(crate) direction: Direction,
    pub(crate) bytes: Bytes,
}

/// A capturing socket that does not block.
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    interface: usize,
}

// nix has no types for these two; its macro makes them, and answers for the system calls.
sockopt_impl!(
    /// Packets taken and dropped since it was last asked for.
    PacketStatistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    libc::tpacket_stats
);

sockopt_impl!(
    /// The group of sockets that share what arrives: its number, and in the upper 16 bits how they do.
    PacketFanout,
    Both,
    libc::SOL_PACKET,
    libc::PACKET_FANOUT,
    libc::c_uint
);

/// Sockets that together capture on one interface; each packet is received by one of them. Usually there
/// is just one. An ordinary user may have only `net.core.rmem_max` of room in each, too little for a burst.
pub(crate) struct CaptureSockets(Vec<PacketSocket>);

impl CaptureSockets {
    /// Captures on `interface` of the calling thread's network namespace.
    pub(crate) fn open(interface: &str) -> Result<Self> {
        let target = Interface::find(interface)?;
        let first = PacketSocket::open(&target)?;
        let room = getsockopt(&first.socket, sockopt::RcvBuf)
            .map_err(|e| Error::system("read SO_RCVBUF", e))?;
        let number = SHARED_ROOM.div_ceil(room.max(1)).min(MAX_SOCKETS);
        if number == 1 {
            return Ok(Self(vec![first]));
        }
        let group = first.found_group()?;
        // Side by side, because the kernel takes its time over each (an RCU grace period).
        let others = thread::scope(|scope| {
            let opening: Vec<_> = (1..number)
                .map(|_| scope.spawn(|| PacketSocket::open(&target)))
                .collect();
            opening
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect::<Result<Vec<_>>>()
        })?;
        others.iter().try_for_each(|socket| socket.join(group))?;
        let all = Self([first].into_iter().chain(others).collect());
        all.discard()
            .map_err(|e| Error::system(format!("capture on {interface}"), e))?;
        Ok(all)
    }

    /// Throws away what is there: until it joined the others, each socket received everything.
    fn discard(&self) -> nix::Result<()> {
        let mut buffer = Buffer::new();
        for socket in &self.0 {
            while socket.receive(&mut buffer)?.is_some() {}
            socket.dropped()?;
        }
        Ok(())
    }
}

impl Deref for CaptureSockets {
    type Target = [PacketSocket];

    fn deref(&self) -> &[PacketSocket] {
        &self.0
    }
}

impl Drop for CaptureSockets {
    fn drop(&mut self) {
        // Side by side, as they were opened.
        thread::scope(|scope| {
            for socket in self.0.drain(1..) {
                scope.spawn(move || drop(socket));
            }
        });
    }
}

impl PacketSocket {
    fn open(interface: &Interface) -> Result<Self> {
        let failed = |what: &'static str| {
            move |e: Errno| {
                Error::system(
                    format!(
                        "{what} to capture on {} (needs CAP_NET_RAW)",
                        interface.name
                    ),
                    e,
                )
            }
        };
        let fd = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .map_err(failed("AF_PACKET socket"))?;
        let filtered = match &interface.address {
            Some(_) if interface.loopback => keep_outgoing_only(&fd),
            Some(_) => Ok(()),
            None => keep_one_interface(&fd, interface.index),
        };
        filtered.map_err(|e| Error::system(format!("filter on {}", interface.name), e))?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN over the machine. The kernel doubles it.
        if setsockopt(&fd, sockopt::RcvBufForce, &(ROOM / 2)).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &(ROOM / 2)).map_err(failed("SO_RCVBUF"))?;
        }
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true).map_err(failed("SO_TIMESTAMPNS"))?;
        if let Some(address) = &interface.address {
            bind(fd.as_raw_fd(), address).map_err(failed("bind"))?;
        }
        Ok(Self {
            socket: fd,
            interface: interface.index as usize,
        })
    }

    /// Founds a group whose members are filled one after the other, and returns its number.
    fn found_group(&self) -> Result<libc::c_uint> {
        let unique = libc::PACKET_FANOUT_FLAG_UNIQUEID;
        self.set_fanout((libc::PACKET_FANOUT_ROLLOVER | unique) << 16)?;
        let group = getsockopt(&self.socket, PacketFanout)
            .map_err(|e| Error::system("read PACKET_FANOUT", e))?;
        Ok(group & 0xffff)
    }

    fn join(&self, group: libc::c_uint) -> Result<()> {
        self.set_fanout(libc::PACKET_FANOUT_ROLLOVER << 16 | group)
    }

    fn set_fanout(&self, value: libc::c_uint) -> Result<()> {
        setsockopt(&self.socket, PacketFanout, &value)
            .map_err(|e| Error::system(format!("PACKET_FANOUT {value:#x}"), e))
    }

    /// The next IP packet, or `None` when none is waiting.
    pub(crate) fn receive(&self, buffer: &mut Buffer) -> nix::Result<Option<Frame>> {
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer.data)];
            let received = recvmsg::<LinkAddr>(
                self.socket.as_raw_fd(),
                &mut slices,
                Some(&mut buffer.control),
                MsgFlags::empty(),
            );
            let message = match received {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(None),
                // The interface was set down: it may come up again.
                Err(Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(e) => return Err(e),
            };
            let at = message
                .cmsgs()?
                .find_map(|c| match c {
                    ControlMessageOwned::ScmTimestampns(at) => Some(system_time(at)),
                    _ => None,
                })
                .unwrap_or_else(SystemTime::now);
            let length = message.bytes;
            // Before bind or the filter took effect the socket was open to every interface.
            let wanted = message
                .address
                .filter(|from| from.ifindex() == self.interface && is_ip(from));
            if let Some(from) = wanted {
                return Ok(Some(Frame {
                    at,
                    direction: if from.pkttype() == libc::PACKET_OUTGOING {
                        Direction::Outgoing
                    } else {
                        Direction::Incoming
                    },
                    bytes: Bytes::copy_from_slice(&buffer.data[..length]),
                }));
            }
        }
    }

    /// How many packets the kernel had no room for since this was last asked.
    pub(crate) fn dropped(&self) -> nix::Result<u64> {
        Ok(getsockopt(&self.socket, PacketStatistics)?.tp_drops.into())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a received packet is written to.
pub(crate) struct Buffer {
    data: Vec<u8>,
    control: Vec<u8>,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self {
            data: vec![0; MAX_PACKET],
            control: cmsg_space!(TimeSpec),
        }
    }
}

struct Interface {
    name: String,
    index: u32,
    /// Its `sockaddr_ll`, with protocol 0, by which bind(2) keeps the socket's. A device without a hardware
    /// address, such as TUN, is listed without one.
    address: Option<LinkAddr>,
    loopback: bool,
}

impl Interface {
    fn find(name: &str) -> Result<Self> {
        let index =
            if_nametoindex(name).map_err(|e| Error::system(format!("interface {name}"), e))?;
        let listed: Vec<_> = getifaddrs()
            .map_err(|e| Error::system("list interfaces (getifaddrs)", e))?
            .filter(|i| i.interface_name == name)
            .collect();
        let addresses = listed.iter().filter_map(|i| i.address.as_ref());
        Ok(Self {
            name: name.to_owned(),
            index,
            address: addresses
                .filter_map(SockaddrStorage::as_link_addr)
                .copied()
                .next(),
            loopback: listed
                .iter()
                .any(|i| i.flags.contains(InterfaceFlags::IFF_LOOPBACK)),
        })
    }
}

/// On `lo` every packet passes twice, going out and coming in: keep what was sent.
fn keep_outgoing_only(socket: &OwnedFd) -> io::Result<()> {
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    keep_where(
        socket,
        libc::BPF_B,
        PACKET_TYPE,
        libc::PACKET_OUTGOING.into(),
    )
}

/// In place of bind(2), which takes no less than a `sockaddr_ll`.
fn keep_one_interface(socket: &OwnedFd, index: u32) -> io::Result<()> {
    const INTERFACE_INDEX: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX).cast_unsigned();
    keep_where(socket, libc::BPF_W, INTERFACE_INDEX, index)
}

/// Has the kernel throw away packets that have another value in a field than this. `size` is that of the field,
/// `BPF_B` or `BPF_W`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "libc widens the numbers of linux/bpf_common.h, which are 16 bits"
)]
fn keep_where(socket: &OwnedFd, size: u32, field: u32, value: u32) -> io::Result<()> {
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let load = (libc::BPF_LD | size | libc::BPF_ABS) as u16;

    SockRef::from(socket).attach_filter(&[
        SockFilter::new(load, 0, 0, field),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, value),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ])
}

fn is_ip(from: &LinkAddr) -> bool {
    let protocol = i32::from(u16::from_be(from.protocol()));
    protocol == libc::ETH_P_IP || protocol == libc::ETH_P_IPV6
}

fn system_time(at: TimeSpec) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from(at)
}
