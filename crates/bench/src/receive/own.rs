//! A socket that a peer connection has for itself, read as webrtc-ice reads it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Result;
use perpacket_webrtc::{CustomConn, CustomNet};
use tokio::net::UdpSocket;
use webrtc_util::Conn;

use super::muxes::{BUFFER, Kind};

/// A socket, and what it is read into.
pub(super) struct Own {
    pub(super) address: SocketAddr,
    conn: Arc<dyn Conn + Send + Sync>,
    buffer: Vec<u8>,
}

impl Own {
    /// One that has sent something, as those of ICE have.
    pub(super) async fn new(kind: Kind) -> Result<Self> {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let conn: Arc<dyn Conn + Send + Sync> = match kind {
            Kind::Stock => Arc::new(UdpSocket::bind(anywhere).await?),
            Kind::Custom => Arc::new(CustomConn::bind(&CustomNet::new(), anywhere)?),
        };
        let address = conn.local_addr()?;
        let somebody = std::net::UdpSocket::bind(anywhere)?;
        conn.send_to(&[0; 20], somebody.local_addr()?).await?;
        Ok(Self {
            address,
            conn,
            buffer: vec![0; BUFFER],
        })
    }

    /// Reads so many datagrams.
    pub(super) async fn read(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.conn.recv_from(&mut self.buffer).await?;
        }
        Ok(())
    }
}
