use std::time::Duration;

use perpacket_webrtc::{ProbeError, Prober};
use tokio::time::Instant;

/// How long there may be nothing to probe before a watch takes the session for ended: by then the peer's consent
/// to be sent anything has expired (RFC 7675 §5.1).
pub(crate) const CONSENT: Duration = Duration::from_secs(30);

/// Keeps up with a session whose addresses change, as they do when ICE restarts: for a while there are none.
#[derive(Debug)]
pub(crate) struct Follow {
    patience: Duration,
    /// Since when the session cannot be probed.
    since: Option<Instant>,
}

impl Follow {
    /// Takes a session for ended that cannot be probed for so long.
    pub(crate) const fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: None,
        }
    }

    /// Looks up the session's addresses again: whether they have changed, or `None` while there are none.
    pub(crate) async fn refresh(&mut self, prober: &Prober) -> Result<Option<bool>, ProbeError> {
        self.judge(prober.refresh().await, Instant::now())
    }

    fn judge(
        &mut self,
        refreshed: Result<bool, ProbeError>,
        now: Instant,
    ) -> Result<Option<bool>, ProbeError> {
        match refreshed {
            Ok(changed) => {
                self.since = None;
                Ok(Some(changed))
            }
            Err(error) if may_pass(&error) => {
                let since = *self.since.get_or_insert(now);
                if now.duration_since(since) < self.patience {
                    Ok(None)
                } else {
                    Err(error)
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether it is what an ICE restart looks like meanwhile, or a network that is down.
pub(crate) const fn may_pass(error: &ProbeError) -> bool {
    matches!(
        error,
        ProbeError::NotConnected | ProbeError::NoSocket { .. } | ProbeError::Socket(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn no_socket() -> Result<bool, ProbeError> {
        Err(ProbeError::NoSocket {
            session: String::new(),
            remote: ([192, 0, 2, 1], 9).into(),
        })
    }

    #[test]
    fn a_session_has_time_to_come_back() {
        let mut follow = Follow::new(PATIENCE);
        let start = Instant::now();
        let mut after = |seconds, refreshed| {
            let now = start + Duration::from_secs(seconds);
            follow.judge(refreshed, now).ok()
        };
        assert_eq!(after(0, Ok(false)), Some(Some(false)));
        assert_eq!(after(10, Err(ProbeError::NotConnected)), Some(None));
        assert_eq!(after(39, no_socket()), Some(None));
        assert_eq!(after(40, Ok(true)), Some(Some(true)));
        assert_eq!(after(50, no_socket()), Some(None));
        assert_eq!(after(79, no_socket()), Some(None));
        assert_eq!(after(80, no_socket()), None);
    }

    #[test]
    fn what_does_not_pass_is_not_waited_for() {
        let relayed = Err(ProbeError::Relayed(([192, 0, 2, 1], 9).into()));
        let judged = Follow::new(PATIENCE).judge(relayed, Instant::now());
        assert!(matches!(judged, Err(ProbeError::Relayed(_))));
    }
}
