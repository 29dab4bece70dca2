//! Peers that send.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use crate::packet::media;

/// How many datagrams a peer sends one after the other, as those of a frame of video.
pub(super) const RUN: usize = 10;

/// How many datagrams there are in a burst: a socket with the system's own buffer (212,992 bytes) holds them.
pub(super) const BURST: usize = 8 * RUN;

/// Sockets of peers, on loopback.
#[derive(Debug)]
pub(super) struct Peers {
    sockets: Vec<UdpSocket>,
    state: UdpSocketState,
    run: Vec<u8>,
    length: usize,
    next: usize,
}

impl Peers {
    /// So many, whose datagrams are that long.
    pub(super) fn new(number: usize, length: usize) -> Result<Self> {
        let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let sockets = (0..number).map(bind).collect::<Result<Vec<_>, _>>()?;
        let first = sockets.first().context("a peer")?;
        let state = UdpSocketState::new(UdpSockRef::from(first))?;
        Ok(Self {
            sockets,
            state,
            run: media(1, length).repeat(RUN),
            length,
            next: 0,
        })
    }

    /// The first of them, with where they send from.
    pub(super) fn iter(&self, number: usize) -> impl Iterator<Item = &UdpSocket> {
        self.sockets.iter().take(number)
    }

    /// The next of the first `among` peers send a run each, `segmented` in one system call: how many datagrams these are.
    pub(super) fn burst(&mut self, to: SocketAddr, among: usize, segmented: bool) -> Result<usize> {
        for _ in 0..BURST / RUN {
            self.next = (self.next + 1) % among;
            let socket = &self.sockets[self.next];
            if segmented {
                self.state.try_send(
                    UdpSockRef::from(socket),
                    &Transmit {
                        destination: to,
                        ecn: None,
                        contents: &self.run,
                        segment_size: Some(self.length),
                        src_ip: None,
                    },
                )?;
            } else {
                for datagram in self.run.chunks(self.length) {
                    socket.send_to(datagram, to)?;
                }
            }
        }
        Ok(BURST)
    }
}
