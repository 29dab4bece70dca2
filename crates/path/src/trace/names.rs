//! The names of routers.

use std::{
    collections::{HashMap, HashSet},
    future::pending,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RData,
};
use tokio::task::JoinSet;

use super::config;

/// How many addresses are looked up in all.
const LOOKUPS: usize = 256;

/// How long a name server has for its answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Looks names up beside everything else, each address once.
#[derive(Default)]
pub(super) struct Names {
    resolver: Option<TokioResolver>,
    asked: HashSet<IpAddr>,
    known: HashMap<IpAddr, String>,
    lookups: JoinSet<(IpAddr, Option<String>)>,
}

impl Names {
    /// Without a configuration to go by there are no names.
    pub(super) fn new(source: &config::Names) -> Self {
        let resolver = match source {
            config::Names::Off => None,
            config::Names::System => resolver(None)
                .inspect_err(|error| tracing::warn!(%error, "no names of routers"))
                .ok(),
            config::Names::Servers(servers) => resolver(Some(servers))
                .inspect_err(|error| tracing::warn!(%error, "no names of routers"))
                .ok(),
        };
        Self {
            resolver,
            ..Self::default()
        }
    }

    /// Looks the address up, unless it was.
    pub(super) fn ask(&mut self, address: IpAddr) {
        let Some(resolver) = &self.resolver else {
            return;
        };
        if self.asked.len() < LOOKUPS && self.asked.insert(address) {
            let resolver = resolver.clone();
            self.lookups
                .spawn(async move { (address, look_up(&resolver, address).await) });
        }
    }

    /// Whether a lookup is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// The next lookup that ends: the address, if it has got a name. Cancel-safe; without a lookup under way it does
    /// not end.
    pub(super) async fn next(&mut self) -> Option<IpAddr> {
        match self.lookups.join_next().await {
            Some(Ok((address, Some(name)))) => {
                self.known.insert(address, name);
                Some(address)
            }
            Some(_) => None,
            None => pending().await,
        }
    }

    /// The name, if it is known.
    pub(super) fn of(&self, address: IpAddr) -> Option<String> {
        self.known.get(&address).cloned()
    }
}

fn resolver(servers: Option<&Vec<SocketAddr>>) -> Result<TokioResolver, NetError> {
    let mut builder = match servers {
        None => TokioResolver::builder_tokio()?,
        Some(servers) => {
            let servers = servers.iter().map(|server| {
                let mut udp = ConnectionConfig::udp();
                udp.port = server.port();
                NameServerConfig::new(server.ip(), true, vec![udp])
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.timeout = TIMEOUT;
    options.attempts = 1;
    builder.build()
}

async fn look_up(resolver: &TokioResolver, address: IpAddr) -> Option<String> {
    let lookup = resolver.reverse_lookup(address).await.ok()?;
    let name = lookup
        .answers()
        .iter()
        .find_map(|record| match &record.data {
            RData::PTR(name) => Some(name.0.to_utf8()),
            _ => None,
        })?;
    // Whoever owns the address chooses it, and it may be printed on a terminal.
    let name = name
        .trim_end_matches('.')
        .replace(char::is_control, "\u{fffd}");
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lookup_without_a_name_is_over_too() {
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut names = Names::default();
        for name in [None, Some("a.example".to_owned()), None] {
            let expected = name.as_ref().map(|_| address);
            names.lookups.spawn(async move { (address, name) });
            assert!(names.is_busy());
            let ended = tokio::time::timeout(TIMEOUT, names.next()).await;
            assert_eq!(ended.expect("the lookup has ended"), expected);
            assert!(!names.is_busy());
        }
        assert_eq!(names.of(address).as_deref(), Some("a.example"));
    }
}
