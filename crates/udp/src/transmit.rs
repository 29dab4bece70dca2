use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use crate::{IpOptions, MessageOptions, PackedOptions, Tos};

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Transmit<'a> {
    /// The UDP payload.
    pub contents: &'a [u8],
    /// Where it goes. On an IPv6 socket an IPv4 address is taken as its v4-mapped form.
    pub destination: SocketAddr,
    /// What its IP header says.
    pub options: MessageOptions,
    /// IPv4 options for the header, as record route (RFC 791 §3.1). IPv6 has none: there they are
    /// ignored.
    pub ip_options: Option<IpOptions>,
    /// The number of a probe: see [`with_probe`](Self::with_probe).
    pub probe: Option<u32>,
}

impl<'a> Transmit<'a> {
    /// A datagram with the socket's own settings.
    #[must_use]
    #[inline]
    pub const fn new(contents: &'a [u8], destination: SocketAddr) -> Self {
        Self {
            contents,
            destination,
            options: MessageOptions::NONE,
            ip_options: None,
            probe: None,
        }
    }

    /// The same with these options.
    #[must_use]
    #[inline]
    pub const fn with_options(mut self, options: MessageOptions) -> Self {
        self.options = options;
        self
    }

    /// The same with these IPv4 options.
    #[must_use]
    pub const fn with_ip_options(mut self, ip_options: IpOptions) -> Self {
        self.ip_options = Some(ip_options);
        self
    }

    /// The same as a probe of the path. With `df_bit: true` it is sent whole whatever path MTU the
    /// kernel has heard of, on IPv6 too (there a socket on the wildcard address wants a `source` for it);
    /// and the kernel notes when it left, where it can:
    /// [`UdpSocket::sent_at`](crate::UdpSocket::sent_at) has that under this number.
    #[must_use]
    pub const fn with_probe(mut self, number: u32) -> Self {
        self.probe = Some(number);
        self
    }

    #[inline]
    pub(crate) fn datagram(&self) -> Datagram<'_> {
        Datagram {
            contents: self.contents,
            destination: &self.destination,
            options: PackedOptions::from(&self.options),
            source: self.options.source.as_ref(),
            ip_options: self.ip_options.as_ref(),
            probe: self.probe,
        }
    }
}

/// One datagram to send, as it travels through this crate: what is seldom there takes few steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) contents: &'a [u8],
    pub(crate) destination: &'a SocketAddr,
    pub(crate) options: PackedOptions,
    pub(crate) source: Option<&'a IpAddr>,
    pub(crate) ip_options: Option<&'a IpOptions>,
    pub(crate) probe: Option<u32>,
}

impl<'a> Datagram<'a> {
    #[inline]
    pub(crate) fn new(
        contents: &'a [u8],
        destination: &'a SocketAddr,
        options: PackedOptions,
    ) -> Self {
        Self {
            contents,
            destination,
            options,
            source: None,
            ip_options: None,
            probe: None,
        }
    }

    /// As whoever sent it may want to see it again.
    pub(crate) fn transmit(&self) -> Transmit<'a> {
        Transmit {
            contents: self.contents,
            destination: *self.destination,
            options: MessageOptions {
                source: self.source.copied(),
                ..self.options.into()
            },
            ip_options: self.ip_options.copied(),
            probe: self.probe,
        }
    }
}

/// One datagram that was received: how long it is, and what its IP header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecvMeta {
    /// Bytes of payload in the buffer.
    pub len: usize,
    /// Whether the datagram was longer than the buffer, and its end is lost.
    pub truncated: bool,
    /// Who sent it. A dual-stack socket gives IPv4 senders in v4-mapped form.
    pub source: SocketAddr,
    /// The address it was sent to, which on a wildcard socket is one of the host's many
    /// (`IP_RECVDSTADDR` elsewhere).
    pub destination: Option<IpAddr>,
    /// The index of the interface that it came in by (`IP_RECVIF` elsewhere).
    pub interface: Option<u32>,
    /// The TTL, or hop limit, as it arrived.
    pub ttl: Option<u8>,
    /// The TOS byte, or traffic class, as it arrived.
    pub tos: Option<Tos>,
    /// When the kernel took it from the interface, where
    /// [`UdpSocketBuilder::timestamps`](crate::UdpSocketBuilder::timestamps) asked for it.
    pub timestamp: Option<SystemTime>,
}
