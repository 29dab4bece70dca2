//! How a datagram goes out: by which descriptor, past the errors of others, and without what the kernel refuses.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::AsFd,
    ptr,
    sync::{PoisonError, atomic::Ordering},
};

use socket2::Socket as Descriptor;
use tokio::io::Interest;

use super::{
    super::{
        control::{Context, Family, OptionsControl, SourceControl},
        refused::{Field, degrade, is_refusal},
        sent::report_sent_times,
        sys::{Name, probe_message, register, send_message},
        twins::set_df_mode,
    },
    Socket,
};
use crate::{DfMode, Tos, transmit::Datagram};

/// How often a send is tried that fails with what may be the error of somebody else's datagram.
const PENDING_ERRORS: usize = 4;

/// Who sends a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Carrier {
    Main,
    Twin(DfMode),
    Locked(DfMode),
}

impl Socket {
    pub(super) async fn send_alone(&self, datagram: &Datagram<'_>) -> io::Result<usize> {
        loop {
            let carrier = self.carrier(datagram)?;
            match self.send_by(carrier, datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable(carrier).await?;
                }
                result => return result,
            }
        }
    }

    pub(super) fn try_send_alone(&self, datagram: &Datagram<'_>) -> io::Result<usize> {
        let socket = match self.carrier(datagram)? {
            Carrier::Main => self.main(),
            Carrier::Twin(mode) => self.twin(mode)?,
            locked @ Carrier::Locked(_) => return self.send_by(locked, datagram),
        };
        self.send_on(socket, datagram)
    }

    /// Which descriptor's DF mode fits the datagram. Where a twin cannot be made, main's mode is
    /// switched under a lock from then on.
    #[expect(clippy::inline_always, reason = "a call is most of what it takes")]
    #[inline(always)]
    pub(super) fn carrier(&self, datagram: &Datagram<'_>) -> io::Result<Carrier> {
        let family = Family::of(datagram.destination);
        let mode = match (family, datagram.options.df_bit()) {
            (_, Some(true)) if datagram.probe.is_some() => Some(DfMode::Probe),
            // IPv6 has a control message for it.
            (Family::V6, _) | (_, None) => None,
            (Family::V4, Some(true)) => Some(self.df_on),
            (Family::V4, Some(false)) => Some(self.df_off),
        };
        if self.locked.load(Ordering::Relaxed) {
            return Ok(Carrier::Locked(mode.unwrap_or_else(|| self.df_mode())));
        }
        // A twin on the IPv6 wildcard address sends from ::1, unless the message says otherwise.
        let unpinned = self.wildcard && family == Family::V6 && datagram.source.is_none();
        let mode = match mode {
            Some(mode) if family == Family::V4 || !unpinned => mode,
            None if self.errors.on() && !unpinned => self.df_mode(),
            _ => return Ok(Carrier::Main),
        };
        if self.twins.get(mode).is_none() {
            return self.carrier_to_be_made(mode);
        }
        Ok(Carrier::Twin(mode))
    }

    #[cold]
    fn carrier_to_be_made(&self, mode: DfMode) -> io::Result<Carrier> {
        match self.make_twin(mode) {
            Ok(_) => Ok(Carrier::Twin(mode)),
            // The own address has gone, for a while maybe: no socket can send from it now.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(error),
            Err(error) => {
                self.locked.store(true, Ordering::SeqCst);
                tracing::warn!(%error, local = %self.local, "no further socket for the DF bit: it is switched under a lock");
                Ok(Carrier::Locked(mode))
            }
        }
    }

    /// The twin with this DF mode.
    #[inline]
    fn twin(&self, mode: DfMode) -> io::Result<&Descriptor> {
        match self.twins.get(mode) {
            Some(twin) => Ok(twin),
            None => self.make_twin(mode),
        }
    }

    #[cold]
    fn make_twin(&self, mode: DfMode) -> io::Result<&Descriptor> {
        self.twins.make(mode, self.main(), self.local)
    }

    #[inline(never)]
    pub(super) fn send_by(&self, carrier: Carrier, datagram: &Datagram<'_>) -> io::Result<usize> {
        self.with_descriptor_of(carrier, |socket| self.send_on(socket, datagram))
    }

    /// Has something done with the descriptor of a carrier, in the carrier's DF mode.
    pub(super) fn with_descriptor_of<R>(
        &self,
        carrier: Carrier,
        f: impl FnOnce(&Descriptor) -> io::Result<R>,
    ) -> io::Result<R> {
        match carrier {
            Carrier::Main => f(self.main()),
            Carrier::Twin(mode) => f(self.twin(mode)?),
            Carrier::Locked(mode) => {
                let mut now = self.mode_now.lock().unwrap_or_else(PoisonError::into_inner);
                if *now != mode {
                    set_df_mode(self.main().as_fd(), self.local, mode)?;
                    *now = mode;
                }
                f(self.main())
            }
        }
    }

    /// What the control messages of a datagram by this descriptor depend on.
    #[inline]
    pub(super) fn context(&self, socket: &Descriptor, destination: &SocketAddr) -> Context {
        Context {
            family: Family::of(destination),
            socket_tos: Tos::from_byte(self.default_tos.load(Ordering::Relaxed)),
            without: self.refused.bits(),
            unpin_source: self.wildcard && !ptr::eq(socket, self.main()),
        }
    }

    /// Sends a datagram past the errors of others, and without what the kernel refuses.
    #[expect(clippy::inline_always, reason = "a call is most of what it takes")]
    #[inline(always)]
    fn send_on(&self, socket: &Descriptor, datagram: &Datagram<'_>) -> io::Result<usize> {
        let context = self.context(socket, datagram.destination);
        let result = self.send_as_it_is(socket, datagram, context);
        match result {
            Err(error) => self.send_after_error(error, socket, datagram, context),
            sent => sent,
        }
    }

    #[expect(clippy::inline_always, reason = "a call is most of what it takes")]
    #[inline(always)]
    fn send_as_it_is(
        &self,
        socket: &Descriptor,
        datagram: &Datagram<'_>,
        context: Context,
    ) -> io::Result<usize> {
        if !context.needs_options_only(datagram) {
            return self.send_with_more(socket, datagram, context);
        }
        let mut control = OptionsControl::new();
        context.encode_options(datagram.options, &mut control);
        self.send_with(socket, datagram, control.as_bytes())
    }

    #[cold]
    fn send_after_error(
        &self,
        error: io::Error,
        socket: &Descriptor,
        datagram: &Datagram<'_>,
        context: Context,
    ) -> io::Result<usize> {
        let result = if is_refusal(&error) {
            self.send_without(error, datagram, socket, context)
        } else {
            Err(error)
        };
        if result.as_ref().is_err_and(is_pending) {
            self.send_past_pending_errors(result, socket, datagram)
        } else {
            result
        }
    }

    /// A send may fail with the error of an earlier datagram, which may have gone to another peer:
    /// on main while ICMP errors are on, and on a twin if somebody answers for port 1 of this host.
    /// With the errors read, what fails again is this datagram's own.
    fn send_past_pending_errors(
        &self,
        mut result: io::Result<usize>,
        socket: &Descriptor,
        datagram: &Datagram<'_>,
    ) -> io::Result<usize> {
        let is_main = ptr::eq(socket, self.main());
        let mut tries = 0;
        loop {
            if !result.as_ref().is_err_and(is_pending) || (is_main && !self.errors.on()) {
                return result;
            }
            tries += 1;
            let last = tries == PENDING_ERRORS;
            if self.errors.on() && (is_main || last) {
                self.errors.drain(socket, Some(*datagram.destination));
            } else if let Some(mtu) = self.errors.discard(socket)
                && datagram.probe.is_some()
            {
                self.errors.note_refused_mtu(mtu);
            }
            if last {
                return result;
            }
            let context = self.context(socket, datagram.destination);
            result = match self.send_as_it_is(socket, datagram, context) {
                Err(error) if is_refusal(&error) => {
                    self.send_without(error, datagram, socket, context)
                }
                result => result,
            };
        }
    }

    #[inline]
    fn send_with(
        &self,
        socket: &Descriptor,
        datagram: &Datagram<'_>,
        control: &[u8],
    ) -> io::Result<usize> {
        let destination = self.name(datagram.destination);
        send_message(socket.as_fd(), datagram.contents, &destination, control)
    }

    /// A datagram that has more than options.
    #[inline(never)]
    fn send_with_more(
        &self,
        socket: &Descriptor,
        datagram: &Datagram<'_>,
        context: Context,
    ) -> io::Result<usize> {
        if datagram.probe.is_none() && datagram.ip_options.is_none() {
            let mut control = SourceControl::new();
            context.encode_options(datagram.options, &mut control);
            context.encode_source(datagram, &mut control);
            return self.send_with(socket, datagram, control.as_bytes());
        }
        if datagram.probe.is_some() && context.without & Field::Timestamp.bit() == 0 {
            // Without it the kernel refuses the number of the timestamp.
            let _ = report_sent_times(socket.as_fd());
        }
        self.send_with(socket, datagram, context.encode(datagram).as_bytes())
    }

    /// The kernel may have refused one of the control messages. Finds out which, by sending the
    /// datagram without it; a datagram that cannot go at all keeps its error.
    #[cold]
    fn send_without(
        &self,
        error: io::Error,
        datagram: &Datagram<'_>,
        socket: &Descriptor,
        mut context: Context,
    ) -> io::Result<usize> {
        let present = context.present(datagram);
        let attempt = |without| {
            context.without = without;
            self.send_with(socket, datagram, context.encode(datagram).as_bytes())
        };
        degrade(error, &self.refused, present, attempt, |field| {
            self.refuses(field, datagram)
        })
    }

    /// Whether the kernel refuses a datagram for the control message of this field alone. It says the
    /// same of an IPv6 source that is not there.
    fn refuses(&self, field: Field, datagram: &Datagram<'_>) -> bool {
        let context = Context {
            family: Family::of(datagram.destination),
            socket_tos: Tos::from_byte(self.default_tos.load(Ordering::Relaxed)),
            without: !field.bit(),
            unpin_source: false,
        };
        if field == Field::Timestamp {
            // Main may never have sent a probe.
            let _ = report_sent_times(self.main().as_fd());
        }
        let mut probe = Datagram::new(&[], datagram.destination, datagram.options);
        probe.probe = datagram.probe;
        let destination = self.name(datagram.destination);
        let control = context.encode(&probe);
        probe_message(self.main().as_fd(), &destination, control.as_bytes())
            .is_err_and(|error| is_refusal(&error))
    }

    /// A destination as this socket has to name it: on one of IPv6 an IPv4 address is written in v4-mapped form, and
    /// the other way round.
    #[inline]
    pub(super) fn name(&self, destination: &SocketAddr) -> Name {
        match (destination, self.is_v6()) {
            (SocketAddr::V4(v4), false) => v4.into(),
            (SocketAddr::V6(v6), true) => v6.into(),
            (SocketAddr::V4(v4), true) => {
                (&SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0)).into()
            }
            (SocketAddr::V6(v6), false) => match v6.ip().to_ipv4_mapped() {
                Some(v4) => (&SocketAddrV4::new(v4, v6.port())).into(),
                None => v6.into(),
            },
        }
    }

    /// Waits until the carrier may have room.
    ///
    /// Tokio takes an error on a descriptor for the end of writing and never waits on it again, so
    /// each wait is a registration of its own, on a duplicate, and with no error left.
    pub(super) async fn writable(&self, carrier: Carrier) -> io::Result<()> {
        let descriptor = match carrier {
            Carrier::Twin(mode) => {
                let twin = self.twin(mode)?;
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
}

/// What an ICMP error leaves on a socket for the next call, whoever makes it.
pub(super) fn is_pending(error: &io::Error) -> bool {
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
    use crate::{MessageOptions, PackedOptions, socket::Config};

    #[tokio::test]
    async fn what_the_kernel_refuses_is_found_without_a_datagram() {
        for local in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let socket = Socket::bind(&Config {
                address: local.parse().expect("an address"),
                only_v6: false,
                timestamps: false,
                recv_batches: false,
                batching: None,
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
            let datagram = Datagram::new(b"x", &to, PackedOptions::from(&good));
            assert!(!socket.refuses(Field::Ttl, &datagram), "{local}");
            assert!(!socket.refuses(Field::Tos, &datagram), "{local}");
            let error = socket.try_recv(&mut [0; 9]).expect_err("nothing was sent");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            if to.is_ipv4() {
                // Out of the kernel's range, so it stands for a message that it does not know.
                let bad = PackedOptions::from(&good.with_ttl(0));
                let bad = Datagram::new(b"x", &to, bad);
                assert!(socket.refuses(Field::Ttl, &bad), "{local}");
                assert!(!socket.refuses(Field::Tos, &bad), "{local}");
            }
        }
    }
}
