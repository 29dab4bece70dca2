use std::{sync::Arc, time::Duration};

use perpacket_webrtc::{Probe, ProbeResult, Prober};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{Reach, ReachTtlConfig};
use crate::MeasureError;

/// How much later than a further probe's answer a nearer one's may come: a round trip, and at least
/// this.
const GRACE: Duration = Duration::from_millis(50);

/// How often a search begins anew because the path changed meanwhile.
const ATTEMPTS: usize = 3;

/// The smallest TTL that reaches the peer. `None` if none does.
pub(crate) async fn search(
    prober: &Arc<Prober>,
    config: &ReachTtlConfig,
) -> Result<Option<Reach>, MeasureError> {
    for _ in 0..ATTEMPTS {
        let Some(mut reach) = first_answer(prober, config).await? else {
            return Ok(None);
        };
        // A probe with a smaller TTL may have been lost.
        while reach.ttl > 1
            && let Some(nearer) = confirm(prober, config, reach.ttl - 1).await?
        {
            reach = nearer;
        }
        if let Some(confirmed) = confirm(prober, config, reach.ttl).await? {
            return Ok(Some(confirmed));
        }
    }
    Ok(None)
}

/// All TTLs at once: the smallest that is answered.
async fn first_answer(
    prober: &Arc<Prober>,
    config: &ReachTtlConfig,
) -> Result<Option<Reach>, MeasureError> {
    let mut asked = JoinSet::new();
    for ttl in 1..=config.max_ttl {
        let (prober, config) = (Arc::clone(prober), config.clone());
        asked.spawn(async move { (ttl, ask(&prober, &config, ttl).await) });
    }
    let (mut best, mut silent) = (None::<Reach>, vec![true; usize::from(config.max_ttl) + 1]);
    let mut deadline = None;
    loop {
        let next = async {
            match deadline {
                Some(deadline) => timeout_at(deadline, asked.join_next()).await,
                None => Ok(asked.join_next().await),
            }
        };
        let Ok(Some(answered)) = next.await else {
            return Ok(best);
        };
        let (ttl, answer) = answered.map_err(|_| MeasureError::Aborted)?;
        silent[usize::from(ttl)] = false;
        if let Some(reach) = answer?
            && best.is_none_or(|best| reach.ttl < best.ttl)
        {
            let grace = reach.rtt.unwrap_or_default().max(GRACE);
            deadline = deadline.or(Some(Instant::now() + grace));
            best = Some(reach);
        }
        // Whoever answered with ICMP is not the peer.
        if let Some(best) = best
            && !silent[1..usize::from(best.ttl)].contains(&true)
        {
            return Ok(Some(best));
        }
    }
}

/// As many probes as it takes to be sure, at once: the first answer.
async fn confirm(
    prober: &Arc<Prober>,
    config: &ReachTtlConfig,
    ttl: u8,
) -> Result<Option<Reach>, MeasureError> {
    let mut asked = JoinSet::new();
    for _ in 0..config.confirmations {
        let (prober, config) = (Arc::clone(prober), config.clone());
        asked.spawn(async move { ask(&prober, &config, ttl).await });
    }
    while let Some(answered) = asked.join_next().await {
        if let Some(reach) = answered.map_err(|_| MeasureError::Aborted)?? {
            return Ok(Some(reach));
        }
    }
    Ok(None)
}

/// One probe with this TTL: the peer, if it answers.
pub(super) async fn ask(
    prober: &Prober,
    config: &ReachTtlConfig,
    ttl: u8,
) -> Result<Option<Reach>, MeasureError> {
    let probe = Probe::new()
        .with_options(config.options.with_ttl(ttl))
        .with_timeout(config.timeout);
    Ok(match prober.probe(probe).await?.result {
        ProbeResult::Answered(answer) => Some(Reach::new(ttl, &answer)),
        ProbeResult::Icmp { .. } | ProbeResult::TooBigHere { .. } | ProbeResult::Lost => None,
    })
}
