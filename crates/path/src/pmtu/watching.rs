//! What a watch over the path MTU does from one moment to the next.

use std::{sync::Arc, time::Duration};

use perpacket_webrtc::{ProbeError, Prober};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    PathMtuChange, PathMtuPurpose, PathMtuResult, PathMtuWatchConfig, PathMtuWatchReport, apply,
    measure::{Asked, ask},
    plan::{NoAnswer, Plan, Question, base, timeout},
    vigil::{Verdict, judge},
};
use crate::{
    MeasureError,
    running::{CONSENT, Follow, LONGEST, may_pass},
};

/// How many more of the same size are sent once one is lost, with small ones, and how far apart.
const LARGE: u32 = 4;
const SMALL: u32 = 2;
const APART: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// What passes is not known, or not any more.
    Unknown { before: Option<usize> },
    /// This much passes.
    Known { mtu: usize, is_told: bool },
    /// The peer does not answer.
    Gone { before: Option<usize> },
}

/// A watch that goes on.
pub(super) struct Watching {
    prober: Arc<Prober>,
    config: PathMtuWatchConfig,
    state: State,
    rtt: Option<Duration>,
    next_check: Instant,
    next_raise: Instant,
    follow: Follow,
    pub(super) report: PathMtuWatchReport,
}

impl Watching {
    pub(super) fn new(prober: Arc<Prober>, mut config: PathMtuWatchConfig) -> Self {
        config.interval = config.interval.min(LONGEST);
        config.raise_interval = config.raise_interval.min(LONGEST);
        let now = Instant::now();
        let report = PathMtuWatchReport {
            mtu: config.mtu,
            ..PathMtuWatchReport::default()
        };
        Self {
            state: match config.mtu {
                Some(mtu) => State::Known {
                    mtu,
                    is_told: false,
                },
                None => State::Unknown { before: None },
            },
            rtt: None,
            next_check: now,
            next_raise: now + config.raise_interval,
            follow: Follow::new(CONSENT),
            prober,
            config,
            report,
        }
    }

    /// Watches until there is something to tell.
    pub(super) async fn next(&mut self) -> Result<PathMtuChange, MeasureError> {
        loop {
            let change = match self.state {
                State::Unknown { before } => self.search(before).await?,
                State::Known {
                    mtu,
                    is_told: false,
                } => {
                    self.known(mtu)?;
                    Some(PathMtuChange::Watching { mtu })
                }
                State::Known { mtu, .. } if self.next_raise <= self.next_check => {
                    sleep_until(self.next_raise).await;
                    self.next_raise = Instant::now() + self.config.raise_interval;
                    self.raise(mtu).await?
                }
                State::Known { mtu, .. } => {
                    sleep_until(self.next_check).await;
                    self.next_check = Instant::now() + self.config.interval;
                    self.check(mtu).await?
                }
                State::Gone { before } => {
                    sleep_until(self.next_check).await;
                    self.next_check = Instant::now() + self.config.interval;
                    self.look_for_peer(before).await?
                }
            };
            if let Some(change) = change {
                return Ok(change);
            }
        }
    }

    /// Searches for what passes now.
    async fn search(
        &mut self,
        before: Option<usize>,
    ) -> Result<Option<PathMtuChange>, MeasureError> {
        let (overhead, smallest) = (self.prober.overhead(), self.prober.min_size());
        let plan = Plan::new(&self.config.search, overhead, smallest);
        let Some(mtu) = self.run(plan).await? else {
            self.state = State::Gone { before };
            return Ok(Some(PathMtuChange::Unreachable));
        };
        self.known(mtu)?;
        Ok(Some(self.compared(before, mtu)))
    }

    /// Looks whether more passes than before.
    async fn raise(&mut self, from: usize) -> Result<Option<PathMtuChange>, MeasureError> {
        let overhead = self.prober.overhead();
        let plan = Plan::new(&self.config.search, overhead, from);
        // That nobody answers is for the next check to find out.
        let Some(to) = self.run(plan).await? else {
            return Ok(None);
        };
        self.known(to)?;
        Ok(Some(self.compared(Some(from), to)))
    }

    /// Carries out a plan; `None` if nobody answers.
    async fn run(&mut self, mut plan: Plan) -> Result<Option<usize>, MeasureError> {
        while let Some(question) = plan.next() {
            let (large, small) = patient(ask(&self.prober, &question).await)?;
            if let Err(NoAnswer { .. }) = plan.heard(&question, large, small) {
                return Ok(None);
            }
        }
        let report = plan.report(0);
        self.rtt = report.rtt;
        Ok(Some(report.mtu))
    }

    /// Sees whether what passed still does.
    async fn check(&mut self, mtu: usize) -> Result<Option<PathMtuChange>, MeasureError> {
        self.report.checks += 1;
        let question = self.question(mtu);
        let (first, _) = patient(ask(&self.prober, &question).await)?;
        if let PathMtuResult::Answered { rtt, .. } = first {
            // Falls slowly, so that one fast answer does not make the others late.
            let before = self.rtt.unwrap_or_default();
            self.rtt = Some(rtt.max(before * 7 / 8));
            return Ok(None);
        }
        self.report.lost += 1;
        // It may only have become later than the round trips before.
        self.rtt = None;
        let (large, small) = self.ask_many(mtu).await?;
        match judge(mtu, first, &large, &small) {
            Verdict::Passes => Ok(None),
            Verdict::BlackHole => {
                self.apply(base(self.prober.overhead()).min(mtu))?;
                self.state = State::Unknown { before: Some(mtu) };
                Ok(Some(PathMtuChange::BlackHole { mtu }))
            }
            Verdict::Gone => {
                self.state = State::Gone { before: Some(mtu) };
                Ok(Some(PathMtuChange::Unreachable))
            }
        }
    }

    /// Sees whether the peer is there again, maybe somewhere else.
    async fn look_for_peer(
        &mut self,
        before: Option<usize>,
    ) -> Result<Option<PathMtuChange>, MeasureError> {
        if self.follow.refresh(&self.prober).await?.is_none() {
            return Ok(None);
        }
        let small = self.question(self.prober.min_size());
        let (answer, _) = patient(ask(&self.prober, &small).await)?;
        if !answer.is_answered() {
            return Ok(None);
        }
        // It may be there by another path; and what is applied may be that of a black hole.
        self.state = State::Unknown { before };
        Ok(Some(PathMtuChange::Reachable))
    }

    /// Several probes of this size, and small ones between them.
    async fn ask_many(
        &self,
        mtu: usize,
    ) -> Result<(Vec<PathMtuResult>, Vec<PathMtuResult>), MeasureError> {
        let smallest = self.prober.min_size();
        let sizes = (0..LARGE).map(|_| mtu).chain((0..SMALL).map(|_| smallest));
        let mut asking = JoinSet::new();
        for (number, size) in (0u32..).zip(sizes) {
            let question = self.question(size);
            let prober = Arc::clone(&self.prober);
            asking.spawn(async move {
                sleep(APART * number).await;
                (question.size, ask(&prober, &question).await)
            });
        }
        let (mut large, mut small) = (Vec::new(), Vec::new());
        while let Some(asked) = asking.join_next().await {
            let (size, result) = asked.map_err(|_| MeasureError::Aborted)?;
            let of_size = if size == mtu { &mut large } else { &mut small };
            of_size.push(patient(result)?.0);
        }
        Ok((large, small))
    }

    fn question(&self, size: usize) -> Question {
        Question {
            purpose: PathMtuPurpose::Search,
            size,
            df: true,
            options: self.config.search.options.with_df_bit(true),
            timeout: timeout(&self.config.search, self.rtt),
            small: None,
        }
    }

    fn known(&mut self, mtu: usize) -> Result<(), MeasureError> {
        self.state = State::Known { mtu, is_told: true };
        self.report.mtu = Some(mtu);
        let now = Instant::now();
        self.next_check = now + self.config.interval;
        self.next_raise = now + self.config.raise_interval;
        self.apply(mtu)
    }

    fn apply(&self, mtu: usize) -> Result<(), MeasureError> {
        if self.config.apply {
            apply::set(self.prober.session(), mtu)?;
        }
        Ok(())
    }

    fn compared(&mut self, from: Option<usize>, to: usize) -> PathMtuChange {
        match from {
            None => PathMtuChange::Watching { mtu: to },
            Some(from) if to < from => {
                self.report.falls += 1;
                PathMtuChange::Fell { from, to }
            }
            Some(from) if to > from => {
                self.report.rises += 1;
                PathMtuChange::Rose { from, to }
            }
            Some(mtu) => PathMtuChange::Unchanged { mtu },
        }
    }
}

/// A socket that cannot send for a while, or is no more, is like a path that loses everything.
fn patient(result: Result<Asked, ProbeError>) -> Result<Asked, MeasureError> {
    match result {
        Ok(asked) => Ok(asked),
        // A pair that has changed is looked up where nobody answers.
        Err(error) if may_pass(&error) => Ok((PathMtuResult::Lost, Some(PathMtuResult::Lost))),
        Err(error) => Err(error.into()),
    }
}
