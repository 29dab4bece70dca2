//! The names of routers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use perpacket_path::{Names, TraceConfig, TraceEvent};
use tokio::net::UdpSocket;

use super::scene::{Scene, picture, row, shared};
use crate::support::hosts::Family;
use crate::support::measured::Way;
use crate::support::peer::{Peer, Task};

/// A name server on the left host that gives every address this name, or none if there is none.
fn name_server(on: &Peer, name: Option<&'static str>) -> Result<(SocketAddr, Task<()>)> {
    let socket = on.block_on(UdpSocket::bind("127.0.0.1:0"))?;
    let address = socket.local_addr()?;
    let task = on.spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            if let Some(answer) = name.and_then(|name| answer(&query[..length], name)) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    Ok((address, task))
}

/// RFC 1035 §4: the header, the question as it was, and a PTR record that points back at it.
fn answer(query: &[u8], name: &str) -> Option<Vec<u8>> {
    let id = query.get(..2)?;
    let end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
    let mut target = Vec::new();
    for label in name.split('.') {
        target.push(u8::try_from(label.len()).ok()?);
        target.extend(label.bytes());
    }
    target.push(0);
    let mut answer = [id, &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]].concat();
    answer.extend(query.get(12..end)?);
    answer.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0]);
    answer.push(u8::try_from(target.len()).ok()?);
    answer.extend(target);
    Some(answer)
}

fn with_names(server: SocketAddr) -> TraceConfig {
    TraceConfig {
        names: Names::Servers(vec![server]),
        ..TraceConfig::default()
    }
}

pub(crate) fn names(family: Family) -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, family)?;
    let name = "router.lab.example";
    let (server, _answering) = name_server(&scene.measured.left, Some(name))?;
    let (events, report) = scene.trace(with_names(server))?;
    for hop in &report.hops {
        let address = hop.addresses.first().context("silent")?;
        ensure!(address.name.as_deref() == Some(name), "{hop:#?}");
    }
    let named = events.iter().any(|event| {
        matches!(event, TraceEvent::Hop(hop) if hop.addresses.iter().any(|at| at.name.is_some()))
    });
    ensure!(named);
    Ok(())
}

/// They are not waited for: neither by the rows, nor for long at the end.
pub(crate) fn no_answer() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    let (server, _silent) = name_server(&scene.measured.left, None)?;
    let start = Instant::now();
    let (events, report) = scene.trace(with_names(server))?;
    // The answer would have two seconds.
    ensure!(start.elapsed() < Duration::from_secs(2));
    let (after, _) = picture(&events)?;
    ensure!(after < Duration::from_millis(500), "{after:?}");
    ensure!(report.hops.len() == 5);
    ensure!(row(&report, 1)?.addresses[0].name.is_none());
    Ok(())
}

/// Whatever name server the system has: from here it cannot be reached.
pub(crate) fn system() -> Result<()> {
    let _shared = shared();
    let scene = Scene::load("four_hops", Way::Net, Family::V4)?;
    let config = TraceConfig {
        names: Names::System,
        ..TraceConfig::default()
    };
    let (_, report) = scene.trace(config)?;
    ensure!(report.hops.len() == 5, "{report:#?}");
    Ok(())
}
