//! The trace of an ordinary user: a program without any capability, on the left host.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _, stdin};
use std::net::IpAddr;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Wan, require_program};
use perpacket_path::{MeasureError, RawMode, Trace, TraceConfig};
use perpacket_webrtc::{CustomNet, Prober};
use serde_json::Value;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;

use super::scene::{raw, shared};
use crate::support::connection::{self, Channel};
use crate::support::hosts::Family;
use crate::support::peer::Peer;

/// Says to this program that it is the child, and its address.
const CHILD: &str = "PERPACKET_TRACE_AS_USER";

pub(crate) fn ordinary_user(family: Family) -> Result<()> {
    let _shared = shared();
    let setpriv = require_program("setpriv", "apt-get install util-linux")?;
    let wan = Wan::load("remark_bleach_dscp")?;
    let (near, far) = wan.pairs()[family as usize];
    let mut command = Command::new(setpriv);
    command
        .args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"])
        .arg(env::current_exe()?)
        .env(CHILD, near.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = wan.left().spawn(&mut command)?;
    let mut input = child.child().stdin.take().context("a pipe")?;
    let output = child.child().stdout.take().context("a pipe")?;
    let mut lines = BufReader::new(output).lines();
    let mut next = || anyhow::Ok(lines.next().context("the child has ended")??);

    let runtime = Arc::new(wan.right().runtime()?);
    let peer = Peer::with(&runtime, far, |_| {})?;
    let offer: RTCSessionDescription = serde_json::from_str(&next()?)?;
    let answer = peer.block_on(connection::answer(&peer.connection, offer))?;
    writeln!(input, "{}", serde_json::to_string(&answer)?)?;

    let refused = next()?;
    ensure!(refused.contains("CAP_NET_RAW"), "{refused}");
    let report: Value = serde_json::from_str(&next()?)?;
    child.wait()?;
    ensure!(report["raw"]["status"] == "unavailable", "{report:#}");
    ensure!(report["raw"]["unseen"].is_string(), "{report:#}");
    ensure!(report["peer_ttl"] == 5, "{report:#}");
    for (number, hop) in (1..).zip(report["hops"].as_array().context("rows")?) {
        let address = match number {
            5 => far,
            _ => wan.hop(number).address(near),
        };
        ensure!(hop["ttl"] == number, "{hop:#}");
        ensure!(hop["addresses"][0]["address"] == address.to_string());
        ensure!(hop["attribution"] == "transaction_id", "{hop:#}");
        ensure!(hop["clock"] == "kernel", "{hop:#}");
        ensure!(hop["reply_ttl"].is_u64() && hop["quote"].is_null());
        ensure!(
            hop["rtt"]["median_us"]
                .as_f64()
                .is_some_and(|us| us > 1900.0)
        );
    }
    Ok(())
}

/// What the child does; `None` in any other process.
pub(crate) fn child() -> Option<ExitCode> {
    let address = env::var(CHILD).ok()?;
    let done = address.parse().map_err(anyhow::Error::from).and_then(trace);
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("as an ordinary user: {error:?}");
            ExitCode::FAILURE
        }
    })
}

#[tokio::main]
async fn trace(address: IpAddr) -> Result<()> {
    let session = CustomNet::new().session("child");
    let configuration = RTCConfiguration::default();
    let connection = connection::new(address, configuration, |settings| {
        session.install(settings);
    });
    let connection = Arc::new(connection.await?);
    let mut channel = Channel::new(&connection);
    channel.offer(&connection).await?;
    let offer = connection::offer(&connection, false).await?;
    println!("{}", serde_json::to_string(&offer)?);
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    let answer = serde_json::from_str(&answer)?;
    connection.set_remote_description(answer).await?;
    channel.greet().await?;

    let prober = Arc::new(Prober::new(&session, &connection).await?);
    let demanded = Trace::new(Arc::clone(&prober), raw())
        .start()
        .finish()
        .await;
    let refused = demanded.err().context("it was permitted")?;
    ensure!(matches!(refused, MeasureError::Unavailable { .. }));
    println!("{refused}");
    let config = TraceConfig {
        raw: RawMode::IfPermitted,
        ..TraceConfig::default()
    };
    let report = Trace::new(prober, config).start().finish().await?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
