//! What a session description says of ICE (RFC 8839).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

use super::peer::Peer;

/// A candidate: its type and its address.
pub(crate) type Candidate = (String, SocketAddr);

/// What a peer offers the other.
pub(crate) struct Description {
    pub(crate) candidates: BTreeSet<Candidate>,
    pub(crate) ufrag: String,
    pub(crate) password: String,
}

impl Description {
    /// The description that a peer has given last.
    pub(crate) fn of(peer: &Peer) -> Result<Self> {
        let description = peer.block_on(peer.connection.local_description());
        Self::parse(&description.context("no description yet")?.sdp)
    }

    pub(crate) fn parse(sdp: &str) -> Result<Self> {
        let value = |name: &str| {
            let values = sdp.lines().filter_map(|line| line.strip_prefix(name));
            let mut values = values.map(str::to_owned);
            values.next().with_context(|| format!("no {name}"))
        };
        let candidates = sdp
            .lines()
            .filter_map(|line| line.strip_prefix("a=candidate:"))
            .map(|line| candidate(line).with_context(|| line.to_owned()))
            .collect::<Result<_>>()?;
        Ok(Self {
            candidates,
            ufrag: value("a=ice-ufrag:")?,
            password: value("a=ice-pwd:")?,
        })
    }

    /// The addresses of the candidates of a type.
    pub(crate) fn addresses(&self, kind: &str) -> BTreeSet<IpAddr> {
        let of_type = self.candidates.iter().filter(|(of, _)| of == kind);
        of_type.map(|(_, address)| address.ip()).collect()
    }

    /// The ports of all candidates.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let addresses = self.candidates.iter();
        addresses.map(|(_, address)| address.port()).collect()
    }
}

/// Foundation, component, transport, priority, address, port, `typ`, type (RFC 8839 §5.1).
fn candidate(line: &str) -> Result<Candidate> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [_, _, _, _, address, port, "typ", kind, ..] = fields[..] else {
        anyhow::bail!("no candidate");
    };
    Ok((
        kind.to_owned(),
        (address.parse::<IpAddr>()?, port.parse()?).into(),
    ))
}
