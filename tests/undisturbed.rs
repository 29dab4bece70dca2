//! A call does not notice that it is measured: nothing that it sends or receives is lost, late or different while all
//! measurements run at once, and while ICMP errors are forged besides.
//!
//! Each case looks at the call for some seconds without a measurement and with all of them, and in a storm of ICMP
//! errors again without and with. `PERPACKET_UNDISTURBED` says how many seconds each time: 2 by default. With 60, a case
//! takes a bit more than 4 minutes, and says what it saw:
//!
//! ```sh
//! PERPACKET_UNDISTURBED=60 cargo test --release -p perpacket-tests --test undisturbed -- net_v4 --nocapture
//! ```
//!
//! Times are judged from the application that sends to the far host's interface. How long it takes from there to the
//! other application is told, and judged too where this is built with optimisation: without, media that arrive behind
//! a burst of probes wait long for webrtc-rs to have read and answered all of them.
//!
//! What is seen while a hypervisor takes the processors away says nothing of measurements, and is looked at again. Where
//! that does not end, times are not judged, which is said aloud; nothing may be lost in any case.

mod support;
mod undisturbed {
    pub(crate) mod measuring;
    pub(crate) mod media;
    pub(crate) mod scene;
    pub(crate) mod storm;
    pub(crate) mod wire;
}

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Processors, STOLEN, Test};

use support::hosts::Family;
use support::measured::Way;
use support::processors::Awake;
use support::wire::complies;
use undisturbed::media::Received;
use undisturbed::scene::{During, HOPS, NARROW, OPTIONS, Scene, Seen};
use undisturbed::wire::Flow;

/// One call at a time: they would make each other late.
static ALONE: Mutex<()> = Mutex::new(());

/// What counts as late.
const LATE: Duration = Duration::from_millis(5);

/// How often a machine that is busy with something else may make packets late.
const TRIES: usize = 8;

/// Larger than any check of ICE, bytes of IP packet.
const LARGEST_CHECK: usize = 200;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("net_v4", || nothing_is_disturbed(Way::Net, Family::V4)),
        ("net_v6", || nothing_is_disturbed(Way::Net, Family::V6)),
        ("mux_v4", || nothing_is_disturbed(Way::Mux, Family::V4)),
        ("mux_v6", || nothing_is_disturbed(Way::Mux, Family::V6)),
    ];
    perpacket_lab::main(tests)
}

fn nothing_is_disturbed(way: Way, family: Family) -> Result<()> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _awake = Awake::new();
    let seconds = match env::var("PERPACKET_UNDISTURBED") {
        Ok(seconds) => seconds.parse().context("PERPACKET_UNDISTURBED")?,
        Err(_) => 2,
    };
    let long = Duration::from_secs(seconds);
    let mut scene = Scene::new(way, family)?;
    for (without, during) in [
        (During::Nothing, During::Measurements),
        (During::Storm, During::MeasurementsInStorm),
    ] {
        for tries_left in (0..TRIES).rev() {
            let before = Processors::now();
            let looked = Look::at(&mut scene, without, long)
                .and_then(|quiet| Ok((quiet, Look::at(&mut scene, during, long)?)));
            let stolen = before.stolen_since();
            if stolen > STOLEN && tries_left > 0 {
                let was = looked.map_or_else(|error| format!("{error:#}"), |_| "well".to_owned());
                eprintln!("{stolen:.2} of the time was stolen; it was: {was}");
                continue;
            }
            let (quiet, measured) = looked?;
            eprintln!("{way:?} {family:?}, {stolen:.2} of the time stolen\n{quiet}{measured}");
            // A machine that does something else too makes them late in either.
            if stolen > STOLEN {
                eprintln!(
                    "NOT JUDGED: times, because the hypervisor never left the processors alone"
                );
                break;
            }
            let checks = measured.checks_per_second / quiet.checks_per_second;
            let worst = quiet.worst() + LATE;
            if measured.worst() <= worst && (0.8..1.25).contains(&checks) {
                break;
            }
            ensure!(
                tries_left > 0,
                "later than {worst:?}, or {checks} of the checks of ICE:\n{quiet}{measured}"
            );
        }
    }
    scene.finish()
}

/// What is to be told of a while; nothing was lost, and nothing looked different.
struct Look {
    during: During,
    seen: Seen,
    flows: [Flow; 2],
    /// The longest that RTP took from one application to the other, and how much of it took too long.
    took: [Duration; 2],
    late: [usize; 2],
    probes: usize,
    errors: usize,
    checks_per_second: f64,
}

impl Look {
    fn at(scene: &mut Scene, during: During, long: Duration) -> Result<Self> {
        let seen = scene.see(during, long)?;
        let span = &seen.span;
        for packet in span.sent(0).chain(span.sent(1)) {
            ensure!(packet.fragment.is_none(), "cut: {packet}");
        }
        for side in [0, 1] {
            span.nothing_is_missing(side)?;
            all_come_out(&seen.received[side]).context(["there", "back"][side])?;
        }
        for packet in span.own(0) {
            ensure!(complies(packet, &OPTIONS), "not {OPTIONS:?}: {packet}");
        }
        for check in span.checks(0).chain(span.checks(1)) {
            ensure!(check.ip_total_len <= LARGEST_CHECK, "large: {check}");
        }
        let (probes, errors) = (span.probes().count(), span.errors());
        let is_measured = during.is_measured();
        // Both small ones and large ones, or none.
        let short = span.probes().filter(|probe| probe.ttl < HOPS).count();
        let large = span.probes().filter(|probe| probe.ip_total_len > NARROW);
        ensure!((large.count() > 0) == is_measured && (short > 0) == is_measured);
        ensure!(
            (errors > 0) == (during != During::Nothing),
            "{errors} ICMP errors"
        );
        // The storm's are many more than those that probes call forth.
        ensure!(!during.is_storm() || errors > 10 * probes, "{errors}");

        let flows = [0, 1].map(|side| span.flow(side, &seen.received[side]));
        for flow in &flows {
            ensure!(flow.lost == 0, "{flow:?}");
        }
        let took = |received: &[Received]| received.iter().map(|it| it.took).max();
        let late = |received: &[Received]| received.iter().filter(|it| it.took > LATE).count();
        let length = span.end.duration_since(span.start)?;
        let checks = u32::try_from(span.checks(0).count())?;
        Ok(Self {
            during,
            took: [0, 1].map(|side| took(&seen.received[side]).unwrap_or_default()),
            late: [0, 1].map(|side| late(&seen.received[side])),
            flows,
            probes,
            errors,
            checks_per_second: f64::from(checks) / length.as_secs_f64(),
            seen,
        })
    }

    /// The longest that anything took which is judged.
    fn worst(&self) -> Duration {
        let flows = self.flows.iter();
        let parts = flows.flat_map(|flow| [flow.transit, flow.to_the_wire]);
        let took = self.took.into_iter().filter(|_| !cfg!(debug_assertions));
        parts.chain(took).max().unwrap_or_default()
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.seen.span.end.duration_since(self.seen.span.start);
        writeln!(
            f,
            "{:?}, {:?}: {} probes, {} ICMP errors, {:.1} checks of ICE a second, {:?}",
            self.during,
            length.unwrap_or_default(),
            self.probes,
            self.errors,
            self.checks_per_second,
            self.seen.done,
        )?;
        for side in [0, 1] {
            let Flow {
                sent,
                lost,
                transit,
                to_the_wire,
                gap,
                from_the_wire,
            } = self.flows[side];
            writeln!(
                f,
                "    {}: {sent} sent, {lost} lost, RTP at most {gap:?} apart, {to_the_wire:?} to the wire, {transit:?} on the way, \
                 {from_the_wire:?} from the wire, {:?} from application to application, {} of {} RTP later than {LATE:?}",
                ["there", "back"][side],
                self.took[side],
                self.late[side],
                self.seen.received[side].len(),
            )?;
        }
        Ok(())
    }
}

/// Each packet of RTP after the one before.
fn all_come_out(received: &[Received]) -> Result<()> {
    let mut last = HashMap::new();
    for packet in received {
        if let Some(before) = last.insert(packet.ssrc, packet.sequence) {
            let after = u16::wrapping_add(before, 1);
            let overtaken = || {
                received
                    .iter()
                    .any(|it| it.ssrc == packet.ssrc && it.sequence == after)
            };
            ensure!(
                packet.sequence == after,
                "after {before}, whose next {}: {packet:?}",
                if overtaken() {
                    "comes later"
                } else {
                    "never comes"
                }
            );
        }
    }
    ensure!(last.len() == 2, "{last:?}");
    Ok(())
}
