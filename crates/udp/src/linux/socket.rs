use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    ptr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::SystemTime,
};

use socket2::{SockAddr, Socket as Descriptor};
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    task::consume_budget,
};

use super::{
    control::{Context, Family},
    errors::Errors,
    receive,
    refused::{Field, Refused, degrade, is_refusal},
    sent::report_sent_times,
    sys::{
        ControlBuffer, get_option, probe_message, receive_message, register, send_message,
        set_option,
    },
    twins::{Twins, new_socket, prepare_main, set_df_mode},
};
use crate::{
    Capabilities, DfMode, MessageOptions, RecvMeta, Support, Tos, Transmit, socket::Config,
};

/// How often a send is tried that fails with what may be the error of somebody else's datagram.
const PENDING_ERRORS: usize = 4;

#[derive(Debug)]
pub(crate) struct Socket {
    /// Closed before main: the first member of the group gets all datagrams.
    twins: Twins,
    main: AsyncFd<Descriptor>,
    local: SocketAddr,
    df_on: DfMode,
    df_off: DfMode,
    /// The DF mode of a datagram that asks for none.
    default_mode: AtomicU8,
    default_tos: AtomicU8,
    /// How many want to know when datagrams arrived.
    stamping: Mutex<usize>,
    /// Twins cannot be had: main's DF mode is switched under `mode_now`, by every sender.
    locked: AtomicBool,
    mode_now: Mutex<DfMode>,
    refused: Refused,
    errors: Errors,
}

/// Who sends a datagram.
#[derive(Clone, Copy)]
enum Carrier<'a> {
    Main,
    Twin(&'a Descriptor),
    Locked(DfMode),
}

impl Socket {
    pub(crate) fn bind(config: &Config) -> io::Result<Self> {
        let socket = new_socket(config.address, config.only_v6)?;
        if let Some(bytes) = config.recv_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let Some(bytes) = config.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        let locked = !prepare_main(&socket);
        socket.bind(&config.address.into())?;
        if !locked {
            socket.set_reuse_port(false)?;
        }
        Self::with_descriptor(socket, locked, config)
    }

    /// Takes over a socket that was bound elsewhere, and so can have no twins.
    pub(crate) fn adopt(socket: std::net::UdpSocket, config: &Config) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::with_descriptor(socket.into(), true, config)
    }

    fn with_descriptor(socket: Descriptor, locked: bool, config: &Config) -> io::Result<Self> {
        let local = socket.local_addr()?.as_socket().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "not an IPv4 or IPv6 socket")
        })?;
        let fd = socket.as_fd();
        for option in [libc::IP_RECVTTL, libc::IP_RECVTOS, libc::IP_PKTINFO] {
            set_option(fd, libc::SOL_IP, option, 1)?;
        }
        if local.is_ipv6() {
            for option in [
                libc::IPV6_RECVHOPLIMIT,
                libc::IPV6_RECVTCLASS,
                libc::IPV6_RECVPKTINFO,
            ] {
                set_option(fd, libc::SOL_IPV6, option, 1)?;
            }
        }
        if config.timestamps {
            stamp_received(fd, true)?;
        }
        // The default depends on net.ipv4.ip_no_pmtu_disc, so it is read, never assumed.
        let mode = DfMode::from_raw(get_option(fd, libc::SOL_IP, libc::IP_MTU_DISCOVER)?)
            .unwrap_or(DfMode::Want);
        let tos = read_tos(&socket, local)?;
        Ok(Self {
            twins: Twins::default(),
            main: register(socket, Interest::READABLE)?,
            local,
            df_on: config.df_on,
            df_off: config.df_off,
            default_mode: AtomicU8::new(u8::try_from(mode.raw()).unwrap_or_default()),
            default_tos: AtomicU8::new(tos.byte()),
            stamping: Mutex::new(config.timestamps.into()),
            locked: AtomicBool::new(locked),
            mode_now: Mutex::new(mode),
            refused: Refused::default(),
            errors: Errors::new(),
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn is_v6(&self) -> bool {
        self.local.is_ipv6()
    }

    pub(super) fn main(&self) -> &Descriptor {
        self.main.get_ref()
    }

    pub(super) fn errors(&self) -> &Errors {
        &self.errors
    }

    pub(crate) fn df_mode(&self) -> DfMode {
        DfMode::from_raw(self.default_mode.load(Ordering::Relaxed).into()).unwrap_or(DfMode::Want)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        let refused = self.refused.bits();
        let support = |field: Field| {
            if refused & field.bit() == 0 {
                Support::PerMessage
            } else {
                Support::None
            }
        };
        let locked = self.locked.load(Ordering::Relaxed);
        Capabilities {
            ttl: support(Field::Ttl),
            df_bit: if locked {
                Support::Locked
            } else {
                support(Field::DontFragment)
            },
            tos: support(Field::Tos),
            source: Support::PerMessage,
            flow_label: if self.is_v6() {
                support(Field::FlowLabel)
            } else {
                Support::None
            },
            icmp_errors: true,
            recv_meta: true,
            send_timestamps: support(Field::Timestamp) == Support::PerMessage,
        }
    }

    pub(crate) async fn send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        loop {
            consume_budget().await;
            let carrier = self.carrier(transmit)?;
            match self.send_by(carrier, transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable(carrier).await?;
                }
                result => return result,
            }
        }
    }

    pub(crate) fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        self.send_by(self.carrier(transmit)?, transmit)
    }

    /// Which descriptor's DF mode fits the datagram. Where a twin cannot be made, main's mode is
    /// switched under a lock from then on.
    #[inline]
    fn carrier(&self, transmit: &Transmit<'_>) -> io::Result<Carrier<'_>> {
        let family = Family::of(transmit.destination);
        let mode = match (family, transmit.options.df_bit) {
            (_, Some(true)) if transmit.probe.is_some() => Some(DfMode::Probe),
            // IPv6 has a control message for it.
            (Family::V6, _) | (_, None) => None,
            (Family::V4, Some(true)) => Some(self.df_on),
            (Family::V4, Some(false)) => Some(self.df_off),
        };
        if self.locked.load(Ordering::Relaxed) {
            return Ok(Carrier::Locked(mode.unwrap_or_else(|| self.df_mode())));
        }
        // A twin on the IPv6 wildcard address sends from ::1, unless the message says otherwise.
        let unpinned = self.local.ip().is_unspecified()
            && family == Family::V6
            && transmit.options.source.is_none();
        let mode = match mode {
            Some(mode) if family == Family::V4 || !unpinned => mode,
            None if self.errors.on() && !unpinned => self.df_mode(),
            _ => return Ok(Carrier::Main),
        };
        match self.twins.get(mode, self.main(), self.local) {
            Ok(twin) => Ok(Carrier::Twin(twin)),
            // The own address has gone, for a while maybe: no socket can send from it now.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(error),
            Err(error) => {
                self.locked.store(true, Ordering::SeqCst);
                tracing::warn!(%error, local = %self.local, "no further socket for the DF bit: it is switched under a lock");
                Ok(Carrier::Locked(mode))
            }
        }
    }

    fn send_by(&self, carrier: Carrier<'_>, transmit: &Transmit<'_>) -> io::Result<usize> {
        match carrier {
            Carrier::Main => self.send_past_pending_errors(self.main(), transmit),
            Carrier::Twin(twin) => self.send_past_pending_errors(twin, transmit),
            Carrier::Locked(mode) => {
                let mut now = self.mode_now.lock().unwrap_or_else(PoisonError::into_inner);
                if *now != mode {
                    set_df_mode(self.main().as_fd(), self.local, mode)?;
                    *now = mode;
                }
                self.send_past_pending_errors(self.main(), transmit)
            }
        }
    }

    /// A send may fail with the error of an earlier datagram, which may have gone to another peer:
    /// on main while ICMP errors are on, and on a twin if somebody answers for port 1 of this host.
    /// With the errors read, what fails again is this datagram's own.
    fn send_past_pending_errors(
        &self,
        socket: &Descriptor,
        transmit: &Transmit<'_>,
    ) -> io::Result<usize> {
        let is_main = ptr::eq(socket, self.main());
        let unpin_source = !is_main && self.local.ip().is_unspecified();
        let mut tries = 0;
        loop {
            let result = self.send_on(socket, transmit, unpin_source);
            if !result.as_ref().is_err_and(is_pending) || (is_main && !self.errors.on()) {
                return result;
            }
            tries += 1;
            let last = tries == PENDING_ERRORS;
            if self.errors.on() && (is_main || last) {
                self.errors.drain(socket, Some(transmit.destination));
            } else if let Some(mtu) = self.errors.discard(socket)
                && transmit.probe.is_some()
            {
                self.errors.note_refused_mtu(mtu);
            }
            if last {
                return result;
            }
        }
    }

    #[inline]
    fn send_on(
        &self,
        socket: &Descriptor,
        transmit: &Transmit<'_>,
        unpin_source: bool,
    ) -> io::Result<usize> {
        let mut context = Context {
            family: Family::of(transmit.destination),
            socket_tos: Tos::from_byte(self.default_tos.load(Ordering::Relaxed)),
            without: self.refused.bits(),
            unpin_source,
        };
        if transmit.probe.is_some() && context.without & Field::Timestamp.bit() == 0 {
            // Without it the kernel refuses the number of the timestamp.
            let _ = report_sent_times(socket.as_fd());
        }
        let destination = SockAddr::from(self.in_own_family(transmit.destination));
        let mut attempt = |without| {
            context.without = without;
            let control = context.encode(transmit);
            send_message(
                socket.as_fd(),
                transmit.contents,
                &destination,
                control.as_bytes(),
            )
        };
        match attempt(self.refused.bits()) {
            Err(error) if is_refusal(&error) => self.send_without(error, transmit, attempt),
            result => result,
        }
    }

    /// The kernel may have refused one of the control messages. Finds out which, by sending the
    /// datagram without it; a datagram that cannot go at all keeps its error.
    #[cold]
    fn send_without(
        &self,
        error: io::Error,
        transmit: &Transmit<'_>,
        attempt: impl FnMut(u8) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let context = Context {
            family: Family::of(transmit.destination),
            socket_tos: Tos::default(),
            without: self.refused.bits(),
            unpin_source: false,
        };
        degrade(
            error,
            &self.refused,
            context.present(transmit),
            attempt,
            |field| self.refuses(field, transmit),
        )
    }

    /// Whether the kernel refuses a datagram for the control message of this field alone. It says the
    /// same of an IPv6 source that is not there.
    fn refuses(&self, field: Field, transmit: &Transmit<'_>) -> bool {
        let context = Context {
            family: Family::of(transmit.destination),
            socket_tos: Tos::from_byte(self.default_tos.load(Ordering::Relaxed)),
            without: !field.bit(),
            unpin_source: false,
        };
        let options = MessageOptions {
            source: None,
            ..transmit.options
        };
        if field == Field::Timestamp {
            // Main may never have sent a probe.
            let _ = report_sent_times(self.main().as_fd());
        }
        let mut probe = Transmit::new(&[], transmit.destination).with_options(options);
        probe.probe = transmit.probe;
        let destination = SockAddr::from(self.in_own_family(transmit.destination));
        let control = context.encode(&probe);
        probe_message(self.main().as_fd(), &destination, control.as_bytes())
            .is_err_and(|error| is_refusal(&error))
    }

    /// On an IPv6 socket an IPv4 destination is written in v4-mapped form, and the other way round.
    #[inline]
    fn in_own_family(&self, destination: SocketAddr) -> SocketAddr {
        match destination {
            SocketAddr::V4(v4) if self.local.is_ipv6() => {
                (v4.ip().to_ipv6_mapped(), v4.port()).into()
            }
            SocketAddr::V6(_) if self.local.is_ipv4() => {
                (destination.ip().to_canonical(), destination.port()).into()
            }
            _ => destination,
        }
    }

    /// Waits until the carrier may have room.
    ///
    /// Tokio takes an error on a descriptor for the end of writing and never waits on it again, so
    /// each wait is a registration of its own, on a duplicate, and with no error left.
    async fn writable(&self, carrier: Carrier<'_>) -> io::Result<()> {
        let descriptor = match carrier {
            Carrier::Twin(twin) => {
                self.errors.discard(twin);
                twin
            }
            Carrier::Main | Carrier::Locked(_) => {
                if self.errors.on() {
                    self.errors.drain(self.main(), None);
                }
                self.main()
            }
        };
        let waiting = register(descriptor.try_clone()?, Interest::WRITABLE)?;
        let _ready = waiting.writable().await?;
        Ok(())
    }

    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        loop {
            // Waiting for readiness alone lets a flood keep the thread to itself.
            consume_budget().await;
            let mut guard = self
                .main
                .ready(Interest::READABLE | Interest::ERROR)
                .await?;
            if guard.ready().is_error() && self.errors.drain(self.main(), None) {
                guard.clear_ready_matching(Ready::ERROR);
            }
            match self.try_recv(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    guard.clear_ready_matching(Ready::READABLE);
                }
                result => return result,
            }
        }
    }

    pub(crate) fn try_recv(&self, buffer: &mut [u8]) -> io::Result<RecvMeta> {
        let mut control = ControlBuffer::new();
        loop {
            match receive_message(self.main().as_fd(), buffer, &mut control, 0) {
                Ok(received) => {
                    if let Some(meta) = receive::meta(&received) {
                        return Ok(meta);
                    }
                }
                Err(error) if is_pending(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// When a probe left. Its time is in the error queue of whoever sent it, before anything can come
    /// back.
    pub(crate) fn sent_at(&self, probe: u32) -> Option<SystemTime> {
        self.errors.sent.take(probe).or_else(|| {
            for twin in self.twins.iter() {
                self.errors.discard(twin);
            }
            self.errors.drain(self.main(), None);
            self.errors.sent.take(probe)
        })
    }

    pub(crate) fn refused_mtu(&self) -> Option<u32> {
        self.errors.refused_mtu()
    }

    pub(super) async fn drain_when_ready(&self) {
        consume_budget().await;
        if let Ok(mut guard) = self.main.ready(Interest::ERROR).await
            && self.errors.drain(self.main(), None)
        {
            guard.clear_ready_matching(Ready::ERROR);
        }
    }

    pub(crate) fn ttl(&self) -> io::Result<u8> {
        let (level, option) = if self.is_v6() {
            (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS)
        } else {
            (libc::SOL_IP, libc::IP_TTL)
        };
        let value = get_option(self.main().as_fd(), level, option)?;
        u8::try_from(value).map_err(io::Error::other)
    }

    pub(crate) fn set_ttl(&self, ttl: u8) -> io::Result<()> {
        self.set_on_all(libc::IP_TTL, libc::IPV6_UNICAST_HOPS, ttl)
    }

    pub(crate) fn tos(&self) -> io::Result<Tos> {
        read_tos(self.main(), self.local)
    }

    pub(crate) fn set_tos(&self, tos: Tos) -> io::Result<()> {
        self.set_on_all(libc::IP_TOS, libc::IPV6_TCLASS, tos.byte())?;
        self.default_tos.store(tos.byte(), Ordering::Relaxed);
        Ok(())
    }

    /// On an IPv6 socket the IPv4 option serves v4-mapped destinations.
    fn set_on_all(&self, v4: i32, v6: i32, value: u8) -> io::Result<()> {
        self.twins.change_all(self.main(), |fd| {
            if self.is_v6() {
                set_option(fd, libc::SOL_IPV6, v6, value.into())?;
            }
            set_option(fd, libc::SOL_IP, v4, value.into())
        })
    }

    pub(crate) fn set_df_mode(&self, mode: DfMode) -> io::Result<()> {
        let mut now = self.mode_now.lock().unwrap_or_else(PoisonError::into_inner);
        set_df_mode(self.main().as_fd(), self.local, mode)?;
        *now = mode;
        // Twins serve datagrams that ask for a value themselves, so none of them notices.
        self.default_mode.store(
            u8::try_from(mode.raw()).unwrap_or_default(),
            Ordering::Relaxed,
        );
        Ok(())
    }
}

/// Whether what arrives carries the time when it did, `socket(7)`.
fn stamp_received(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, on.into())
}

/// Somebody wants to know when datagrams arrived.
#[derive(Debug)]
pub(crate) struct Stamping(Weak<Socket>);

impl Stamping {
    pub(crate) fn new(socket: &Arc<Socket>) -> io::Result<Self> {
        let mut wanted = socket
            .stamping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *wanted == 0 {
            stamp_received(socket.main().as_fd(), true)?;
        }
        *wanted += 1;
        Ok(Self(Arc::downgrade(socket)))
    }
}

impl Drop for Stamping {
    fn drop(&mut self) {
        let Some(socket) = self.0.upgrade() else {
            return;
        };
        let mut wanted = socket
            .stamping
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *wanted -= 1;
        if *wanted == 0
            && let Err(error) = stamp_received(socket.main().as_fd(), false)
        {
            tracing::warn!(%error, "cannot turn timestamps off");
        }
    }
}

fn read_tos(socket: &Descriptor, local: SocketAddr) -> io::Result<Tos> {
    let (level, option) = if local.is_ipv6() {
        (libc::SOL_IPV6, libc::IPV6_TCLASS)
    } else {
        (libc::SOL_IP, libc::IP_TOS)
    };
    let value = get_option(socket.as_fd(), level, option)?;
    // -1 stands for the default of IPv6.
    Ok(Tos::from_byte(u8::try_from(value).unwrap_or_default()))
}

/// What an ICMP error leaves on a socket for the next call, whoever makes it.
fn is_pending(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPROTO
                | libc::EACCES
                | libc::EMSGSIZE
        )
    )
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[tokio::test]
    async fn what_the_kernel_refuses_is_found_without_a_datagram() {
        for local in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let socket = Socket::bind(&Config {
                address: local.parse().expect("an address"),
                only_v6: false,
                timestamps: false,
                df_on: DfMode::Probe,
                df_off: DfMode::Omit,
                recv_buffer: None,
                send_buffer: None,
            })
            .expect("bound");
            let mut to = socket.local_addr();
            to.set_ip(if to.is_ipv4() {
                Ipv4Addr::LOCALHOST.into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            });
            let good = MessageOptions::NONE.with_ttl(9).with_tos(8);
            let transmit = Transmit::new(b"x", to).with_options(good);
            assert!(!socket.refuses(Field::Ttl, &transmit), "{local}");
            assert!(!socket.refuses(Field::Tos, &transmit), "{local}");
            let error = socket.try_recv(&mut [0; 9]).expect_err("nothing was sent");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            if to.is_ipv4() {
                // Out of the kernel's range, so it stands for a message that it does not know.
                let bad = Transmit::new(b"x", to).with_options(good.with_ttl(0));
                assert!(socket.refuses(Field::Ttl, &bad), "{local}");
                assert!(!socket.refuses(Field::Tos, &bad), "{local}");
            }
        }
    }
}
