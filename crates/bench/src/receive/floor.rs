//! Reading with nothing around the system calls.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use anyhow::Result;

use crate::sys;

/// A socket that is read by a bare loop.
#[derive(Debug)]
pub(super) struct Floor {
    socket: UdpSocket,
    buffers: Vec<Vec<u8>>,
}

impl Floor {
    /// `recvmsg`, one datagram at a time.
    pub(super) fn one_by_one() -> Result<Self> {
        Ok(Self {
            socket: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
            buffers: vec![vec![0; sys::BUFFER]],
        })
    }

    /// `recvmmsg` of what GRO has joined.
    pub(super) fn joined() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        sys::set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
        Ok(Self {
            socket,
            buffers: vec![vec![0; sys::BUFFER]; sys::BUFFERS],
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads so many datagrams.
    pub(super) fn read(&mut self, count: usize) -> Result<()> {
        let mut read = 0;
        while read < count {
            read += match self.buffers.as_mut_slice() {
                [buffer] => sys::receive(&self.socket, buffer).map(|_| 1)?,
                buffers => sys::receive_many(&self.socket, buffers)?,
            };
        }
        Ok(())
    }
}
