use std::{
    any::Any,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use webrtc_util::Conn;

use super::{
    AddressFamily, Shared,
    flow::{Flow, Via},
    queue::{Pop, Popped, UNSPECIFIED},
    routes::{Asker, Proof},
};
use crate::{
    DropCause, PacketClass, StunClass, StunHeader,
    policy::key,
    port::{Addressed, Outgoing, Port},
    probe::{Egress, Exit, ExitSocket},
    send_to::{SendTo, Transmits, Waiting},
};

/// How long who still reads has time to show it.
const GRACE: Duration = Duration::from_millis(100);

/// What a peer connection has instead of a socket of its own.
#[derive(Debug)]
pub(super) struct MuxConn {
    pub(super) shared: Arc<Shared>,
    pub(super) flow: Arc<Flow>,
}

impl Drop for MuxConn {
    fn drop(&mut self) {
        self.shared.routes.remove(&self.flow);
        self.flow.port.hub.retire(&self.flow.port);
    }
}

/// By which socket a datagram goes that found no room there, and to whom.
struct Full<'a> {
    socket: usize,
    contents: &'a [u8],
    target: SocketAddr,
    destination: SocketAddr,
    outgoing: Outgoing,
}

impl MuxConn {
    /// Sends a datagram as the policy has it, and counts it, if there is room for it.
    #[inline]
    fn try_transmit<'a>(&self, contents: &'a [u8], target: &SocketAddr) -> Option<Full<'a>> {
        let port = &self.flow.port;
        let mut outgoing = port.outgoing(contents, target);
        let drop_for = |cause| {
            port.not_sent(Addressed::to(target, contents), &outgoing, cause);
            None
        };
        if self.flow.queue.is_closed() {
            return drop_for(DropCause::Closed);
        }
        let Some((via, destination)) = self.route(contents, target, outgoing.class) else {
            return drop_for(DropCause::Unreachable);
        };
        outgoing.source = outgoing.source.or(via.local);
        let datagram = Addressed {
            contents,
            target,
            destination: &destination,
        };
        let socket = via.socket;
        // Whoever closes the mux waits for no more than this.
        let sent = (self.shared.sockets.get().as_ref())
            .map(|sockets| port.try_send(&sockets[socket], datagram, &outgoing));
        let Some(sent) = sent else {
            port.not_sent(datagram, &outgoing, DropCause::Closed);
            return None;
        };
        if port.settle(sent, &self.shared.locals[socket], datagram, &outgoing) {
            return None;
        }
        Some(Full {
            socket,
            contents,
            target: *target,
            destination,
            outgoing,
        })
    }

    #[cold]
    fn wait_and_transmit<'a>(&'a self, full: Full<'a>) -> Waiting<'a> {
        Box::pin(self.transmit_once_there_is_room(full))
    }

    async fn transmit_once_there_is_room(&self, full: Full<'_>) {
        let port = &self.flow.port;
        let datagram = Addressed {
            contents: full.contents,
            target: &full.target,
            destination: &full.destination,
        };
        match self.shared.sockets.cloned() {
            Some(sockets) => {
                let socket = &sockets[full.socket];
                port.send(socket, datagram, &full.outgoing).await;
            }
            None => port.not_sent(datagram, &full.outgoing, DropCause::Closed),
        }
    }

    /// From where and to whom a datagram goes.
    fn route(
        &self,
        contents: &[u8],
        target: &SocketAddr,
        class: PacketClass,
    ) -> Option<(Via, SocketAddr)> {
        let Self { shared, flow } = self;
        let peer = key(*target);
        if class == PacketClass::Stun
            && let Some(header) = StunHeader::parse(contents)
        {
            match header.class {
                StunClass::SuccessResponse | StunClass::ErrorResponse => {
                    if let Some(check) = flow.answered(peer, &header.transaction_id) {
                        // Only a check whose integrity is right is granted (RFC 8489 §9.1.3), so
                        // this proves the address where the mux does not know the password.
                        let proved = header.class == StunClass::SuccessResponse;
                        let proof = Proof::Check {
                            nominates: check.nominates,
                        };
                        if proved && flow.password().is_none() {
                            shared.bind(flow, check.address, check.via, proof);
                        }
                        return Some((check.via, check.address));
                    }
                }
                StunClass::Request => {
                    let by = Asker::Flow(Arc::clone(flow));
                    shared.routes.asked(header.transaction_id, peer, by);
                }
                StunClass::Indication => {}
            }
        }
        shared
            .routes
            .towards(peer)
            .or_else(|| Some((shared.via_towards(*target)?, *target)))
    }
}

impl Transmits for MuxConn {
    #[inline]
    fn transmit<'a>(&'a self, contents: &'a [u8], target: &SocketAddr) -> Option<Waiting<'a>> {
        let full = self.try_transmit(contents, target)?;
        Some(self.wait_and_transmit(full))
    }
}

impl Egress for MuxConn {
    fn towards(&self, peer: SocketAddr) -> Option<Exit> {
        let sockets = self.shared.sockets.cloned()?;
        let (peer, routes) = (key(peer), &self.shared.routes);
        // What belongs to another is not this one's way, and answers from there go to the other.
        if !routes.belongs_to(peer, &self.flow) {
            return None;
        }
        let (via, target) = routes.towards(peer)?;
        Some(Exit {
            socket: ExitSocket::OneOf(sockets, via.socket),
            source: via.local,
            target,
        })
    }

    fn is_open(&self) -> bool {
        !self.flow.queue.is_closed()
    }
}

#[async_trait]
impl Conn for MuxConn {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Err(one_of_many())
    }

    async fn recv(&self, _: &mut [u8]) -> webrtc_util::Result<usize> {
        Err(one_of_many())
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
        Box::pin(RecvFrom {
            port: &self.flow.port,
            pop: self.flow.queue.pop(buffer),
        })
    }

    async fn send(&self, _: &[u8]) -> webrtc_util::Result<usize> {
        Err(one_of_many())
    }

    /// Always succeeds: what could not go out is counted, and reported as an event.
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
        Ok(self.flow.port.local)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Frees what the mux holds for the peer connection.
    ///
    /// webrtc-ice 0.17 closes the connection of a candidate that it has twice, as it does when several
    /// addresses are mapped to one, and that connection is the one of all candidates. That happens
    /// while it gathers, before the peer can have sent anything; so until an address has been proved,
    /// what is closed goes only if nobody reads it a moment later.
    async fn close(&self) -> webrtc_util::Result<()> {
        if self.flow.is_proved() {
            self.shared.routes.remove(&self.flow);
        } else {
            let (shared, flow) = (Arc::downgrade(&self.shared), Arc::downgrade(&self.flow));
            tokio::spawn(async move {
                // Twice, because who reads is busy with a datagram now and then.
                for _ in 0..2 {
                    tokio::time::sleep(GRACE).await;
                    if !flow.upgrade().is_some_and(|flow| flow.queue.is_abandoned()) {
                        return;
                    }
                }
                if let (Some(shared), Some(flow)) = (shared.upgrade(), flow.upgrade()) {
                    shared.routes.remove(&flow);
                }
            });
        }
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// The future of [`MuxConn::recv_from`].
struct RecvFrom<'a> {
    port: &'a Port,
    pop: Pop<'a>,
}

impl Future for RecvFrom<'_> {
    type Output = webrtc_util::Result<(usize, SocketAddr)>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { port, pop } = &mut *self;
        let mut source = UNSPECIFIED;
        loop {
            match ready!(pop.poll(cx, &mut source)) {
                Some(Popped::Datagram(length)) => return Poll::Ready(Ok((length, source))),
                Some(Popped::Truncated) => port.refused(pop.buffer, source, DropCause::Truncated),
                None => return Poll::Ready(Err(webrtc_util::Error::ErrUseClosedNetworkConn)),
            }
        }
    }
}

fn one_of_many() -> webrtc_util::Error {
    webrtc_util::Error::Other(
        "a connection of a mux has many peers: use send_to and recv_from".into(),
    )
}

impl AddressFamily {
    pub(super) fn of(address: SocketAddr) -> Self {
        if address.ip().to_canonical().is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CustomMux, CustomNet};

    /// Nor does one that is closed.
    #[tokio::test]
    async fn nothing_leads_to_the_address_of_another() {
        let mux = CustomMux::bind(&CustomNet::new(), ([127, 0, 0, 1], 0).into()).expect("a mux");
        let [alice, bob] = ["alice", "bob"].map(|ufrag| mux.conn(ufrag).expect("open"));
        let peer = SocketAddr::from(([192, 0, 2, 1], 5000));
        let leads = || [&alice, &bob].map(|conn| conn.towards(peer).is_some());
        let bind = |conn: &MuxConn| {
            let via = Via {
                socket: 0,
                local: None,
            };
            mux.shared().bind(&conn.flow, peer, via, Proof::Answer);
        };
        assert_eq!(leads(), [false, false]);
        bind(&alice);
        assert_eq!(leads(), [true, false]);
        alice.close().await.expect("closed");
        assert_eq!(leads(), [false, false]);
        bind(&bob);
        assert_eq!(leads(), [false, true]);
    }
}
