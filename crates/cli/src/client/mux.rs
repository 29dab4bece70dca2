//! The port of a client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use perpacket_webrtc::{AddressFamily, CustomMux};
use tokio::{net::lookup_host, time::timeout};
use webrtc::ice::url::Url;

use super::signalling::Endpoint;
use crate::{args::Join, set};

/// How long a STUN server may take.
const STUN_PATIENCE: Duration = Duration::from_secs(3);

/// One port of this host, which knows its outer address where the endpoint names a STUN server.
pub(super) async fn bind(args: &Join, endpoint: &Endpoint) -> Result<CustomMux> {
    let server = endpoint.address.map(|address| address.ip().to_canonical());
    let is_v6 = match args.family() {
        Some(family) => family == AddressFamily::V6,
        None => server.is_some_and(|server| server.is_ipv6()),
    };
    let any: IpAddr = if is_v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    // A wildcard address does not stand for those of the loopback interface.
    let loopback = server.filter(|server| server.is_loopback() && server.is_ipv6() == is_v6);
    let address = SocketAddr::new(args.bind.or(loopback).unwrap_or(any), args.udp_port);
    let mut servers = Vec::new();
    for url in &endpoint.stun_servers {
        // The server's own candidates may do without.
        let Ok(url) = Url::parse_url(url) else {
            continue;
        };
        if let Ok(found) = lookup_host((url.host.as_str(), url.port)).await {
            servers.extend(found.filter(|server| server.is_ipv6() == is_v6));
        }
    }
    let mut mux = CustomMux::builder(&set::net(&args.set)?).bind(address);
    for server in &servers {
        mux = mux.stun_server(*server);
    }
    let mux = mux
        .build()
        .with_context(|| format!("cannot send from {address}"))?;
    for server in servers {
        let _ = timeout(STUN_PATIENCE, mux.discover(server)).await;
    }
    Ok(mux)
}
