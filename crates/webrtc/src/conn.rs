mod recv_from;

use std::{
    any::Any,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
};

use async_trait::async_trait;
use perpacket_udp::{Capabilities, Error, RecvMeta, UdpSocket};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use webrtc_util::Conn;

use self::recv_from::RecvFrom;
use crate::{
    DropCause,
    closable::Closable,
    dont_fragment::with_dont_fragment,
    guard::{Guard, Query},
    net::CustomNet,
    port::{Addressed, Outgoing, Port},
    probe::{Egress, Exit, ExitSocket},
    send_to::{SendTo, Transmits, Waiting},
};

/// A socket of a peer connection: webrtc-rs sends through it as through any `Conn`, and each
/// datagram gets the options that the policy has for it at that moment.
///
/// To the stack above it a datagram that cannot go out looks like one that the network lost, because
/// webrtc-rs closes every data channel at the first error of a send, and stops reading at the first
/// error of a receive. Counters and [`Event`](crate::Event)s say what happened.
///
/// # What it does not hand on
///
/// webrtc-rs takes what comes in for what it waits for. What a socket is for shows in what is sent
/// through it first:
///
/// - An Allocate request (RFC 8656 §7.1): the socket of a relayed candidate. From then on only the
///   TURN server that was asked is heard, and of that only what the TURN client can use, which would
///   stop reading for good at anything else: a message that is not whole, a request, a channel that
///   it did not bind, a payload above 8,192 bytes.
/// - A Binding request without USERNAME (RFC 8489 §6.1): that of a server-reflexive candidate. Only the
///   answer of the STUN server that was asked is heard, and until it comes, the request is sent again
///   as RFC 8489 §6.2.1 has it while somebody receives. Then, or once something else is sent, it is
///   an ordinary socket.
/// - Anything else: an ordinary socket, which hands on everything.
///
/// What is not handed on is counted as [`DropCause::Stranger`] or [`DropCause::Unexpected`]. Until
/// something was sent, a socket hands nothing on for 50 ms, counted from the first receive.
///
/// Made by [`CustomNet`], or by [`CustomConn::bind`] where the stack takes a `Conn` of one's own: a
/// `UDPMuxDefault` of stock webrtc-rs, say.
#[derive(Debug)]
pub struct CustomConn {
    way_out: Arc<WayOut>,
    capabilities: Capabilities,
    port: Arc<Port>,
    guard: Guard,
    /// Wakes those who wait when it is closed.
    closed: Notify,
    remote: OnceLock<SocketAddr>,
}

/// What there was to receive.
enum Received {
    /// For the stack: its length, and who sent it.
    Datagram(usize, SocketAddr),
    /// Something that the stack must not have.
    Refused,
    Nothing,
}

/// The socket, until the connection is closed: webrtc-ice can keep a connection that it has closed.
#[derive(Debug)]
struct WayOut(Closable<UdpSocket>);

impl Egress for WayOut {
    fn towards(&self, peer: SocketAddr) -> Option<Exit> {
        Some(Exit {
            socket: ExitSocket::Own(self.0.cloned()?),
            source: None,
            target: peer,
        })
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }
}

impl CustomConn {
    /// A socket bound to `address`, with the policy of `net`. On the IPv6 wildcard address it leaves
    /// IPv4 alone: ICE knows no v4-mapped addresses. To be called on a tokio runtime with I/O and time
    /// enabled.
    ///
    /// # Errors
    /// [`Error::Bind`] with the address and what the kernel said.
    pub fn bind(net: &CustomNet, address: SocketAddr) -> Result<Self, Error> {
        let socket = net.socket(address).bind()?;
        let port = net.new_port(socket.local_addr());
        let counting = Arc::downgrade(&port);
        socket.on_dropped(move |transmit, error| {
            if let Some(port) = counting.upgrade() {
                port.unsent(transmit, error);
            }
        });
        if net.wants_icmp_errors() {
            match socket.icmp_errors() {
                Ok(errors) => drop(tokio::spawn(Arc::clone(&port).count_errors(errors))),
                Err(error) => tracing::warn!(%error, "ICMP errors are not counted"),
            }
        }
        let capabilities = socket.capabilities();
        let way_out = Arc::new(WayOut(Arc::new(socket).into()));
        let egress: Weak<WayOut> = Arc::downgrade(&way_out);
        // It is new, so nobody has set it.
        let _ = port.egress.set(egress);
        Ok(Self {
            way_out,
            capabilities,
            port,
            guard: Guard::default(),
            closed: Notify::new(),
            remote: OnceLock::new(),
        })
    }

    /// What the kernel lets this socket do; once it is closed, what it was first thought to.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let socket = self.way_out.0.get();
        socket
            .as_ref()
            .map_or(self.capabilities, |socket| socket.capabilities())
    }

    /// A datagram that is there already, as far as the runtime knows.
    #[inline]
    fn receive_now(&self, buffer: &mut [u8]) -> Received {
        if !self.guard.is_settled() {
            return Received::Nothing;
        }
        // Whoever closes the connection waits for no more than this.
        let received = (self.way_out.0.get().as_ref()).map(|socket| socket.try_recv_ready(buffer));
        match received {
            Some(Ok(Some(meta))) if self.accept(&buffer[..meta.len], &meta) => {
                Received::Datagram(meta.len, meta.source)
            }
            Some(Ok(Some(_))) => Received::Refused,
            // Who waits sees an error again, and what to do about it.
            Some(Ok(None) | Err(_)) | None => Received::Nothing,
        }
    }

    /// Apart, so that who need not wait has no room for this on its stack.
    #[cold]
    fn wait_and_receive<'a>(&'a self, buffer: &'a mut [u8]) -> recv_from::Waiting<'a> {
        Box::pin(async {
            // Before the look, so that what closes it after that wakes.
            let closed = self.closed.notified();
            let Some(socket) = self.way_out.0.cloned() else {
                return Err(webrtc_util::Error::ErrUseClosedNetworkConn);
            };
            tokio::select! {
                biased;
                () = closed => Err(webrtc_util::Error::ErrUseClosedNetworkConn),
                received = self.receive(&socket, buffer) => Ok(received),
            }
        })
    }

    /// The next datagram for the stack that fits into `buffer`, as [`Conn::recv_from`] promises it.
    async fn receive(&self, socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
        // What is seldom waited for is put elsewhere: every socket has one of these as long as nothing comes.
        if !self.guard.is_settled() {
            Box::pin(self.guard.settled()).await;
        }
        loop {
            let meta = match self.guard.query() {
                None => self.port.receive(socket, buffer).await,
                Some(query) => {
                    let received = Box::pin(self.receive_until_due(socket, buffer, query));
                    match received.await {
                        Some(meta) => meta,
                        None => continue,
                    }
                }
            };
            if self.accept(&buffer[..meta.len], &meta) {
                return (meta.len, meta.source);
            }
        }
    }

    /// Receives while a request needs not be sent again, or else sends it.
    async fn receive_until_due(
        &self,
        socket: &UdpSocket,
        buffer: &mut [u8],
        query: &Query,
    ) -> Option<RecvMeta> {
        // A flood leaves no time to wait: the clock is asked first.
        let received = self.port.receive(socket, buffer);
        if Instant::now() < query.due()
            && let Ok(meta) = timeout_at(query.due(), received).await
        {
            return Some(meta);
        }
        if query.advance() {
            // It never fails.
            let _ = SendTo::new(self, &query.request, query.server).await;
        }
        None
    }

    /// Counts what came in, and says whether the stack is to have it.
    fn accept(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        if let Some(cause) = self.guard.refuses(datagram, meta.source) {
            self.port.refused(datagram, meta.source, cause);
            return false;
        }
        if meta.truncated {
            self.port
                .refused(datagram, meta.source, DropCause::Truncated);
            return false;
        }
        self.port.arrived(datagram, meta)
    }

    /// Sends a datagram as the policy has it, and counts it, if there is room for it: whether there was.
    #[inline]
    fn try_transmit(&self, contents: &[u8], target: &SocketAddr) -> bool {
        let outgoing = self.port.outgoing(contents, target);
        let asking = self.asking(contents, &outgoing);
        let datagram = Addressed::to(target, asking.as_deref().unwrap_or(contents));
        let port = &self.port;
        // Whoever closes the connection waits for no more than this.
        let sent = (self.way_out.0.get().as_ref())
            .map(|socket| port.try_send(socket, datagram, &outgoing));
        let Some(sent) = sent else {
            port.not_sent(datagram, &outgoing, DropCause::Closed);
            return true;
        };
        port.settle(sent, &port.local, datagram, &outgoing)
    }

    /// Apart, so that a send which need not wait has no room for this on its stack.
    #[cold]
    fn wait_and_transmit<'a>(&'a self, contents: &'a [u8], target: &SocketAddr) -> Waiting<'a> {
        Box::pin(self.transmit_once_there_is_room(contents, *target))
    }

    async fn transmit_once_there_is_room(&self, contents: &[u8], target: SocketAddr) {
        let outgoing = self.port.outgoing(contents, &target);
        let asking = self.asking(contents, &outgoing);
        let datagram = Addressed::to(&target, asking.as_deref().unwrap_or(contents));
        match self.way_out.0.cloned() {
            Some(socket) => self.port.send(&socket, datagram, &outgoing).await,
            None => self.port.not_sent(datagram, &outgoing, DropCause::Closed),
        }
    }

    /// What goes out in place of a datagram, where a TURN server is to be asked to keep it whole.
    #[inline]
    fn asking(&self, contents: &[u8], outgoing: &Outgoing) -> Option<Vec<u8>> {
        if self.port.hub.dont_fragment && self.guard.is_relay() && outgoing.forbids_fragments() {
            with_dont_fragment(contents)
        } else {
            None
        }
    }
}

impl Transmits for CustomConn {
    #[inline]
    fn transmit<'a>(&'a self, contents: &'a [u8], target: &SocketAddr) -> Option<Waiting<'a>> {
        self.guard.sending(contents, target);
        if self.try_transmit(contents, target) {
            return None;
        }
        Some(self.wait_and_transmit(contents, target))
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
    fn recv_from<'a, 'b, 'c>(
        &'a self,
        buffer: &'b mut [u8],
    ) -> Pin<Box<dyn Future<Output = webrtc_util::Result<(usize, SocketAddr)>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(RecvFrom::new(self, buffer))
    }

    async fn send(&self, datagram: &[u8]) -> webrtc_util::Result<usize> {
        let remote = self
            .remote
            .get()
            .copied()
            .ok_or(webrtc_util::Error::ErrNoRemAddr)?;
        self.send_to(datagram, remote).await
    }

    /// Always succeeds: what could not go out is counted, and reported as an [`Event`](crate::Event).
    fn send_to<'a, 'b, 'c>(
        &'a self,
        datagram: &'b [u8],
        target: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = webrtc_util::Result<usize>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(SendTo::new(self, datagram, target))
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(self.port.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.remote.get().copied()
    }

    /// Ends every [`recv_from`](Conn::recv_from), and closes the socket as soon as no send waits for
    /// room in it.
    async fn close(&self) -> webrtc_util::Result<()> {
        self.way_out.0.close();
        self.closed.notify_waiters();
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        task::Poll::{self, Ready},
        time::Duration,
    };

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn closing_ends_who_waits_and_who_comes_later() {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let conn = CustomConn::bind(&CustomNet::new(), anywhere).expect("a socket");
        let peer = std::net::UdpSocket::bind(anywhere).expect("a socket");
        let to = peer.local_addr().expect("bound");
        conn.send_to(b"x", to).await.expect("it never fails");

        let mut buffer = [0; 9];
        let mut waits = conn.recv_from(&mut buffer);
        let first = poll_fn(|cx| Ready(waits.as_mut().poll(cx))).await;
        assert!(matches!(first, Poll::Pending));
        conn.close().await.expect("closed");
        let ended = timeout(Duration::from_secs(10), waits).await;
        assert!(ended.expect("it ends").is_err());
        let later = timeout(Duration::from_secs(10), conn.recv_from(&mut [0; 9])).await;
        assert!(later.expect("it ends").is_err());
    }
}
