use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use perpacket_udp::{IcmpError, RecvMeta};

use crate::{header::Sent, session::SessionState};

/// Sees what a session receives before its peer connection does, and what it has sent: from
/// [`Session::tap`](crate::Session::tap).
///
/// It is called on the path of every datagram, so it must be quick and must not block. A tap that
/// panics has claimed nothing.
pub trait Tap: Send + Sync {
    /// Whether the datagram is the tap's. Then it has been counted, and neither another tap nor the
    /// peer connection gets it.
    fn claim(&self, datagram: &[u8], meta: &RecvMeta) -> bool;

    /// The kernel has taken a datagram of the session, a probe included.
    fn sent(&self, datagram: &[u8], sent: &Sent) {
        let _ = (datagram, sent);
    }

    /// The network says that a datagram did not arrive. Only where
    /// [`CustomNetBuilder::icmp_errors`](crate::CustomNetBuilder::icmp_errors) is on. Anyone can forge
    /// this.
    fn icmp(&self, error: &IcmpError) {
        let _ = error;
    }
}

/// The taps of one session, in the order in which they came.
#[derive(Default)]
pub(crate) struct Taps {
    taps: ArcSwap<Vec<Arc<dyn Tap>>>,
    /// How many: mostly none.
    len: AtomicUsize,
}

impl Taps {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    #[inline]
    pub(crate) fn claim(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        !self.is_empty() && self.is_claimed(datagram, meta)
    }

    fn is_claimed(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        let taps = self.taps.load();
        taps.iter().any(|tap| {
            // One reader may serve many sessions: it must not end with one session's tap.
            catch_unwind(AssertUnwindSafe(|| tap.claim(datagram, meta))).unwrap_or_else(|_| {
                tracing::error!("a tap has panicked");
                false
            })
        })
    }

    pub(crate) fn sent(&self, datagram: &[u8], sent: &Sent) {
        for tap in self.taps.load().iter() {
            if catch_unwind(AssertUnwindSafe(|| tap.sent(datagram, sent))).is_err() {
                tracing::error!("a tap has panicked");
            }
        }
    }

    pub(crate) fn icmp(&self, error: &IcmpError) {
        for tap in self.taps.load().iter() {
            if catch_unwind(AssertUnwindSafe(|| tap.icmp(error))).is_err() {
                tracing::error!("a tap has panicked");
            }
        }
    }

    fn add(&self, tap: &Arc<dyn Tap>) {
        self.taps.rcu(|taps| {
            let mut taps = Vec::clone(taps);
            taps.push(Arc::clone(tap));
            taps
        });
        self.len.fetch_add(1, Ordering::Release);
    }

    fn remove(&self, tap: &Arc<dyn Tap>) {
        self.taps.rcu(|taps| {
            let mut taps = Vec::clone(taps);
            taps.retain(|other| !Arc::ptr_eq(other, tap));
            taps
        });
        self.len.fetch_sub(1, Ordering::Release);
    }
}

impl fmt::Debug for Taps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Taps({})", self.taps.load().len())
    }
}

/// A tap is in place as long as this lives.
#[must_use = "dropping it removes the tap"]
pub struct TapGuard {
    session: Weak<SessionState>,
    tap: Arc<dyn Tap>,
}

impl TapGuard {
    pub(crate) fn new(session: &Arc<SessionState>, tap: Arc<dyn Tap>) -> Self {
        session.taps.add(&tap);
        Self {
            session: Arc::downgrade(session),
            tap,
        }
    }
}

impl fmt::Debug for TapGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapGuard").finish_non_exhaustive()
    }
}

impl Drop for TapGuard {
    fn drop(&mut self) {
        if let Some(session) = self.session.upgrade() {
            session.taps.remove(&self.tap);
        }
    }
}
