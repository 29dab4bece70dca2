//! The ways to send that are compared.

use std::{any::Any, future::pending, io, net::SocketAddr, sync::Arc};

use anyhow::{Result, anyhow};
use async_trait::async_trait;
use perpacket_udp::{Transmit, UdpSocket};
use perpacket_webrtc::{CustomConn, CustomNet};
use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::SockAddr;
use webrtc_util::Conn;

use crate::{
    packet::{STREAMS, options, set_options_by_stream},
    sys::{self, Control},
};

/// A socket, and how it is used.
pub(crate) enum Way {
    /// As a peer connection does it.
    Conn(Arc<dyn Conn + Send + Sync>),
    /// `perpacket_udp` alone, every datagram with other options.
    Socket(UdpSocket),
    /// quinn-udp, one datagram at a time.
    Quinn(std::net::UdpSocket, UdpSocketState),
    /// quinn-udp, 16 datagrams at a time.
    QuinnGso(std::net::UdpSocket, UdpSocketState),
    /// `sendmsg` and nothing around it.
    Floor(std::net::UdpSocket),
    /// The same with TTL and TOS for each stream; two sockets, one of which sets DF.
    FloorOptions([std::net::UdpSocket; 2], Vec<Control>),
}

struct Nothing;

#[async_trait]
impl Conn for Nothing {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, _: &mut [u8]) -> webrtc_util::Result<usize> {
        pending().await
    }

    async fn recv_from(&self, _: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        pending().await
    }

    async fn send(&self, datagram: &[u8]) -> webrtc_util::Result<usize> {
        Ok(datagram.len())
    }

    async fn send_to(&self, datagram: &[u8], _: SocketAddr) -> webrtc_util::Result<usize> {
        Ok(datagram.len())
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Err(webrtc_util::Error::ErrNoRemAddr)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// How many datagrams quinn-udp is given at a time.
pub(crate) const RUN: usize = 16;

impl Way {
    /// A tokio socket, as stock webrtc-rs has it.
    pub(crate) async fn stock(from: SocketAddr) -> Result<Self> {
        Ok(Self::Conn(Arc::new(
            tokio::net::UdpSocket::bind(from).await?,
        )))
    }

    /// A connection that takes datagrams and does nothing.
    pub(crate) fn nothing() -> Self {
        Self::Conn(Arc::new(Nothing))
    }

    /// A connection of a network.
    pub(crate) fn conn(net: &CustomNet, from: SocketAddr) -> Result<Self> {
        Ok(Self::Conn(Arc::new(CustomConn::bind(net, from)?)))
    }

    pub(crate) fn socket(from: SocketAddr) -> Result<Self> {
        Ok(Self::Socket(UdpSocket::bind(from)?))
    }

    pub(crate) fn quinn(from: SocketAddr, gso: bool) -> Result<Self> {
        let socket = std::net::UdpSocket::bind(from)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(if gso {
            Self::QuinnGso(socket, state)
        } else {
            Self::Quinn(socket, state)
        })
    }

    pub(crate) fn floor(from: SocketAddr) -> Result<Self> {
        Ok(Self::Floor(std::net::UdpSocket::bind(from)?))
    }

    pub(crate) fn floor_with_options(from: SocketAddr) -> Result<Self> {
        Ok(Self::FloorOptions(
            without_and_with_df(from)?,
            (0..STREAMS)
                .map(|stream| control(stream, from.is_ipv6()))
                .collect(),
        ))
    }

    /// Sends `count` datagrams, those of all streams in turn, and says how many went out.
    ///
    /// # Errors
    /// When the kernel takes one of them for wrong.
    pub(crate) async fn send(
        &self,
        packets: &[Vec<u8>],
        to: SocketAddr,
        count: usize,
    ) -> Result<u64> {
        let streams = packets.iter().enumerate().cycle().take(count);
        match self {
            Self::Conn(conn) => {
                for (_, packet) in streams {
                    conn.send_to(packet, to).await?;
                }
            }
            Self::Socket(socket) => {
                let options: Vec<_> = (0..STREAMS).map(options).collect();
                for (stream, packet) in streams {
                    let transmit = Transmit::new(packet, to).with_options(options[stream]);
                    socket.try_send(&transmit)?;
                }
            }
            Self::Quinn(socket, state) => {
                for (_, packet) in streams {
                    quinn_send(socket, state, packet, to, None)?;
                }
            }
            Self::QuinnGso(socket, state) => {
                let length = packets.first().map(Vec::len);
                let run: Vec<u8> = packets.iter().take(RUN).flatten().copied().collect();
                for _ in 0..count / RUN {
                    quinn_send(socket, state, &run, to, length)?;
                }
            }
            Self::Floor(socket) => {
                let (to, none) = (SockAddr::from(to), Control::default());
                for (_, packet) in streams {
                    sys::send(socket, packet, &to, &none)?;
                }
            }
            Self::FloorOptions(sockets, controls) => {
                let to = SockAddr::from(to);
                for (stream, packet) in streams {
                    sys::send(&sockets[stream % 2], packet, &to, &controls[stream])?;
                }
            }
        }
        Ok(u64::try_from(count)?)
    }

    /// The connection, where it is one.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn as_conn(&self) -> Result<&Arc<dyn Conn + Send + Sync>> {
        match self {
            Self::Conn(conn) => Ok(conn),
            _ => Err(anyhow!("not a connection")),
        }
    }
}

/// Two sockets: without the DF bit, and with it.
pub(super) fn without_and_with_df(from: SocketAddr) -> io::Result<[std::net::UdpSocket; 2]> {
    let sockets = [
        std::net::UdpSocket::bind(from)?,
        std::net::UdpSocket::bind(from)?,
    ];
    let (level, discover, probe) = if from.is_ipv6() {
        (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_PROBE,
        )
    } else {
        (
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_PROBE,
        )
    };
    // IP_PMTUDISC_OMIT and IPV6_PMTUDISC_OMIT are one number (`ip(7)`).
    for (socket, mode) in sockets.iter().zip([libc::IP_PMTUDISC_OMIT, probe]) {
        sys::set_option(socket, level, discover, mode)?;
    }
    Ok(sockets)
}

/// The TTL and the TOS byte of a stream, or of a peer.
pub(super) fn control(number: u32, v6: bool) -> Control {
    let (level, ttl, tos) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, libc::IPV6_TCLASS)
    } else {
        (libc::IPPROTO_IP, libc::IP_TTL, libc::IP_TOS)
    };
    let options = options(number);
    let value = |field: Option<u8>| i32::from(field.unwrap_or_default());
    Control::of([
        (level, ttl, value(options.ttl)),
        (level, tos, value(options.tos)),
    ])
}

/// A connection that sends every stream with options of its own.
///
/// # Errors
/// When there are no sockets left.
pub(crate) fn conn_with_options(from: SocketAddr) -> Result<Way> {
    let net = CustomNet::new();
    set_options_by_stream(&net)?;
    Way::conn(&net, from)
}

fn quinn_send(
    socket: &std::net::UdpSocket,
    state: &UdpSocketState,
    contents: &[u8],
    destination: SocketAddr,
    segment_size: Option<usize>,
) -> io::Result<()> {
    let transmit = quinn_udp::Transmit {
        destination,
        ecn: None,
        contents,
        segment_size,
        src_ip: None,
    };
    state.try_send(UdpSockRef::from(socket), &transmit)
}
