use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;

use super::{SYSTEM, stock};
use crate::vnet::interface::Interface;
use crate::{Conn, Result};

/// A network of the application's: what is behind [`Net::Custom`](super::Net::Custom).
///
/// Only [`bind`](Self::bind) has to be written. The rest does what the operating system does.
#[async_trait]
pub trait NetProvider: Send + Sync {
    /// A UDP socket with the local address `addr`, whose address and port may be 0.
    ///
    /// # Errors
    /// When the address is in use or not of this host. ICE goes on without that candidate, and
    /// where it was given a range of ports, tries the next one.
    async fn bind(&self, addr: SocketAddr) -> Result<Arc<dyn Conn + Send + Sync>>;

    /// All interfaces with an address, from which ICE makes its host candidates.
    ///
    /// By default the system's, read anew on each call, so that gathering after an interface
    /// has come or gone sees it.
    async fn interfaces(&self) -> Vec<Interface> {
        stock::Net::new(None).get_interfaces().await
    }

    /// The first address of `address`, as `host:port`, that is of the family asked for.
    ///
    /// # Errors
    /// When the name does not resolve, or to the other family only.
    async fn resolve_addr(&self, use_ipv4: bool, address: &str) -> Result<SocketAddr> {
        SYSTEM.resolve_addr(use_ipv4, address).await
    }

    /// A UDP socket that is connected to `remote_addr`, as `host:port`. By default made with
    /// [`resolve_addr`](Self::resolve_addr) and [`bind`](Self::bind).
    ///
    /// # Errors
    /// As those two, and when there is no route.
    async fn dial(&self, use_ipv4: bool, remote_addr: &str) -> Result<Arc<dyn Conn + Send + Sync>> {
        let remote = self.resolve_addr(use_ipv4, remote_addr).await?;
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let conn = self.bind(any).await?;
        conn.connect(remote).await?;
        Ok(conn)
    }
}
