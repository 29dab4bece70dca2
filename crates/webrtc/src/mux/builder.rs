use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use arc_swap::ArcSwap;
use perpacket_udp::UdpSocket;
use tokio::sync::watch;

use super::{
    CustomMux, MuxError, Owner, Shared, flow::lock, inbound, queue::Queues, reflexive,
    refused::LiveRefused, routes::Routes,
};
use crate::CustomNet;

/// How many bytes may wait for one peer connection, unless the builder says otherwise: three times
/// what the kernel holds for a socket by default.
const QUEUE_BYTES: usize = 640 << 10;

/// What the kernel is asked to hold for each socket. It may give less (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 << 20;

/// How many ports are tried until one is found that is free on all addresses.
const PORT_TRIES: usize = 32;

/// How a [`CustomMux`] is to be made.
#[derive(Clone, Debug)]
pub struct CustomMuxBuilder {
    net: CustomNet,
    addresses: Vec<SocketAddr>,
    stun_servers: Vec<SocketAddr>,
    queue_bytes: usize,
    receive_buffer: usize,
}

impl CustomMuxBuilder {
    pub(super) fn new(net: &CustomNet) -> Self {
        Self {
            net: net.clone(),
            addresses: Vec::new(),
            stun_servers: Vec::new(),
            queue_bytes: QUEUE_BYTES,
            receive_buffer: RECEIVE_BUFFER,
        }
    }

    /// Adds a socket. An unspecified address stands for all of its family that this host has, but for
    /// link-local ones of IPv6; `[::]` leaves IPv4 alone. Of several sockets all have one port; 0 takes
    /// one that is free.
    #[must_use]
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Keeps asking a STUN server how it sees the sockets of its family; see
    /// [`CustomMux::complete`]. The mapping is kept alive by asking again every 15 seconds.
    #[must_use]
    pub fn stun_server(mut self, server: SocketAddr) -> Self {
        self.stun_servers.push(server);
        self
    }

    /// How many bytes may wait for one peer connection that does not read, 64 for each datagram
    /// included. What is beyond is dropped and counted. 640 KiB by default.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// How many bytes the kernel is asked to hold for each socket (`SO_RCVBUF`). 4 MiB by default; it
    /// may give less.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = bytes;
        self
    }

    /// Binds the sockets and begins to read. To be called on a tokio runtime.
    ///
    /// # Errors
    /// When there is no address, when ports differ, or when an address cannot be bound.
    pub fn build(self) -> Result<CustomMux, MuxError> {
        let sockets = self.sockets()?;
        let locals: Vec<_> = sockets.iter().map(UdpSocket::local_addr).collect();
        let errors: Vec<_> = if self.net.wants_icmp_errors() {
            sockets.iter().map(UdpSocket::icmp_errors).collect()
        } else {
            Vec::new()
        };
        let sockets = Arc::new(sockets);
        let shared = Arc::new(Shared {
            sockets: Arc::clone(&sockets).into(),
            port: CustomNet {
                session: None,
                ..self.net.clone()
            }
            .new_port(locals[0]),
            locals,
            net: self.net,
            routes: Routes::new(),
            refused: LiveRefused::default(),
            reflexive: ArcSwap::default(),
            queues: Queues::new(self.queue_bytes),
            closed: watch::Sender::new(false),
            tasks: Mutex::default(),
        });
        for socket in sockets.iter() {
            let shared = Arc::downgrade(&shared);
            socket.on_dropped(move |transmit, error| {
                if let Some(shared) = shared.upgrade() {
                    shared.unsent(transmit, error);
                }
            });
        }
        let mut tasks = Vec::new();
        for socket in 0..sockets.len() {
            let read = inbound::read(Arc::clone(&shared), Arc::clone(&sockets), socket);
            tasks.push(tokio::spawn(read));
        }
        for errors in errors {
            match errors {
                Ok(errors) => {
                    let count = inbound::count_errors(Arc::clone(&shared), errors);
                    tasks.push(tokio::spawn(count));
                }
                Err(error) => tracing::warn!(%error, "ICMP errors are not counted"),
            }
        }
        for server in self.stun_servers {
            for socket in reflexive::sockets_towards(&shared, server) {
                let keep = reflexive::keep(Arc::clone(&shared), socket, server);
                tasks.push(tokio::spawn(keep));
            }
        }
        *lock(&shared.tasks) = tasks;
        Ok(CustomMux {
            owner: Arc::new(Owner { shared }),
            session: None,
            family: None,
        })
    }

    fn sockets(&self) -> Result<Vec<UdpSocket>, MuxError> {
        let (first, rest) = self.addresses.split_first().ok_or(MuxError::NoAddress)?;
        if let Some(second) = rest.iter().find(|second| second.port() != first.port()) {
            return Err(MuxError::Ports {
                first: *first,
                second: *second,
            });
        }
        let mut tries = if first.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            let socket = self.socket(*first)?;
            let port = socket.local_addr().port();
            let others = rest
                .iter()
                .map(|address| self.socket(SocketAddr::new(address.ip(), port)));
            let sockets: Result<Vec<_>, _> = [Ok(socket)].into_iter().chain(others).collect();
            tries -= 1;
            match sockets {
                // Free on the first address only.
                Err(perpacket_udp::Error::Bind { source, .. })
                    if tries > 0 && source.kind() == std::io::ErrorKind::AddrInUse => {}
                sockets => return Ok(sockets?),
            }
        }
    }

    fn socket(&self, address: SocketAddr) -> Result<UdpSocket, perpacket_udp::Error> {
        self.net
            .socket(address)
            .recv_buffer(self.receive_buffer)
            // Datagrams of many peers come together.
            .recv_batches(true)
            .bind()
    }
}
