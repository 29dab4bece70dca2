//! What only the headers show that routers quote, and what shows a NAT without them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Result, ensure};
use perpacket_lab::Chain;
use perpacket_path::{
    Checksum, HeaderChange, HeaderField, RawStatus, Trace, TraceConfig, TraceReport,
};
use perpacket_udp::{MessageOptions, Tos};

use super::scene::{Scene, raw, row, shared};
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::measured::{Measured, Way};

/// The second of four routers bleaches DSCP: the third is the first to see it.
pub(crate) fn marks_rewritten(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("remark_bleach_dscp", Way::Net, family)?;
    // EF and ECT(0).
    let config = TraceConfig {
        options: MessageOptions::NONE.with_tos(0xba),
        ..raw()
    };
    let (_, report) = scene.trace(config)?;
    ensure!(report.raw == RawStatus::Read, "{report:#?}");
    let ends = (
        scene.measured.prober.local(),
        scene.measured.prober.remote(),
    );
    for (ttl, tos) in [(1, 0xba), (2, 0xba), (3, 0x02), (4, 0x02)] {
        let hop = row(&report, ttl)?;
        let Some(quote) = hop.quote else {
            anyhow::bail!("{hop:#?}");
        };
        ensure!(quote.tos.byte() == tos, "{hop:#?}");
        ensure!((quote.source, quote.destination) == ends, "{hop:#?}");
        ensure!(quote.checksum == Checksum::Right, "{hop:#?}");
        ensure!(quote.ttl <= 1, "{hop:#?}");
    }
    ensure!(row(&report, 5)?.quote.is_none(), "the peer quotes nothing");
    let [from, to] = [0xba, 0x02].map(Tos::from_byte);
    change(&report, 2, 3, HeaderField::Tos { from, to })
}

/// The only change there is.
fn change(report: &TraceReport, after: u8, before: u8, field: HeaderField) -> Result<()> {
    let [change] = report.changes[..] else {
        anyhow::bail!("{report:#?}");
    };
    let HeaderChange {
        after: from,
        before: to,
        field: what,
        ..
    } = change;
    ensure!((from, to, what) == (after, before, field), "{change:?}");
    Ok(())
}

/// A NAT that puts back in quotes what it has changed (RFC 5508 §4.2): only the peer tells of it.
pub(crate) fn nat(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("nat", Way::Net, family)?;
    let (_, report) = scene.trace(raw())?;
    let outside: IpAddr = match family {
        Family::V4 => [203, 0, 113, 1].into(),
        Family::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    let mapped = report.mapped.map(|mapped| mapped.ip());
    ensure!(mapped == Some(outside), "{report:#?}");
    ensure!(report.local.ip() == scene.near, "{report:#?}");
    ensure!(report.peer_ttl == Some(5) && report.changes.is_empty());
    for ttl in 1..=4 {
        let hop = row(&report, ttl)?;
        ensure!(hop.address() == Some(scene.router(ttl)), "{hop:#?}");
        ensure!(hop.proved() && hop.quote.is_some(), "{hop:#?}");
    }
    Ok(())
}

/// A NAT that changes addresses and looks at nothing else. The quotes that come back name an address that is not this
/// host's, so that a socket with an address of its own does not hear of them.
pub(crate) fn stateless_nat(way: Way) -> Result<()> {
    let _shared = shared();
    let chain = Chain::new(3, 1500)?;
    let (near, far) = (chain.left_v4(), chain.right_v4());
    let outside = IpAddr::from([192, 0, 2, 1]);
    chain.routers[0].nft(&format!(
        "table ip t {{
            chain out {{
                type filter hook postrouting priority 0;
                ip saddr {near} ip daddr {far} ip saddr set {outside};
            }}
            chain back {{ type filter hook prerouting priority -300; ip daddr {outside} ip daddr set {near}; }}
        }}"
    ))?;
    for (router, gateway) in [
        (&chain.routers[1], "10.0.1.1"),
        (&chain.routers[2], "10.0.2.1"),
    ] {
        router.route("192.0.2.0/24", gateway)?;
    }
    let nodes = [&chain.left, &chain.right];
    let measured = Measured::new(nodes, [near, far], way)?;
    let trace = Trace::new(Arc::clone(&measured.prober), raw());
    let report = measured.left.block_on(async {
        let running = trace.start();
        tokio::time::timeout(DEADLINE, running.finish()).await
    })??;
    ensure!(report.peer_ttl == Some(4), "{report:#?}");
    for hop in &report.hops[..3] {
        let (address, _) = chain.router_seen_from_left(hop.ttl);
        ensure!(hop.address() == Some(address), "{hop:#?}");
        ensure!(hop.proved(), "{hop:#?}");
    }
    let [from, to] = [near, outside].map(|ip| SocketAddr::new(ip, report.local.port()));
    ensure!(report.mapped == Some(to), "{report:#?}");
    change(&report, 1, 2, HeaderField::Source { from, to })
}
