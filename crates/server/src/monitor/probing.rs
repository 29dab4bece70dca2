//! Round trips and losses of a client, by checks like those of ICE.
//!
//! webrtc-rs 0.17 measures no round trips of its own checks: `current_round_trip_time` of its statistics is always
//! zero, as is all that it says of a pair beside its state (`AgentInternal::get_candidate_pairs_stats` of webrtc-ice).

use std::{sync::Arc, time::Duration};

use perpacket_webrtc::{Probe, ProbeResult, Prober, udp::MessageOptions};
use tokio::task::JoinSet;

/// How often a client is asked. Five checks a second are 3 kbit/s each way.
pub(super) const EVERY: Duration = Duration::from_millis(200);

/// After what time a check is lost: full queues of home routers hold packets for more than a second.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The checks that are out, and what became of the others since the last look.
#[derive(Debug, Default)]
pub(super) struct Probing {
    out: JoinSet<Option<Outcome>>,
    rtts: Vec<Duration>,
    lost: u32,
    /// The last round trip before those.
    last: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Answered(Duration),
    Lost,
}

/// What became of the checks of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Checked {
    /// The mean.
    pub(super) rtt: Option<Duration>,
    /// The mean difference from one to the next.
    pub(super) jitter: Option<Duration>,
    pub(super) loss: Option<f64>,
}

impl Probing {
    /// Sends a check with this header.
    pub(super) fn ask(&mut self, prober: &Arc<Prober>, options: MessageOptions) {
        let prober = Arc::clone(prober);
        self.out.spawn(async move {
            let probe = Probe::new().with_options(options).with_timeout(TIMEOUT);
            // What this host cannot send says nothing of the path.
            let outcome = prober.probe(probe).await.ok()?;
            Some(match outcome.result {
                ProbeResult::Answered(answer) => Outcome::Answered(answer.rtt.time),
                _ => Outcome::Lost,
            })
        });
    }

    /// What has become of one; to be awaited while any is out. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Outcome> {
        match self.out.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) => None,
            None => std::future::pending().await,
        }
    }

    pub(super) fn heard(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered(rtt) => self.rtts.push(rtt),
            Outcome::Lost => self.lost += 1,
        }
    }

    /// What was heard since the last call.
    pub(super) fn take(&mut self) -> Checked {
        let rtts = std::mem::take(&mut self.rtts);
        let lost = std::mem::take(&mut self.lost);
        let answered = u32::try_from(rtts.len()).unwrap_or(u32::MAX);
        let mean = |times: &[Duration]| {
            let count = u32::try_from(times.len()).ok().filter(|count| *count > 0)?;
            Some(times.iter().sum::<Duration>() / count)
        };
        let all: Vec<_> = self.last.into_iter().chain(rtts.iter().copied()).collect();
        let differences: Vec<_> = all
            .windows(2)
            .map(|pair| pair[0].abs_diff(pair[1]))
            .collect();
        self.last = rtts.last().copied().or(self.last);
        let decided = answered + lost;
        Checked {
            rtt: mean(&rtts),
            jitter: mean(&differences),
            loss: (decided > 0).then(|| f64::from(lost) / f64::from(decided)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_second_is_summed_up() {
        let mut probing = Probing::default();
        assert_eq!(probing.take(), Checked::default());
        for rtt in [10, 20, 10] {
            probing.heard(Outcome::Answered(millis(rtt)));
        }
        probing.heard(Outcome::Lost);
        let checked = probing.take();
        assert_eq!(checked.loss, Some(0.25));
        assert_eq!(checked.jitter, Some(millis(10)));
        assert_eq!(checked.rtt, Some(millis(40) / 3));
        // The next second goes on from the last round trip.
        probing.heard(Outcome::Answered(millis(14)));
        assert_eq!(probing.take().jitter, Some(millis(4)));
        probing.heard(Outcome::Lost);
        let silent = probing.take();
        assert_eq!(
            (silent.rtt, silent.jitter, silent.loss),
            (None, None, Some(1.0))
        );
    }
}
