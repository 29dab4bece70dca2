//! Several sockets on one address and port: `main` receives everything, and each twin sends with a
//! DF mode of its own, because Linux has no control message for the DF bit of IPv4.
//!
//! The order of the steps is what keeps every arriving datagram away from the twins:
//!
//! 1. main joins a reuseport group whose program chooses the first member, which is main, *before*
//!    it is bound. Port 0 is safe in this order only: otherwise it may land on a used port.
//! 2. A twin joins the group, is bound to the same address, and connected to that address at port 1:
//!    as nothing arrives from there, neither datagrams nor ICMP errors match the twin, but for
//!    errors that somebody makes up.
//! 3. `SO_REUSEPORT` is cleared on all of them, so that nobody else can join. It is set on all of them
//!    again while a further twin is made.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, OnceLock, PoisonError},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::sys::{attach_first_member_program, get_option, set_option};
use crate::DfMode;

/// `IPV6_AUTOFLOWLABEL` of `linux/in6.h`, which libc leaves out.
const IPV6_AUTOFLOWLABEL: i32 = 70;

/// What a twin takes over from main, as `(level, option, on IPv6 sockets only)`.
const INHERITED: [(i32, i32, bool); 10] = [
    (libc::SOL_IP, libc::IP_TTL, false),
    (libc::SOL_IP, libc::IP_TOS, false),
    (libc::SOL_IP, libc::IP_MULTICAST_TTL, false),
    (libc::SOL_IP, libc::IP_MULTICAST_LOOP, false),
    (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, true),
    (libc::SOL_IPV6, libc::IPV6_TCLASS, true),
    (libc::SOL_IPV6, libc::IPV6_MULTICAST_HOPS, true),
    (libc::SOL_IPV6, libc::IPV6_MULTICAST_LOOP, true),
    (libc::SOL_SOCKET, libc::SO_BROADCAST, false),
    (libc::SOL_SOCKET, libc::SO_PRIORITY, false),
];

impl DfMode {
    const COUNT: usize = 6;

    /// The value of the socket option.
    pub(super) const fn raw(self) -> i32 {
        match self {
            Self::Dont => 0,
            Self::Want => 1,
            Self::Do => 2,
            Self::Probe => 3,
            Self::Interface => 4,
            Self::Omit => 5,
        }
    }

    pub(super) const fn from_raw(raw: i32) -> Option<Self> {
        Some(match raw {
            0 => Self::Dont,
            1 => Self::Want,
            2 => Self::Do,
            3 => Self::Probe,
            4 => Self::Interface,
            5 => Self::Omit,
            _ => return None,
        })
    }

    /// Where the mode stands in a table of all modes.
    const fn index(self) -> usize {
        self.raw().unsigned_abs() as usize
    }
}

/// A UDP socket that does not block, not bound yet.
pub(super) fn new_socket(local: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(local),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    if local.is_ipv6() {
        socket.set_only_v6(only_v6)?;
        // A connected and an unconnected socket would put different labels on one 5-tuple, and
        // routers that balance by the label would send them different ways (RFC 6438).
        let _ = set_option(socket.as_fd(), libc::SOL_IPV6, IPV6_AUTOFLOWLABEL, 0);
    }
    Ok(socket)
}

/// Step 1. Whether the kernel has what it takes; if not, `socket` is as it was.
pub(super) fn prepare_main(socket: &Socket) -> bool {
    let prepared = socket
        .set_reuse_port(true)
        .and_then(|()| attach_first_member_program(socket.as_fd()));
    if prepared.is_err() {
        let _ = socket.set_reuse_port(false);
    }
    prepared.is_ok()
}

/// The twins of one main socket, made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Twins {
    by_mode: [OnceLock<Socket>; DfMode::COUNT],
    making: Mutex<()>,
}

impl Twins {
    /// The twin with this DF mode, if there is one already.
    #[inline]
    pub(super) fn get(&self, mode: DfMode) -> Option<&Socket> {
        self.by_mode[mode.index()].get()
    }

    /// Those that exist.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.by_mode.iter().filter_map(OnceLock::get)
    }

    /// Makes the twin with this DF mode, unless there is one.
    pub(super) fn make(
        &self,
        mode: DfMode,
        main: &Socket,
        local: SocketAddr,
    ) -> io::Result<&Socket> {
        let slot = &self.by_mode[mode.index()];
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(twin) = slot.get() {
            return Ok(twin);
        }
        // A single member without it keeps every newcomer out.
        let twin = self
            .set_reuse_port(main, true)
            .and_then(|()| make_twin(mode, main, local));
        self.set_reuse_port(main, false)?;
        let twin = twin?;
        Ok(slot.get_or_init(|| twin))
    }

    fn set_reuse_port(&self, main: &Socket, reuse: bool) -> io::Result<()> {
        main.set_reuse_port(reuse)?;
        self.iter().try_for_each(|twin| twin.set_reuse_port(reuse))
    }

    /// Runs `change` on main and on every twin, and keeps twins from being made meanwhile.
    pub(super) fn change_all(
        &self,
        main: &Socket,
        change: impl Fn(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let _none_is_made = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        change(main.as_fd())?;
        self.iter().try_for_each(|twin| change(twin.as_fd()))
    }
}

/// Steps 2 and 3 for one twin.
fn make_twin(mode: DfMode, main: &Socket, local: SocketAddr) -> io::Result<Socket> {
    let only_v6 = local.is_ipv6() && main.only_v6()?;
    let twin = new_socket(local, only_v6)?;
    twin.set_reuse_port(true)?;
    if let Some(device) = main.device()? {
        twin.bind_device(Some(&device))?;
    }
    twin.bind(&local.into())?;
    twin.connect(&nobody_at(local).into())?;
    twin.set_reuse_port(false)?;
    for (level, option, v6_alone) in INHERITED {
        if !v6_alone || local.is_ipv6() {
            let value = get_option(main.as_fd(), level, option)?;
            // What is the default stays the default: a route may have another TTL.
            if value != get_option(twin.as_fd(), level, option)? {
                set_option(twin.as_fd(), level, option, value)?;
            }
        }
    }
    // The kernel reports twice what was asked for, socket(7).
    twin.set_send_buffer_size(main.send_buffer_size()? / 2)?;
    set_df_mode(twin.as_fd(), local, mode)?;
    // A full device queue is reported (`ENOBUFS`) only to who asks for errors.
    set_option(twin.as_fd(), libc::SOL_IP, libc::IP_RECVERR, 1)?;
    if local.is_ipv6() {
        set_option(twin.as_fd(), libc::SOL_IPV6, libc::IPV6_RECVERR, 1)?;
    }
    Ok(twin)
}

/// Sets the mode for every family that the socket can send to. On an IPv6 socket the IPv4 option
/// serves v4-mapped destinations.
pub(super) fn set_df_mode(fd: BorrowedFd<'_>, local: SocketAddr, mode: DfMode) -> io::Result<()> {
    set_option(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER, mode.raw())?;
    if local.is_ipv6() {
        set_option(fd, libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, mode.raw())?;
    }
    Ok(())
}

/// The own address at a port that nothing sends from.
fn nobody_at(mut local: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() {
        local.set_ip(match local.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    local.set_port(1);
    local
}
