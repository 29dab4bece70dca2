//! From the wire to the peer connection that a datagram is for. Everything here is from strangers
//! until a check has proved otherwise.

mod runs;

use std::{io, net::SocketAddr, sync::Arc};

use perpacket_udp::{IcmpErrors, RecvBatch, RecvMeta, Transmit, UdpSocket};

use self::runs::Runs;
use super::{
    Shared, check,
    flow::{Check, Flow, Via},
    queue::Refusal,
    refused::Refused,
    routes::{Asker, Proof},
};
use crate::{DropCause, PacketClass, StunClass, StunHeader, StunMethod, policy::key, port::Port};

/// What ICE reads at most.
const BUFFER: usize = 8192;

/// Reads a socket until the mux is closed.
pub(super) async fn read(shared: Arc<Shared>, sockets: Arc<Vec<UdpSocket>>, socket: usize) {
    let mut closed = shared.closed.subscribe();
    let mut batch = RecvBatch::new();
    let mut runs = Runs::default();
    loop {
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            () = shared.port.receive_batch(&sockets[socket], &mut batch) => {}
        }
        shared.dispatch_all(socket, &batch, &mut runs);
    }
}

/// By what all of them begin with (RFC 7983 §7).
fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(0..=3))
}

/// Counts what the network says of what the mux sent, until the socket is gone.
pub(super) async fn count_errors(shared: Arc<Shared>, mut errors: IcmpErrors) {
    let mut closed = shared.closed.subscribe();
    loop {
        let error = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return,
            error = errors.recv() => error,
        };
        let Some(error) = error else { return };
        shared.port_of(error.destination).complained(error);
    }
}

impl Shared {
    /// The port of the peer connection that an address belongs to, or else the mux's own.
    fn port_of(&self, address: SocketAddr) -> Arc<Port> {
        let owner = self.routes.owner(address);
        owner.map_or_else(|| Arc::clone(&self.port), |flow| Arc::clone(&flow.port))
    }

    /// A datagram was queued, and cannot go out.
    pub(super) fn unsent(&self, transmit: &Transmit<'_>, error: &io::Error) {
        self.port_of(transmit.destination).unsent(transmit, error);
    }

    /// A datagram of a peer whose connection does not take it.
    #[cold]
    fn not_queued(&self, flow: &Flow, datagram: &[u8], source: SocketAddr, refusal: &Refusal) {
        match refusal {
            Refusal::Closed => self.refused.count(Refused::UnknownSource),
            Refusal::Full | Refusal::TooManyUnproved => {
                self.refused.count(Refused::QueueFull);
                flow.port.refused(datagram, source, DropCause::QueueFull);
            }
        }
    }

    pub(super) fn dispatch(&self, socket: usize, datagram: &[u8], meta: &RecvMeta) {
        if is_stun(datagram) {
            match StunHeader::parse(datagram) {
                Some(header) => self.dispatch_stun(socket, &header, datagram, meta),
                None => self.refused.count(Refused::Malformed),
            }
        } else {
            self.deliver_by_source(datagram, meta, Refused::UnknownSource);
        }
    }

    fn dispatch_stun(&self, socket: usize, header: &StunHeader, datagram: &[u8], meta: &RecvMeta) {
        if header.method != StunMethod::BINDING {
            return self.refused.count(Refused::NoUsername);
        }
        let via = self.via(socket, meta);
        match header.class {
            StunClass::Request => self.request(via, header, datagram, meta),
            StunClass::Indication => {
                self.deliver_by_source(datagram, meta, Refused::UnknownSource);
            }
            StunClass::SuccessResponse | StunClass::ErrorResponse => {
                self.response(via, header, datagram, meta);
            }
        }
    }

    fn request(&self, via: Via, header: &StunHeader, datagram: &[u8], meta: &RecvMeta) {
        let Some(ufrag) = check::ufrag(datagram) else {
            return self.refused.count(Refused::NoUsername);
        };
        let Some(flow) = self.routes.flow(ufrag) else {
            return self.refused.count(Refused::UnknownUsername);
        };
        if !flow.serves(meta.source.ip()) {
            return self.refused.count(Refused::OtherFamily);
        }
        let source = key(meta.source);
        let nominates = check::nominates(datagram);
        let unproved = match flow.password() {
            Some(password) => {
                if !check::has_integrity(datagram, &password) {
                    return self.refused.count(Refused::BadIntegrity);
                }
                self.bind(&flow, meta.source, via, Proof::Check { nominates });
                false
            }
            None => !self.routes.belongs_to(source, &flow),
        };
        flow.checked(Check {
            source,
            address: meta.source,
            transaction_id: header.transaction_id,
            nominates,
            via,
        });
        self.deliver(&flow, datagram, meta, unproved);
    }

    fn response(&self, via: Via, header: &StunHeader, datagram: &[u8], meta: &RecvMeta) {
        let source = key(meta.source);
        let success = header.class == StunClass::SuccessResponse;
        match self.routes.answer(&header.transaction_id, source) {
            Some(Asker::Flow(flow)) => {
                // Nobody else can know the transaction. Whether the answer has integrity, the peer
                // connection will see; an address that has another owner stays there.
                if success {
                    self.bind(&flow, meta.source, via, Proof::Answer);
                }
                self.deliver(&flow, datagram, meta, false);
            }
            Some(Asker::Discovery(waiter)) => {
                self.port.arrived(datagram, meta);
                // Whoever asked may have given up.
                let _ = waiter.send(datagram.to_vec());
            }
            None => self.deliver_by_source(datagram, meta, Refused::UnknownTransaction),
        }
    }

    /// Gives an address to a flow, unless it is another's.
    pub(super) fn bind(&self, flow: &Arc<Flow>, address: SocketAddr, via: Via, proof: Proof) {
        let bound = self.routes.bind(flow, key(address), address, via, proof);
        if bound.is_err() {
            self.refused.count(Refused::AddressTaken);
        }
    }

    /// Queues a datagram for the peer connection that its source belongs to.
    fn deliver_by_source(&self, datagram: &[u8], meta: &RecvMeta, otherwise: Refused) {
        match self.routes.owner(meta.source) {
            Some(flow) => self.deliver(&flow, datagram, meta, false),
            None => self.refused.count(otherwise),
        }
    }

    /// Queues a datagram for its peer connection.
    fn deliver(&self, flow: &Flow, datagram: &[u8], meta: &RecvMeta, unproved: bool) {
        if !flow.serves(meta.source.ip()) {
            return self.refused.count(Refused::OtherFamily);
        }
        // Without its scope, as candidates are.
        let source = key(meta.source);
        if unproved {
            return match flow.queue.push(datagram, source, true) {
                Ok(()) => flow
                    .port
                    .counters
                    .received(meta.source, PacketClass::Stun, meta),
                Err(Refusal::Full) => self.refused.count(Refused::QueueFull),
                Err(Refusal::TooManyUnproved) => self.refused.count(Refused::Unproved),
                Err(Refusal::Closed) => self.refused.count(Refused::UnknownUsername),
            };
        }
        if !flow.port.arrived(datagram, meta) {
            return;
        }
        if let Err(refusal) = flow.queue.push(datagram, source, false) {
            self.not_queued(flow, datagram, meta.source, &refusal);
        }
    }

    fn via(&self, socket: usize, meta: &RecvMeta) -> Via {
        let wildcard = self.locals[socket].ip().is_unspecified();
        Via {
            socket,
            local: meta.destination.filter(|_| wildcard),
        }
    }
}

#[cfg(test)]
mod tests {
    use stun::{
        agent::TransactionId,
        attributes::ATTR_USERNAME,
        integrity::MessageIntegrity,
        message::{BINDING_REQUEST, Message, Setter},
        textattrs::TextAttribute,
    };
    use webrtc::ice::udp_mux::UDPMux as _;

    use super::*;
    use crate::{CustomMux, CustomNet, mux::queue::Popped};

    /// From the socket's buffer to that of ICE.
    #[tokio::test]
    async fn in_the_steady_state_nothing_is_allocated() {
        let net = CustomNet::new();
        let mux = CustomMux::bind(&net, ([127, 0, 0, 1], 0).into()).expect("a mux");
        let mux = Arc::new(mux.for_session(&net.session("alice")));
        let _conn = Arc::clone(&mux).get_conn("alice").await.expect("open");
        let shared = mux.shared();
        let flow = shared.routes.flow("alice").expect("there");

        let socket = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a socket");
        let itself = socket.local_addr();
        let datagram = [[0x80; 1].as_slice(), &[96; 1199]].concat();
        let sent = socket.send_to(&datagram, itself, &crate::udp::MessageOptions::NONE);
        sent.await.expect("sent");
        let mut batch = RecvBatch::new();
        socket.recv_batch(&mut batch).await.expect("received");
        let (_, meta) = batch.get(0).expect("one");
        let via = Via {
            socket: 0,
            local: None,
        };
        shared.bind(&flow, itself, via, Proof::Answer);

        let (mut runs, mut buffer) = (Runs::default(), [0; BUFFER]);
        let mut round = || {
            for _ in 0..100 {
                shared.dispatch(0, &datagram, meta);
                shared.dispatch_all(0, &batch, &mut runs);
                for _ in 0..2 {
                    let popped = flow.queue.try_pop(&mut buffer);
                    assert!(matches!(popped, Ok(Some(_))));
                }
            }
        };
        round();
        assert_eq!(allocation_counter::measure(round).count_total, 0);
    }

    /// What follows a check goes to whom the check has given the address, although all came together.
    #[tokio::test]
    async fn a_check_counts_for_what_comes_behind_it() {
        let net = CustomNet::new();
        let mux = CustomMux::bind(&net, ([127, 0, 0, 1], 0).into()).expect("a mux");
        let mux = Arc::new(mux.for_session(&net.session("both")));
        let _alice = Arc::clone(&mux).get_conn("alice").await.expect("open");
        let _bob = Arc::clone(&mux).get_conn("bob").await.expect("open");
        mux.learn("a=ice-ufrag:bob\r\na=ice-pwd:secret\r\n");
        let shared = mux.shared();
        let [alice, bob] = ["alice", "bob"].map(|ufrag| shared.routes.flow(ufrag).expect("there"));

        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let inbound = UdpSocket::builder(anywhere).recv_batches(true).bind();
        let inbound = inbound.expect("a socket");
        let [peer, stranger] =
            [(); 2].map(|()| std::net::UdpSocket::bind(anywhere).expect("a socket"));
        let via = Via {
            socket: 0,
            local: None,
        };
        let address = peer.local_addr().expect("bound");
        shared.bind(&alice, address, via, Proof::Answer);

        let media = [[0x80, 96].as_slice(), &[0; 98]].concat();
        let mut check = Message::new();
        let attributes: [Box<dyn Setter>; 4] = [
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, "bob:theirs".to_owned())),
            Box::new(MessageIntegrity::new_short_term_integrity(
                "secret".to_owned(),
            )),
        ];
        check.build(&attributes).expect("a check");
        let sent = [
            (&peer, &media),
            (&peer, &media),
            (&stranger, &media),
            (&peer, &check.raw),
            (&peer, &media),
            (&peer, &media),
            (&peer, &media),
        ];
        let mut batch = RecvBatch::new();
        // It has room for all of them once it was too small a few times.
        while batch.len() < sent.len() {
            for (from, datagram) in sent {
                from.send_to(datagram, inbound.local_addr()).expect("sent");
            }
            let mut received = 0;
            while received < sent.len() {
                inbound.recv_batch(&mut batch).await.expect("received");
                received += batch.len();
            }
        }
        shared.dispatch_all(0, &batch, &mut Runs::default());

        let waiting = |flow: &Flow| {
            let mut buffer = [0; BUFFER];
            let pop = || flow.queue.try_pop(&mut buffer).expect("open");
            std::iter::from_fn(pop).collect::<Vec<_>>()
        };
        let long = Popped::Datagram(media.len());
        let of_bob = [Popped::Datagram(check.raw.len()), long, long, long];
        assert_eq!(waiting(&alice), [long, long]);
        assert_eq!(waiting(&bob), of_bob);
        assert_eq!(mux.snapshot().refused.unknown_source, 1);
        for (flow, count) in [(&alice, 2), (&bob, 4)] {
            assert_eq!(flow.port.counters.total().total().received, count);
        }
    }
}
