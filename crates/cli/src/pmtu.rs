//! `pmtu`: how large a packet the path carries.

use std::{net::IpAddr, time::Duration};

use anyhow::Result;
use clap::Args as ClapArgs;
use perpacket_path::{
    PathMtu, PathMtuChange, PathMtuConfig, PathMtuEvent, PathMtuReport, PathMtuResult,
    PathMtuWatch, PathMtuWatchConfig, PathMtuWatchReport, Whose,
};
use perpacket_webrtc::udp::MessageOptions;
use serde::Serialize;

use crate::{
    args::parse_seconds,
    exit::Outcome,
    measure::{Common, Measured, Show, parse_marks},
    output::{line, micros, millis, progress::Waiting},
};

/// Find the largest packet that the path of the media carries whole.
///
/// With --watch it goes on until Ctrl-C, and tells when that changes.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,

    /// The largest packet to try, bytes with the IP header; by default what the interface carries.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1200..=65_500))]
    cap: Option<u16>,

    /// Go on until the result is exact, where it is none of the common sizes.
    #[arg(long)]
    exact: bool,

    /// After what time without an answer a probe is lost; by default three round trips, 0.2 at least.
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = parse_seconds)]
    wait: Option<Duration>,

    /// What else the header of the probes says: tos, dscp, ecn.
    #[arg(long, value_name = "FIELD=VALUE[,…]", value_parser = parse_marks)]
    probes: Option<MessageOptions>,

    /// Keep looking whether it changes.
    #[arg(long)]
    watch: bool,

    /// How often, with --watch.
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = parse_seconds)]
    interval: Duration,
}

impl Args {
    fn config(&self) -> PathMtuConfig {
        PathMtuConfig {
            cap: self.cap.map(usize::from),
            refine: self.exact,
            timeout: self.wait,
            options: self.probes.unwrap_or_default(),
            ..PathMtuConfig::default()
        }
    }
}

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    let config = args.config();
    Measured::with(&args.common, async |measured| {
        let prober = measured.prober.clone();
        if args.watch {
            let config = PathMtuWatchConfig {
                search: config,
                interval: args.interval,
                ..PathMtuWatchConfig::default()
            };
            let running = PathMtuWatch::new(prober, config).start();
            return measured
                .show(running, &mut Watch::default())
                .await
                .map(|(_, outcome)| outcome);
        }
        let running = PathMtu::new(prober, config).start();
        let mut text = Text {
            waiting: Waiting::new("searching".to_owned()),
            refine: args.exact,
            is_answered: false,
        };
        measured
            .show(running, &mut text)
            .await
            .map(|(_, outcome)| outcome)
    })
    .await
}

struct Text {
    waiting: Waiting,
    refine: bool,
    is_answered: bool,
}

/// The result as comma-separated values.
#[derive(Clone, Debug, Serialize)]
struct Row {
    mtu: usize,
    exact: bool,
    upper: Option<usize>,
    cap: usize,
    complete: bool,
    udp_payload: usize,
    rtp_payload: usize,
    sctp: usize,
    probes: usize,
    answered: usize,
    peer_limit: Option<usize>,
    rtt_us: Option<f64>,
}

impl Show for Text {
    type Event = PathMtuEvent;
    type Report = PathMtuReport;
    type Row = Row;

    fn seen(&mut self, event: &PathMtuEvent) {
        // Until then nothing is known to pass.
        self.is_answered |= event.probe.result.is_answered();
        if self.is_answered {
            self.waiting.says(format!("{} bytes pass", event.mtu));
        }
    }

    fn event(&mut self, event: &PathMtuEvent) -> Result<()> {
        let probe = &event.probe;
        let says =
            |from: &Option<IpAddr>| from.map_or("somebody".to_owned(), |from| from.to_string());
        let of = |mtu: &Option<u32>| mtu.map_or_else(String::new, |mtu| format!(", {mtu} pass"));
        let result = match &probe.result {
            PathMtuResult::Answered { rtt, .. } => format!("passes, {} ms", millis(*rtt)),
            PathMtuResult::TooBig { from, mtu, proved } => format!(
                "too big, says {}{}{}",
                says(from),
                of(mtu),
                if *proved { "" } else { ", and proves nothing" }
            ),
            PathMtuResult::TooBigHere { mtu } => {
                format!("too big for this host's interface{}", of(mtu))
            }
            PathMtuResult::Icmp { from, error } => format!("{error}, says {}", says(from)),
            PathMtuResult::Lost => "no answer".to_owned(),
            other => format!("{other:?}"),
        };
        let whole = if probe.df { "" } else { " (may be fragmented)" };
        self.waiting
            .aside(|| line(format_args!("{:>6} {result}{whole}", probe.size)))?;
        Ok(())
    }

    fn report(&mut self, report: &PathMtuReport) -> Result<()> {
        self.waiting.end();
        let sure = match report.upper {
            _ if !report.complete => ", as far as it got".to_owned(),
            _ if report.peer_limit.is_some() => ", as far as the server answers".to_owned(),
            None => ", the largest that was tried".to_owned(),
            Some(upper) if report.exact => format!(", exact: {upper} do not"),
            Some(upper) if self.refine => format!(", {upper} do not"),
            Some(upper) => format!("; {upper} do not, and --exact finds what is between"),
        };
        line(format_args!("{} bytes pass{sure}", report.mtu))?;
        let room = &report.room;
        line(format_args!(
            "of these {} for UDP payload, {} for RTP payload, {} for SCTP data",
            room.udp_payload, room.rtp_payload, room.sctp
        ))?;
        if let Some(limit) = report.peer_limit {
            let whose = match limit.whose {
                Whose::Peer => "that is very likely the server's own limit",
                _ => "that is the server's own limit, or the path's",
            };
            line(format_args!(
                "no STUN message above {} bytes is answered, fragmented or not: {whose}",
                limit.stun
            ))?;
        }
        if report.stray_icmp > 0 {
            line(format_args!(
                "{} ICMP errors were about something else, or forged",
                report.stray_icmp
            ))?;
        }
        Ok(())
    }

    fn rows(&self, report: &PathMtuReport) -> Vec<Row> {
        let answered = report.how.iter().filter(|probe| probe.result.is_answered());
        vec![Row {
            mtu: report.mtu,
            exact: report.exact,
            upper: report.upper,
            cap: report.cap,
            complete: report.complete,
            udp_payload: report.room.udp_payload,
            rtp_payload: report.room.rtp_payload,
            sctp: report.room.sctp,
            probes: report.how.len(),
            answered: answered.count(),
            peer_limit: report.peer_limit.map(|limit| limit.stun),
            rtt_us: report.rtt.map(micros),
        }]
    }

    fn outcome(&self, _: &PathMtuReport) -> Outcome {
        // Where the peer answers nothing there is no report.
        Outcome::Done
    }
}

/// A watch, and whether the server answers nothing, by the newest that was heard.
#[derive(Default)]
struct Watch {
    is_unreachable: bool,
}

impl Show for Watch {
    type Event = PathMtuChange;
    type Report = PathMtuWatchReport;
    type Row = PathMtuWatchReport;

    fn seen(&mut self, event: &PathMtuChange) {
        self.is_unreachable = matches!(event, PathMtuChange::Unreachable);
    }

    fn event(&mut self, event: &PathMtuChange) -> Result<()> {
        match event {
            PathMtuChange::Watching { mtu } => line(format_args!("{mtu} bytes pass"))?,
            PathMtuChange::BlackHole { mtu } => {
                line(format_args!("{mtu} bytes pass no more, and nobody says so"))?;
            }
            PathMtuChange::Fell { from, to } => {
                line(format_args!("{to} bytes pass, where {from} did"))?;
            }
            PathMtuChange::Rose { from, to } => {
                line(format_args!("{to} bytes pass by now, where {from} did"))?;
            }
            PathMtuChange::Unchanged { mtu } => line(format_args!("{mtu} bytes pass as before"))?,
            PathMtuChange::Unreachable => line(format_args!("nothing passes"))?,
            PathMtuChange::Reachable => line(format_args!("small packets pass again"))?,
            other => line(format_args!("{other:?}"))?,
        }
        Ok(())
    }

    fn report(&mut self, report: &PathMtuWatchReport) -> Result<()> {
        line(format_args!(
            "{} checks, {} of them lost",
            report.checks, report.lost
        ))?;
        Ok(())
    }

    fn rows(&self, report: &PathMtuWatchReport) -> Vec<PathMtuWatchReport> {
        vec![*report]
    }

    fn outcome(&self, report: &PathMtuWatchReport) -> Outcome {
        match report.mtu {
            Some(_) if !self.is_unreachable => Outcome::Done,
            _ => Outcome::NotReached,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_no_more_is_not_reached() {
        let mut report = PathMtuWatchReport::default();
        let mut watch = Watch::default();
        assert_eq!(watch.outcome(&report), Outcome::NotReached);
        report.mtu = Some(1500);
        for (event, expected) in [
            (PathMtuChange::Watching { mtu: 1500 }, Outcome::Done),
            (PathMtuChange::Unreachable, Outcome::NotReached),
            (PathMtuChange::Reachable, Outcome::Done),
        ] {
            watch.seen(&event);
            assert_eq!(watch.outcome(&report), expected, "{event:?}");
        }
    }
}
