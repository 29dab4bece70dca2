use std::{
    any::Any,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use perpacket_udp::{Capabilities, Error, Transmit, UdpSocket};
use tokio::sync::watch;
use webrtc_util::Conn;

use crate::{DropCause, Event, net::CustomNet, port::Port};

/// How long a socket rests that cannot receive: at first, and at most.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// A socket of a peer connection: webrtc-rs sends through it as through any `Conn`, and each
/// datagram gets the options that the policy has for it at that moment.
///
/// To the stack above it a datagram that cannot go out looks like one that the network lost, because
/// webrtc-rs closes every data channel at the first error of a send, and stops reading at the first
/// error of a receive. Counters and [`Event`]s say what happened.
///
/// Made by [`CustomNet`], or by [`CustomConn::bind`] where the stack takes a `Conn` of one's own: a
/// `UDPMuxDefault` of stock webrtc-rs, say.
#[derive(Debug)]
pub struct CustomConn {
    socket: UdpSocket,
    port: Arc<Port>,
    closed: watch::Sender<bool>,
    remote: OnceLock<SocketAddr>,
}

impl CustomConn {
    /// A socket bound to `address`, with the policy of `net`. On the IPv6 wildcard address it leaves
    /// IPv4 alone: ICE knows no v4-mapped addresses. To be called on a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Bind`] with the address and what the kernel said.
    pub fn bind(net: &CustomNet, address: SocketAddr) -> Result<Self, Error> {
        let socket = UdpSocket::builder(address).only_v6(true).bind()?;
        let port = net.new_port(socket.local_addr());
        if net.wants_icmp_errors() {
            match socket.icmp_errors() {
                Ok(errors) => drop(tokio::spawn(Arc::clone(&port).count_errors(errors))),
                Err(error) => tracing::warn!(%error, "ICMP errors are not counted"),
            }
        }
        Ok(Self {
            socket,
            port,
            closed: watch::Sender::new(false),
            remote: OnceLock::new(),
        })
    }

    /// What the kernel lets this socket do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.socket.capabilities()
    }

    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// The next datagram that fits into `buffer`, as [`Conn::recv_from`] promises it.
    async fn receive(&self, buffer: &mut [u8]) -> (usize, SocketAddr) {
        let mut rest = REST.0;
        loop {
            match self.socket.recv_from(buffer).await {
                Ok(meta) if meta.truncated => self.port.truncated(&buffer[..meta.len], meta.source),
                Ok(meta) => {
                    self.port.received(&buffer[..meta.len], &meta);
                    return (meta.len, meta.source);
                }
                Err(error) => {
                    tracing::warn!(%error, "trying again");
                    self.port.emit(|session, local| Event::ReceiveFailed {
                        session,
                        local,
                        error: error.to_string(),
                    });
                    tokio::time::sleep(rest).await;
                    rest = REST.1.min(rest * 2);
                }
            }
        }
    }
}

impl Drop for CustomConn {
    fn drop(&mut self) {
        self.port.hub.retire(&self.port);
    }
}

#[async_trait]
impl Conn for CustomConn {
    /// Names the peer of [`send`](Conn::send) and [`recv`](Conn::recv). ICE uses neither.
    async fn connect(&self, address: SocketAddr) -> webrtc_util::Result<()> {
        self.remote
            .set(address)
            .map_err(|_| webrtc_util::Error::Other("already connected".into()))
    }

    async fn recv(&self, buffer: &mut [u8]) -> webrtc_util::Result<usize> {
        let remote = self
            .remote
            .get()
            .copied()
            .ok_or(webrtc_util::Error::ErrNoRemAddr)?;
        loop {
            let (length, source) = self.recv_from(buffer).await?;
            if source == remote {
                return Ok(length);
            }
        }
    }

    /// Fails only once the connection is closed. Dropping the future loses no datagram.
    async fn recv_from(&self, buffer: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(webrtc_util::Error::ErrUseClosedNetworkConn),
            received = self.receive(buffer) => Ok(received),
        }
    }

    async fn send(&self, datagram: &[u8]) -> webrtc_util::Result<usize> {
        let remote = self
            .remote
            .get()
            .copied()
            .ok_or(webrtc_util::Error::ErrNoRemAddr)?;
        self.send_to(datagram, remote).await
    }

    /// Always succeeds: what could not go out is counted, and reported as an [`Event`].
    async fn send_to(&self, datagram: &[u8], target: SocketAddr) -> webrtc_util::Result<usize> {
        let outgoing = self.port.outgoing(datagram, target);
        if self.is_closed() {
            self.port
                .dropped(&outgoing, datagram.len(), DropCause::Closed);
            return Ok(datagram.len());
        }
        let transmit = Transmit::new(datagram, target).with_options(outgoing.options);
        match self.socket.send(&transmit).await {
            Ok(_) => self
                .port
                .counters
                .sent(outgoing.peer, outgoing.class, datagram.len()),
            Err(error) => {
                let cause = error.io().map_or(DropCause::Invalid, DropCause::of);
                tracing::debug!(%error, %cause, "datagram dropped");
                self.port.dropped(&outgoing, datagram.len(), cause);
            }
        }
        Ok(datagram.len())
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(self.port.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.remote.get().copied()
    }

    /// Ends every [`recv_from`](Conn::recv_from). The descriptors are closed when the last reference
    /// is dropped, and no receive is pending.
    async fn close(&self) -> webrtc_util::Result<()> {
        self.closed.send_replace(true);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}
