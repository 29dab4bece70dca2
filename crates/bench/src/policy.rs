//! Looking up what a datagram gets, among many peers, while somebody changes it.

use std::{
    fs,
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use perpacket_webrtc::{PacketClass, Policy};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    again,
    measure::{Contender, Sample, Spread, as_f64, in_turn},
    packet::options as options_of,
    report::{Benchmark, Options, Outcome, Row, rows},
};

/// How many peers there are.
const PEERS: [u32; 3] = [10, 1000, 100_000];

/// How many of them memory is measured with.
const MANY: u32 = 100_000;

/// Between two changes: 1,000 in a second.
const BETWEEN: Duration = Duration::from_millis(1);

/// How many lookups there are in a round, and so how many peers are drawn.
const LOOKUPS: usize = 1 << 17;

/// The benchmarks of the policy.
pub(crate) fn benchmarks() -> Vec<Benchmark> {
    vec![Benchmark {
        name: "policy",
        about: "lookups of peers at random, while 1,000 entries a second are changed; memory",
        run,
    }]
}

fn run(options: &Options) -> Result<Outcome> {
    let lookups = if options.quick { LOOKUPS / 16 } else { LOOKUPS };
    let policies = PEERS.map(|peers| (peers, with_peers(peers)));
    let orders = PEERS.map(|peers| order(peers, lookups));
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for ((peers, policy), order) in policies.iter().zip(&orders) {
        let look_up = move || Sample::of_thread(|| look_up(policy, order));
        let name = format!("policy/{peers}/quiet");
        contenders.push((name, Box::new(look_up)));
        let while_changed = move || while_changed(policy, *peers, look_up);
        let name = format!("policy/{peers}/busy");
        contenders.push((name, Box::new(while_changed)));
    }
    let samples = in_turn(&mut contenders, options.rounds)?;
    let names = contenders.iter().map(|(name, _)| name.as_str());
    let mut outcome = Outcome {
        rows: rows(names.zip(&samples)),
        ..Outcome::default()
    };
    if let Some(most) = outcome.rows.last() {
        let median = most.median;
        outcome.bar("lookup", median);
    }
    let memory = (0..options.rounds.min(3)).map(|_| memory());
    let memory = Spread::of(memory.collect::<Result<Vec<_>>>()?);
    let row = Row::new(format!("policy/{MANY}/memory"), "bytes a peer", memory);
    outcome.rows.push(row.note("resident"));
    Ok(outcome)
}

fn look_up(policy: &Policy, order: &[SocketAddr]) -> Result<u64> {
    for peer in order {
        black_box(policy.resolve(*black_box(peer), PacketClass::Srtp));
    }
    Ok(u64::try_from(order.len())?)
}

/// Does that while another thread changes the policy.
fn while_changed(
    policy: &Policy,
    peers: u32,
    work: impl FnOnce() -> Result<Sample>,
) -> Result<Sample> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut random = SmallRng::seed_from_u64(2);
            while !done.load(Relaxed) {
                let (changed, value) = (random.random_range(0..peers), random.random());
                policy.set_peer_options(peer(changed), options_of(value))?;
                thread::sleep(BETWEEN);
            }
            Ok(())
        });
        let sample = work();
        done.store(true, Relaxed);
        match writer.join() {
            Ok(written) => written.and(sample),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn with_peers(number: u32) -> Policy {
    let policy = Policy::new();
    for number in 0..number {
        policy
            .set_peer_options(peer(number), options_of(number))
            .expect("they are in range");
    }
    policy
}

/// Peers at random, but the same each time.
fn order(peers: u32, length: usize) -> Vec<SocketAddr> {
    let mut random = SmallRng::seed_from_u64(1);
    let at_random = |_| peer(random.random_range(0..peers));
    (0..length).map(at_random).collect()
}

fn peer(number: u32) -> SocketAddr {
    let [.., high, low] = number.to_be_bytes();
    let ip = Ipv4Addr::from(0x0a00_0000 + number);
    SocketAddr::new(ip.into(), u16::from_be_bytes([high | 0x80, low]))
}

/// Bytes of memory for each of many peers, in a process of its own, where nothing was freed before.
fn memory() -> Result<f64> {
    again::figure(&["--memory", &MANY.to_string()])
}

/// What [`memory`] runs.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn memory_of(peers: u32) -> Result<f64> {
    let before = resident()?;
    let policy = with_peers(peers);
    let after = resident()?;
    black_box(&policy);
    Ok(as_f64(after.saturating_sub(before)) / f64::from(peers))
}

/// Resident memory of this process, bytes (`proc_pid_status(5)`).
fn resident() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status").context("resident memory")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes: u64 = kilobytes.context("resident memory")?.parse()?;
    Ok(kilobytes << 10)
}
