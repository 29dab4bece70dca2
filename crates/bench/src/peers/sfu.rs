//! A server that forwards one publisher's RTP to many subscribers.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::client::{Publisher, Subscriber};
use super::compare::{ratio, rows};
use super::runtime;
use super::server::Server;
use super::way::Way;
use crate::measure::{Contender, Sample, Spread, as_f64, in_turn};
use crate::report::{Options, Outcome};

/// What is compared. Gathering is of use only where subscribers share a socket.
const WAYS: [Way; 6] = [
    Way::Stock,
    Way::Net,
    Way::StockMux,
    Way::Mux,
    Way::MuxBatched,
    Way::Next,
];

/// What a publisher sends, packets a second.
const PACE: u32 = 1_000;

/// Packets of a turn. So few that what a slow server has not read yet stays within its socket's buffer.
const PACKETS: u64 = 100;

/// Turns are short, so there are more of them than rounds of other benchmarks.
const TURNS: usize = 3;

/// How long a server may take after the last packet was sent to it.
const LATE: Duration = Duration::from_secs(2);

/// What was handed to a peer connection is sent within this time: it is part of the processor time.
const SETTLE: Duration = Duration::from_millis(20);

const NAME: &str = "sfu/cpu";

/// A server with all its clients.
struct Scene {
    server: Server,
    publisher: Publisher,
    subscribers: Vec<Subscriber>,
    /// Packets that were sent to the server.
    sent: u64,
}

/// All servers are up all the time; in each round each of them forwards for a while.
pub(super) fn run(options: &Options) -> Result<Outcome> {
    let subscribers = if options.quick { 10 } else { 50 };
    let runtime = runtime()?;
    let mut scenes = Vec::new();
    for way in WAYS {
        let scene = runtime.block_on(Scene::new(way, subscribers));
        scenes.push((way, RefCell::new(scene.with_context(|| way.name())?)));
    }
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for (way, scene) in &scenes {
        let runtime: &Runtime = &runtime;
        let forward = move || runtime.block_on(scene.borrow_mut().forward());
        contenders.push((way.name().to_owned(), Box::new(forward)));
    }
    let samples = in_turn(&mut contenders, options.rounds * TURNS)?;
    drop(contenders);

    let spreads = |figure: fn(&Sample) -> f64| {
        let ways = scenes.iter().map(|(way, _)| *way);
        let spreads = samples
            .iter()
            .map(move |s| Spread::of(s.iter().map(figure)));
        ways.zip(spreads).collect::<Vec<_>>()
    };
    let mut rows = rows(
        NAME,
        "us/packet",
        spreads(|sample| sample.nanoseconds() / 1e3),
    );
    let forwarded = spreads(Sample::per_second);
    for ((row, (_, per_second)), (_, scene)) in rows.iter_mut().zip(forwarded).zip(&scenes) {
        let scene = scene.borrow();
        let arrived = as_f64(scene.subscribers[0].arrived()) / as_f64(scene.sent);
        let note = format!(
            "{subscribers} subscribers, {PACE} packets/s to each; {:.1}% arrived at the one that listens",
            100.0 * arrived
        );
        *row = row.clone().per_second(per_second.median).note(note);
    }
    let cost = ratio(&rows, NAME, Way::MuxBatched);
    for (_, scene) in scenes {
        runtime.block_on(scene.into_inner().close());
    }
    let mut outcome = Outcome {
        rows,
        ..Outcome::default()
    };
    if let Some(cost) = cost {
        outcome.bar("fan-out", cost);
    }
    Ok(outcome)
}

impl Scene {
    async fn new(way: Way, number: usize) -> Result<Self> {
        let server = Server::start(way)?;
        let publisher = Publisher::connect(&server).await?;
        let mut subscribers = Vec::with_capacity(number);
        for index in 0..number {
            subscribers.push(Subscriber::connect(&server, index == 0).await?);
        }
        Ok(Self {
            server,
            publisher,
            subscribers,
            sent: 0,
        })
    }

    /// What the server spends on forwarding some packets.
    async fn forward(&mut self) -> Result<Sample> {
        let before = self.server.usage().await?;
        let begun = Instant::now();
        self.publisher.send(PACKETS, PACE).await?;
        self.sent += PACKETS;
        let all = before.forwarded + PACKETS * self.subscribers.len() as u64;
        let limit = Instant::now() + LATE;
        while self.server.usage().await?.forwarded < all && Instant::now() < limit {
            sleep(Duration::from_millis(5)).await;
        }
        let wall = begun.elapsed();
        sleep(SETTLE).await;
        let after = self.server.usage().await?;
        Ok(Sample {
            cpu: after.cpu.saturating_sub(before.cpu),
            wall,
            count: after.forwarded - before.forwarded,
            ..Sample::default()
        })
    }

    async fn close(self) {
        drop(self.server);
        for subscriber in self.subscribers {
            subscriber.close().await;
        }
    }
}
