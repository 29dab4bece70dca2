//! How good a path is for a call, and why: limits that others have set, and words for people.

use std::{collections::VecDeque, time::Duration};

use crate::model::{ClientState, Level, Verdict};

/// Seconds that are looked back on. With five checks a second a single lost one is 1%.
const WINDOW: usize = 20;

/// Seconds without any answer that are an outage.
const OUTAGE: usize = 3;

/// Round trips, milliseconds: ITU-T Y.1541, table 1, has 100 ms one way for the network in class 0 (highly interactive,
/// such as `VoIP`), and 400 ms in class 1 (interactive), which is also where ITU-T G.114 ends what it finds acceptable.
const RTT: Limits = Limits {
    good: 200.0,
    fair: 800.0,
};

/// The variation of round trips, milliseconds: above a packet of audio, which has 20 ms (RFC 3551 §4.2), a buffer has
/// to grow; 50 ms is the most in classes 0 and 1 of ITU-T Y.1541.
const JITTER: Limits = Limits {
    good: 20.0,
    fair: 50.0,
};

/// Loss, 0 to 1: ITU-T G.1010, table I.1, has 1% for video calls and 3% for voice.
const LOSS: Limits = Limits {
    good: 0.01,
    fair: 0.03,
};

#[derive(Clone, Copy, Debug)]
struct Limits {
    good: f64,
    fair: f64,
}

impl Limits {
    fn level(self, value: f64) -> Level {
        if value <= self.good {
            Level::Good
        } else if value <= self.fair {
            Level::Fair
        } else {
            Level::Bad
        }
    }
}

/// What was seen in one second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    pub(super) rtt: Option<Duration>,
    pub(super) jitter: Option<Duration>,
    pub(super) loss: Option<f64>,
    /// Whether the client was asked, and has not answered.
    pub(super) silent: bool,
}

/// The last seconds of a client.
#[derive(Debug, Default)]
pub(super) struct Judge {
    seconds: VecDeque<Second>,
}

impl Judge {
    /// Looks at one more second, and says what to make of the last ones.
    pub(super) fn judge(&mut self, state: ClientState, second: Second) -> Verdict {
        if self.seconds.len() == WINDOW {
            self.seconds.pop_front();
        }
        self.seconds.push_back(second);
        match state {
            ClientState::New | ClientState::Connecting | ClientState::Closed => Verdict::default(),
            ClientState::Disconnected | ClientState::Failed => Verdict {
                level: Level::Bad,
                reasons: vec!["the connection is interrupted".to_owned()],
            },
            ClientState::Connected => self.of_a_connection(),
        }
    }

    fn of_a_connection(&self) -> Verdict {
        let silent = self.seconds.iter().rev().take_while(|it| it.silent).count();
        if silent >= OUTAGE {
            return Verdict {
                level: Level::Bad,
                reasons: vec![format!("no answer for {silent} s")],
            };
        }
        let seconds = |time: Duration| time.as_secs_f64() * 1e3;
        let rtt = self.mean(|it| it.rtt.map(seconds));
        let jitter = self.mean(|it| it.jitter.map(seconds));
        let loss = self.mean(|it| it.loss);
        let of = |value: Option<f64>, limits: Limits, words: fn(f64) -> String| {
            value.map(|value| (limits.level(value), words(value)))
        };
        let found = [
            of(loss, LOSS, |loss| {
                format!("{:.1}% of packets lost", loss * 100.0)
            }),
            of(rtt, RTT, |rtt| format!("round trip {rtt:.0} ms")),
            of(jitter, JITTER, |jitter| {
                format!("round trips vary by {jitter:.0} ms")
            }),
        ];
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        let level = found.iter().map(|(level, _)| *level).max();
        // The worst first.
        found.retain(|(level, _)| *level > Level::Good);
        found.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        Verdict {
            level: level.unwrap_or_default(),
            reasons: found.into_iter().map(|(_, words)| words).collect(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "there are 20 at most")]
    fn mean(&self, of: impl Fn(&Second) -> Option<f64>) -> Option<f64> {
        let values: Vec<_> = self.seconds.iter().filter_map(of).collect();
        let sum: f64 = values.iter().sum();
        (!values.is_empty()).then(|| sum / values.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(rtt: u64, jitter: u64, loss: f64) -> Second {
        Second {
            rtt: Some(Duration::from_millis(rtt)),
            jitter: Some(Duration::from_millis(jitter)),
            loss: Some(loss),
            silent: false,
        }
    }

    fn after(seconds: &[Second]) -> Verdict {
        let mut judge = Judge::default();
        let verdicts = seconds
            .iter()
            .map(|second| judge.judge(ClientState::Connected, *second));
        verdicts.last().expect("a second")
    }

    #[test]
    fn each_limit_counts_and_says_so() {
        let good = after(&[second(200, 20, 0.01); 3]);
        assert_eq!((good.level, good.reasons.len()), (Level::Good, 0));
        let fair = after(&[second(210, 5, 0.0)]);
        assert_eq!(fair.level, Level::Fair);
        assert_eq!(fair.reasons, ["round trip 210 ms"]);
        let bad = after(&[second(300, 60, 0.021)]);
        assert_eq!(bad.level, Level::Bad);
        assert_eq!(
            bad.reasons,
            [
                "round trips vary by 60 ms",
                "2.1% of packets lost",
                "round trip 300 ms"
            ]
        );
    }

    #[test]
    fn one_lost_check_is_no_loss_to_speak_of() {
        let mut seconds = vec![second(10, 1, 0.0); WINDOW - 1];
        seconds.push(second(10, 1, 0.2));
        assert_eq!(after(&seconds).level, Level::Good);
        seconds.push(second(10, 1, 0.2));
        assert_eq!(after(&seconds).level, Level::Fair);
        // What is long ago is forgotten.
        seconds.extend(vec![second(10, 1, 0.0); WINDOW]);
        assert_eq!(after(&seconds).level, Level::Good);
    }

    #[test]
    fn silence_is_bad_and_nothing_is_unknown() {
        let silent = Second {
            loss: Some(1.0),
            silent: true,
            ..Second::default()
        };
        let mut seconds = vec![second(10, 1, 0.0); WINDOW];
        seconds.extend([silent; 4]);
        let verdict = after(&seconds);
        assert_eq!(verdict.level, Level::Bad);
        assert_eq!(verdict.reasons, ["no answer for 4 s"]);
        assert_eq!(after(&[Second::default()]).level, Level::Unknown);
        let mut judge = Judge::default();
        let new = judge.judge(ClientState::Connecting, second(10, 1, 0.0));
        assert_eq!(new, Verdict::default());
        let gone = judge.judge(ClientState::Disconnected, second(10, 1, 0.0));
        assert_eq!(gone.level, Level::Bad);
    }
}
