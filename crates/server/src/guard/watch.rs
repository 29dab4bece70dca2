//! Whether a change of options cuts a client off: nothing here sends anything, or knows a clock.

use std::time::Duration;

use tokio::time::Instant;

/// How long nothing may come back of what goes out with the new header while the old one still works. In this time six
/// checks go unanswered: at 30% of loss that happens once in 1,400 times.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// How many checks with the old header have to be answered meanwhile. One may be: after an outage, the first answer that
/// gets through is of the one or the other.
const WITNESSES: u32 = 3;

/// How long nothing at all may come back, with either header: the change may not be at fault, but nothing shows that.
/// A third of the time after which consent to send expires (RFC 7675 §5.1), so that it can be had again in time.
pub(crate) const OUTAGE: Duration = Duration::from_secs(10);

/// After this time a change is kept that nobody wants taken back: when consent that was given before the change would
/// have expired (RFC 7675 §5.1).
pub(crate) const PROBATION: Duration = Duration::from_secs(30);

/// A change that is being watched: one header or several that are new, and the one that was there before each.
#[derive(Debug)]
pub(crate) struct Watch {
    since: Instant,
    /// When it is to be taken back whatever happens.
    until: Option<Instant>,
    headers: Vec<Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// When something came back last with the new header.
    with_new: Instant,
    /// How often something came back with the old one since then.
    with_old: u32,
    /// Whether anything has come back with the new header since the change.
    proved: bool,
}

/// Which header a check went out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    New,
    Old,
}

/// What is to become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Watch,
    Keep,
    Revert(Reason),
}

/// Why a change is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its time is over.
    Timer,
    /// Nothing has come back for so long with the header of this number.
    Silence(usize, Duration),
}

impl Watch {
    /// Of a change that is made now, in so many headers.
    pub(crate) fn new(now: Instant, headers: usize, revert_after: Option<Duration>) -> Self {
        let heard = Heard {
            with_new: now,
            with_old: 0,
            proved: false,
        };
        Self {
            since: now,
            until: revert_after.map(|time| now + time),
            headers: vec![heard; headers],
        }
    }

    /// A check was answered.
    pub(crate) fn answered(&mut self, now: Instant, number: usize, header: Header) {
        let Some(heard) = self.headers.get_mut(number) else {
            return;
        };
        match header {
            Header::New => {
                heard.with_new = heard.with_new.max(now);
                heard.with_old = 0;
                heard.proved = true;
            }
            Header::Old => heard.with_old += 1,
        }
    }

    /// Nothing could be asked up to now, so that silence means nothing.
    pub(crate) fn cannot_ask(&mut self, now: Instant) {
        for heard in &mut self.headers {
            heard.with_new = heard.with_new.max(now);
            heard.with_old = 0;
        }
    }

    /// Whether something has come back with each of the new headers.
    pub(crate) fn is_proved(&self) -> bool {
        self.headers.iter().all(|heard| heard.proved)
    }

    pub(crate) fn decide(&self, now: Instant) -> Decision {
        if self.until.is_some_and(|until| now >= until) {
            return Decision::Revert(Reason::Timer);
        }
        for (number, heard) in self.headers.iter().enumerate() {
            let silent = now.saturating_duration_since(heard.with_new);
            let old_works = heard.with_old >= WITNESSES;
            if silent >= OUTAGE || (silent >= SILENCE && old_works) {
                return Decision::Revert(Reason::Silence(number, silent));
            }
        }
        let is_over = now.saturating_duration_since(self.since) >= PROBATION;
        // Where nothing could be asked nothing is proved, and it is watched on.
        if self.until.is_none() && is_over && self.is_proved() {
            return Decision::Keep;
        }
        Decision::Watch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// What is decided at each half second, if those headers are answered until then.
    fn run(
        revert_after: Option<u64>,
        new: impl Fn(f64) -> bool,
        old: impl Fn(f64) -> bool,
    ) -> (f64, Decision) {
        let start = Instant::now();
        let mut watch = Watch::new(start, 1, revert_after.map(Duration::from_secs));
        for tick in 1..200 {
            let time = f64::from(tick) / 2.0;
            let now = seconds(start, time);
            if new(time) {
                watch.answered(now, 0, Header::New);
            }
            if old(time) {
                watch.answered(now, 0, Header::Old);
            }
            match watch.decide(now) {
                Decision::Watch => {}
                decision => return (time, decision),
            }
        }
        panic!("nothing is ever decided");
    }

    fn silence(seconds: u64) -> Decision {
        Decision::Revert(Reason::Silence(0, Duration::from_secs(seconds)))
    }

    #[test]
    fn a_change_that_works_is_kept() {
        assert_eq!(run(None, |_| true, |_| true), (30.0, Decision::Keep));
        // With half of the answers lost, and one gap that is not long enough.
        let some = |time: f64| time % 2.0 < 1.0 && !(10.0..10.5).contains(&time);
        assert_eq!(run(None, some, |_| true), (30.0, Decision::Keep));
    }

    #[test]
    fn one_that_cuts_off_is_taken_back_in_time() {
        assert_eq!(run(None, |_| false, |_| true), (3.0, silence(3)));
        let for_a_while = |time: f64| time <= 7.0;
        assert_eq!(run(None, for_a_while, |_| true), (10.0, silence(3)));
    }

    #[test]
    fn an_outage_is_waited_out_for_a_while() {
        let both = |time: f64| !(5.0..14.0).contains(&time);
        assert_eq!(run(None, both, both), (30.0, Decision::Keep));
        assert_eq!(run(None, |_| false, |_| false), (10.0, silence(10)));
    }

    #[test]
    fn the_timer_takes_back_what_works_and_silence_comes_first() {
        let timer = Decision::Revert(Reason::Timer);
        assert_eq!(run(Some(60), |_| true, |_| true), (60.0, timer));
        assert_eq!(run(Some(1), |_| false, |_| true), (1.0, timer));
        assert_eq!(run(Some(60), |_| false, |_| true), (3.0, silence(3)));
    }

    #[test]
    fn where_nothing_can_be_asked_only_the_timer_counts() {
        let start = Instant::now();
        let mut watch = Watch::new(start, 2, Some(Duration::from_mins(1)));
        for tick in 1..60 {
            let now = seconds(start, f64::from(tick));
            watch.cannot_ask(now);
            assert_eq!(watch.decide(now), Decision::Watch);
        }
        let end = seconds(start, 60.0);
        assert_eq!(watch.decide(end), Decision::Revert(Reason::Timer));
    }

    #[test]
    fn what_could_never_be_asked_is_not_called_good() {
        let start = Instant::now();
        let mut watch = Watch::new(start, 1, None);
        for tick in 1..100 {
            let now = seconds(start, f64::from(tick));
            watch.cannot_ask(now);
            assert_eq!(watch.decide(now), Decision::Watch);
        }
        let now = seconds(start, 100.0);
        watch.answered(now, 0, Header::New);
        assert_eq!(watch.decide(now), Decision::Keep);
    }

    #[test]
    fn each_header_has_to_work() {
        let start = Instant::now();
        let mut watch = Watch::new(start, 2, None);
        let now = seconds(start, 3.0);
        watch.answered(now, 0, Header::New);
        assert!(!watch.is_proved());
        for _ in 0..WITNESSES {
            watch.answered(now, 1, Header::Old);
        }
        watch.answered(now, 2, Header::New);
        let reason = Reason::Silence(1, SILENCE);
        assert_eq!(watch.decide(now), Decision::Revert(reason));
        watch.answered(now, 1, Header::New);
        assert!(watch.is_proved());
        assert_eq!(watch.decide(now), Decision::Watch);
    }

    #[test]
    fn an_answer_that_comes_late_does_not_turn_back_the_clock() {
        let start = Instant::now();
        let mut watch = Watch::new(start, 1, None);
        watch.answered(seconds(start, 5.0), 0, Header::New);
        watch.answered(seconds(start, 1.0), 0, Header::New);
        for _ in 0..WITNESSES {
            watch.answered(seconds(start, 5.5), 0, Header::Old);
        }
        assert_eq!(watch.decide(seconds(start, 7.0)), Decision::Watch);
    }

    /// Both are asked at one moment, and the network may lose either answer, or turn them round.
    #[test]
    fn whose_answer_comes_first_after_an_outage_does_not_matter() {
        let start = Instant::now();
        let mut watch = Watch::new(start, 1, None);
        watch.answered(seconds(start, 1.0), 0, Header::New);
        for time in [6.0, 6.5] {
            watch.answered(seconds(start, time), 0, Header::Old);
            assert_eq!(watch.decide(seconds(start, time)), Decision::Watch);
        }
        watch.answered(seconds(start, 7.0), 0, Header::New);
        watch.answered(seconds(start, 7.0), 0, Header::Old);
        assert_eq!(watch.decide(seconds(start, 10.5)), Decision::Watch);
    }
}
