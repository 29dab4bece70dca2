//! Links, addresses and routes of the calling thread's network namespace, over rtnetlink.

use std::future::Future;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::{Error, Result};

/// One end of a veth pair that is to be.
pub(crate) struct VethEnd<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: u32,
    pub(crate) mtu: u32,
}

/// Makes a veth pair: `near` in the calling thread's namespace, `far` in namespace `far_namespace`.
pub(crate) fn add_veth(
    near: &VethEnd<'_>,
    far: &VethEnd<'_>,
    far_namespace: BorrowedFd<'_>,
) -> Result<()> {
    let peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(far.name)
        .index(far.index)
        .mtu(far.mtu)
        .setns_by_fd(far_namespace.as_raw_fd())
        .build();
    let link = LinkMessageBuilder::<LinkVeth>::new(near.name, far.name)
        .index(near.index)
        .mtu(near.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    request(
        || format!("ip link add {} type veth peer {}", near.name, far.name),
        |netlink| async move { netlink.link().add(link).execute().await },
    )
}

/// Sets an interface up.
pub(crate) fn bring_up(interface: &str) -> Result<()> {
    set_link(interface, "up", LinkMessageBuilder::up)
}

/// Sets an interface down.
pub(crate) fn bring_down(interface: &str) -> Result<()> {
    set_link(interface, "down", LinkMessageBuilder::down)
}

/// Sets an interface's MTU, bytes.
pub(crate) fn set_mtu(interface: &str, mtu: u32) -> Result<()> {
    set_link(interface, &format!("mtu {mtu}"), |link| link.mtu(mtu))
}

/// Has the kernel cut segmented sends (`UDP_SEGMENT`) into datagrams before the interface, as they
/// would leave a network card. A virtual device passes them on whole, up to 64 KiB each, so that a
/// capture would show no real packet.
pub(crate) fn cut_segments(interface: &str) -> Result<()> {
    set_link(interface, "gso_max_segs 1", |link| {
        link.append_extra_attribute(LinkAttribute::GsoMaxSegs(1))
    })
}

/// Sets how many packets may wait in front of an interface.
pub(crate) fn set_queue_length(interface: &str, packets: u32) -> Result<()> {
    set_link(interface, &format!("txqueuelen {packets}"), |link| {
        link.append_extra_attribute(LinkAttribute::TxQueueLen(packets))
    })
}

/// Adds an address with its prefix.
pub(crate) fn add_address(interface: &str, address: IpNet) -> Result<()> {
    let index = index_of(interface)?;
    request(
        || format!("ip address add {address} dev {interface}"),
        |netlink| async move {
            let mut add = netlink
                .address()
                .add(index, address.addr(), address.prefix_len());
            // Even with duplicate address detection off, an IPv6 address cannot be bound to until a
            // kernel worker has looked at it, unless it says by itself that it needs none.
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            add.execute().await
        },
    )
}

/// Removes an address.
pub(crate) fn delete_address(interface: &str, address: IpNet) -> Result<()> {
    let index = index_of(interface)?;
    request(
        || format!("ip address del {address} dev {interface}"),
        |netlink| async move {
            let mut add = netlink
                .address()
                .add(index, address.addr(), address.prefix_len());
            let message = add.message_mut().clone();
            netlink.address().del(message).execute().await
        },
    )
}

/// Adds a route through a gateway.
pub(crate) fn add_route(destination: IpNet, gateway: IpAddr) -> Result<()> {
    let route = route_to(destination)?
        .gateway(gateway)
        .map_err(|e| invalid_route(destination, &e))?
        .build();
    request(
        || format!("ip route add {destination} via {gateway}"),
        |netlink| async move { netlink.route().add(route).execute().await },
    )
}

/// Removes the route to a destination, whatever its gateway.
pub(crate) fn delete_route(destination: IpNet) -> Result<()> {
    // RT_SCOPE_NOWHERE and protocol 0 match any route, as `ip route del` has it.
    let route = route_to(destination)?
        .scope(RouteScope::NoWhere)
        .protocol(RouteProtocol::Unspec)
        .build();
    request(
        || format!("ip route del {destination}"),
        |netlink| async move { netlink.route().del(route).execute().await },
    )
}

fn route_to(destination: IpNet) -> Result<RouteMessageBuilder<IpAddr>> {
    RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(destination.network(), destination.prefix_len())
        .map_err(|e| invalid_route(destination, &e))
}

fn invalid_route(destination: IpNet, reason: &dyn std::error::Error) -> Error {
    Error::Netlink {
        operation: format!("route to {destination}"),
        reason: reason.to_string(),
    }
}

fn set_link(
    interface: &str,
    change: &str,
    build: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) -> Result<()> {
    let message = build(LinkUnspec::new_with_index(index_of(interface)?)).build();
    request(
        || format!("ip link set {interface} {change}"),
        |netlink| async move { netlink.link().set(message).execute().await },
    )
}

fn index_of(interface: &str) -> Result<u32> {
    if_nametoindex(interface).map_err(|e| Error::system(format!("interface {interface}"), e))
}

/// Runs one netlink request to its answer, on a runtime and a socket of its own: the socket belongs
/// to the namespace of the thread that makes it.
fn request<F, A>(operation: impl Fn() -> String, send: F) -> Result<()>
where
    F: FnOnce(Handle) -> A,
    A: Future<Output = Result<(), rtnetlink::Error>>,
{
    let failed = |e| Error::system(format!("{}: netlink socket", operation()), e);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        tokio::spawn(connection);
        send(handle).await.map_err(|e| Error::Netlink {
            operation: operation(),
            reason: match e {
                rtnetlink::Error::NetlinkError(e) => e.to_io().to_string(),
                e => e.to_string(),
            },
        })
    })
}
