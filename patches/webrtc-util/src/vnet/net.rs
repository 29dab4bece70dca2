//! [`Net`], the network that a peer connection lives in, and [`NetProvider`], which an application
//! implements to be that network. The rest of the module is upstream's.

mod provider;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Mutex;
use upstream::vnet::net as stock;
pub use upstream::vnet::net::*;

pub use self::provider::NetProvider;
use super::interface::Interface;
use super::router::Nic;
use crate::{Conn, Error, Result};

/// Upstream's way to the operating system. Its list of interfaces is for
/// [`Net::get_interfaces`] alone: sockets and names do without.
static SYSTEM: stock::Net = stock::Net::Ifs(Vec::new());

/// Where sockets, interfaces and addresses come from. `SettingEngine::set_vnet` takes one.
///
/// It has upstream's methods with upstream's signatures, and one variant more.
pub enum Net {
    /// A virtual network in this process, for tests.
    VNet(Arc<Mutex<VNet>>),
    /// The operating system's sockets, and its interfaces as they were when this was made.
    Ifs(Vec<Interface>),
    /// The application's.
    Custom(Arc<dyn NetProvider>),
}

impl Net {
    /// A virtual network, to be added to a router, or with `None` the operating system's.
    #[must_use]
    pub fn new(config: Option<NetConfig>) -> Self {
        match stock::Net::new(config) {
            stock::Net::VNet(vnet) => Net::VNet(vnet),
            stock::Net::Ifs(ifs) => Net::Ifs(ifs),
        }
    }

    /// All interfaces with an address.
    pub async fn get_interfaces(&self) -> Vec<Interface> {
        match self {
            Net::VNet(vnet) => virtual_net(vnet).get_interfaces().await,
            Net::Ifs(ifs) => ifs.clone(),
            Net::Custom(provider) => provider.interfaces().await,
        }
    }

    /// The interface of that name.
    pub async fn get_interface(&self, ifc_name: &str) -> Option<Interface> {
        let interfaces = match self {
            Net::VNet(vnet) => return virtual_net(vnet).get_interface(ifc_name).await,
            Net::Ifs(ifs) => ifs.clone(),
            Net::Custom(provider) => provider.interfaces().await,
        };
        interfaces.into_iter().find(|i| i.name() == ifc_name)
    }

    /// Whether this is a virtual network. One that the application provides is not: its sockets are
    /// real ones.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        matches!(self, Net::VNet(_))
    }

    /// The first address of `address`, as `host:port`, that is of the family asked for.
    ///
    /// # Errors
    /// When the name does not resolve, or to the other family only.
    pub async fn resolve_addr(&self, use_ipv4: bool, address: &str) -> Result<SocketAddr> {
        match self {
            Net::VNet(vnet) => virtual_net(vnet).resolve_addr(use_ipv4, address).await,
            Net::Ifs(_) => SYSTEM.resolve_addr(use_ipv4, address).await,
            Net::Custom(provider) => provider.resolve_addr(use_ipv4, address).await,
        }
    }

    /// A UDP socket with the local address `addr`, whose address and port may be 0.
    ///
    /// # Errors
    /// When the address is in use or not of this host.
    pub async fn bind(&self, addr: SocketAddr) -> Result<Arc<dyn Conn + Send + Sync>> {
        match self {
            Net::VNet(vnet) => virtual_net(vnet).bind(addr).await,
            Net::Ifs(_) => SYSTEM.bind(addr).await,
            Net::Custom(provider) => provider.bind(addr).await,
        }
    }

    /// A UDP socket that is connected to `remote_addr`, as `host:port`.
    ///
    /// # Errors
    /// As [`resolve_addr`](Self::resolve_addr) and [`bind`](Self::bind), and when there is no route.
    pub async fn dial(
        &self,
        use_ipv4: bool,
        remote_addr: &str,
    ) -> Result<Arc<dyn Conn + Send + Sync>> {
        match self {
            Net::VNet(vnet) => virtual_net(vnet).dail(use_ipv4, remote_addr).await,
            Net::Ifs(_) => SYSTEM.dail(use_ipv4, remote_addr).await,
            Net::Custom(provider) => provider.dial(use_ipv4, remote_addr).await,
        }
    }

    /// The network card to plug into a virtual network's router.
    ///
    /// # Errors
    /// [`Error::ErrVnetDisabled`] when this is no virtual network.
    pub fn get_nic(&self) -> Result<Arc<Mutex<dyn Nic + Send + Sync>>> {
        match self {
            Net::VNet(vnet) => virtual_net(vnet).get_nic(),
            Net::Ifs(_) | Net::Custom(_) => Err(Error::ErrVnetDisabled),
        }
    }
}

fn virtual_net(vnet: &Arc<Mutex<VNet>>) -> stock::Net {
    stock::Net::VNet(Arc::clone(vnet))
}
