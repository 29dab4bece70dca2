//! The port of a client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use perpacket_webrtc::{AddressFamily, CustomMux, CustomNet};
use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use webrtc::ice::url::Url;

use super::signalling::Endpoint;
use crate::{args::Join, set};

/// How many STUN servers are asked, of those that an endpoint names. Two tell the kind of a NAT.
const STUN_SERVERS: usize = 4;

/// How long it may take to find them, and then to ask them: each time all at once.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(2);
const STUN_PATIENCE: Duration = Duration::from_secs(3);

/// One port of this host, which knows its outer address where the endpoint names a STUN server.
pub(super) async fn bind(args: &Join, endpoint: &Endpoint) -> Result<CustomMux> {
    let server = endpoint.address;
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
    let servers = find(&endpoint.stun_servers, is_v6).await;
    let net = CustomNet::new();
    set::apply(&net, &args.set)?;
    let mut mux = CustomMux::builder(&net).bind(address);
    for server in &servers {
        mux = mux.stun_server(*server);
    }
    let mux = mux
        .build()
        .with_context(|| format!("cannot send from {address}"))?;
    let mut asking = JoinSet::new();
    for server in servers {
        let mux = mux.clone();
        asking.spawn(async move { mux.discover(server).await });
    }
    // Without any of them there are the addresses of this host.
    let _ = timeout(STUN_PATIENCE, asking.join_all()).await;
    Ok(mux)
}

/// One address of each of the first STUN servers, as far as they are found in time.
async fn find(urls: &[String], is_v6: bool) -> Vec<SocketAddr> {
    let mut looking = JoinSet::new();
    let urls = urls.iter().filter_map(|url| Url::parse_url(url).ok());
    for url in urls.take(STUN_SERVERS) {
        looking.spawn(async move {
            let mut found = lookup_host((url.host.as_str(), url.port)).await.ok()?;
            found.find(|server| server.is_ipv6() == is_v6)
        });
    }
    let until = Instant::now() + LOOKUP_PATIENCE;
    let mut servers = Vec::new();
    while let Ok(Some(found)) = timeout_at(until, looking.join_next()).await {
        servers.extend(found.ok().flatten());
    }
    servers
}
