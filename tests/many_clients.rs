//! Many clients, and five dashboards that look at all of them: no sample is lost, the media goes on, and what that takes
//! is said. `PERPACKET_CLIENTS=200` for so many, 20 without; `PERPACKET_PACE=20` for so many milliseconds from one packet
//! of a client to its next, 100 without. The clients take as much of the machine as the server does.

#[path = "api/mod.rs"]
mod api;
mod many_clients {
    pub(crate) mod client;
    pub(crate) mod dashboard;
    pub(crate) mod server;
    pub(crate) mod usage;
}
mod support;
#[path = "whip/mod.rs"]
mod whip;

use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use perpacket_lab::{Chain, NodeRuntime, Test, until};

use api::operator::Operator;
use many_clients::client::Client;
use many_clients::dashboard::{Samples, follow, recorded};
use many_clients::server::{self, Running};
use many_clients::usage::Usage;
use support::connection::DEADLINE;

const DASHBOARDS: usize = 5;

/// How many samples of each client are looked at, without dashboards and with them.
const SAMPLES: usize = 15;

/// How many clients connect at a time.
const AT_A_TIME: usize = 2;

/// From one sample to the next, milliseconds.
const SECOND: i64 = 1_000;

fn main() -> ExitCode {
    if let Some(ended) = server::if_asked() {
        return ended;
    }
    let tests: Vec<Test> = vec![("no_sample_and_no_packet_is_lost", nothing_is_lost)];
    perpacket_lab::main(tests)
}

fn nothing_is_lost() -> Result<()> {
    let number = told("PERPACKET_CLIENTS", 20)?;
    let pace = told("PERPACKET_PACE", 100)?;
    ensure!(number > 0 && pace > 0, "no clients, or no pace");
    let chain = Chain::new(1, 1500)?;
    let (near, far) = chain.pairs()[0];
    let folder = tempfile::tempdir()?;
    let server = Running::start(&chain.right, far, &folder.path().join("history.db"))?;
    let runtime = Arc::new(chain.left.runtime()?);
    let operator = Operator {
        runtime: Arc::clone(&runtime),
        address: server.address,
        token: server.token.clone(),
    };

    let mut clients = Vec::new();
    let connecting = Usage::of(server.id())?;
    while clients.len() < number {
        let more = AT_A_TIME.min(number - clients.len());
        let coming = (0..more).map(|_| {
            let pace = Duration::from_millis(pace as u64);
            runtime.spawn(Client::connect(near, server.address, pace))
        });
        for client in coming.collect::<Vec<_>>() {
            let connected = runtime.block_on(client)?;
            clients.push(connected.with_context(|| format!("after {}", clients.len()))?);
        }
    }
    let before = Usage::of(server.id())?;
    println!("{number} clients connect: {}", before.since(&connecting));

    let last = &clients[number - 1].id;
    let known = recorded(&operator, last)?.len();
    until(
        DEADLINE,
        || "samples to be recorded".to_owned(),
        || {
            // Seldom: what is asked takes some of what is measured.
            thread::sleep(Duration::from_secs(1));
            let now = recorded(&operator, last).expect("an answer").len();
            Ok((now >= known + SAMPLES).then_some(()))
        },
    )?;
    let after = Usage::of(server.id())?;
    let packets = number * 1_000 / pace;
    println!("{number} clients, {packets} packets of media a second each way:");
    println!("  no dashboard: {}", after.since(&before));

    let before = Usage::of(server.id())?;
    let ids: Vec<_> = clients.iter().map(|client| &*client.id).collect();
    let seen = dashboards(&operator, &ids)?;
    let after = Usage::of(server.id())?;
    println!("  {DASHBOARDS} dashboards: {}", after.since(&before));

    for client in &clients {
        nothing_is_missing(&operator, &client.id, &seen)?;
    }
    media_came_back(&runtime, clients)?;
    server.end()
}

/// What the environment says, or this.
fn told(variable: &str, otherwise: usize) -> Result<usize> {
    match env::var(variable) {
        Ok(number) => number
            .parse()
            .with_context(|| format!("{variable}={number}")),
        Err(_) => Ok(otherwise),
    }
}

/// What each dashboard is told.
fn dashboards(operator: &Operator, clients: &[&str]) -> Result<Vec<Samples>> {
    let streams = (0..DASHBOARDS).map(|_| operator.follow("/api/events", &[]));
    let streams = streams.collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        let following = streams
            .into_iter()
            .map(|stream| scope.spawn(move || follow(stream, clients, SAMPLES)));
        let following: Vec<_> = following.collect();
        let ended = following.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|seen| seen.map_err(|_| anyhow!("a dashboard has panicked"))?)
            .collect()
    })
}

/// There is a sample of this client for every second that the dashboards were open, in all streams and in the history.
fn nothing_is_missing(operator: &Operator, client: &str, seen: &[Samples]) -> Result<()> {
    let newest = seen.iter().filter_map(|seen| seen[client].last()).max();
    let newest = *newest.context("no sample")?;
    let recorded = until(
        DEADLINE,
        || format!("the samples of {client} to be recorded"),
        || {
            let recorded = recorded(operator, client).expect("an answer");
            Ok(recorded
                .last()
                .is_some_and(|at| *at >= newest)
                .then_some(recorded))
        },
    )?;
    for seen in seen {
        let told = &seen[client];
        let (first, last) = (told[0], told[told.len() - 1]);
        let kept = recorded.iter().filter(|at| (first..=last).contains(at));
        ensure!(kept.eq(told), "told {told:?}, recorded {recorded:?}");
        // One that is late does not make the next one late.
        let seconds = usize::try_from((last - first) / SECOND)? + 1;
        let samples = told.len();
        ensure!(samples >= seconds, "{samples} in {seconds} s: {told:?}");
    }
    Ok(())
}

/// All that was sent.
fn media_came_back(runtime: &NodeRuntime, clients: Vec<Client>) -> Result<()> {
    let mut packets = 0;
    for mut client in clients {
        let (back, missing) = runtime.block_on(client.finish())?;
        ensure!(
            missing.is_empty(),
            "{} and {missing:?} did not come back to {}",
            back,
            client.id
        );
        packets += back;
        runtime.block_on(client.close())?;
    }
    println!("  {packets} packets came back, none was lost");
    Ok(())
}
