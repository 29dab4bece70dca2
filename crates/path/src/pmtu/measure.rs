use std::sync::Arc;

use perpacket_udp::IcmpErrorKind;
use perpacket_webrtc::{Attribution, Probe, ProbeError, ProbeResult, Prober};

use super::{
    PathMtuConfig, PathMtuEvent, PathMtuReport, PathMtuResult,
    plan::{Plan, Question},
};
use crate::{MeasureError, Running};

/// Finds the largest packet that the path of a session carries to the peer whole: DPLPMTUD (RFC 8899) with
/// STUN requests as probes, on the media's own 5-tuple.
///
/// - First a small probe: whether the peer answers, and how fast. Then one as large as the cap, which most
///   paths carry; then 1500; then sizes that links and tunnels have.
/// - A size is refuted by three lost probes of that size or less. With the second and the third goes a small
///   one: where that is lost too, it was an outage, and counts for nothing.
/// - What a router says of its MTU ("fragmentation needed", "packet too big") is tried at once, and believed
///   once it has passed, if it quotes the probe's transaction id. Three probes are enough then, and three
///   round trips. A word that proves nothing only says what to try.
/// - One probe is out at a time, and the next leaves a round trip later or more (RFC 8899 §3), but for what
///   a router says: that is tried at once.
///
/// ```no_run
/// # async fn example(prober: std::sync::Arc<perpacket_webrtc::Prober>) -> Result<(), perpacket_path::MeasureError> {
/// use perpacket_path::{PathMtu, PathMtuConfig};
///
/// let config = PathMtuConfig { refine: true, ..PathMtuConfig::default() };
/// let report = PathMtu::new(prober, config).start().finish().await?;
/// println!("{} bytes, of which {} for RTP payload", report.mtu, report.room.rtp_payload);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PathMtu {
    prober: Arc<Prober>,
    config: PathMtuConfig,
}

impl PathMtu {
    /// A measurement of the prober's path.
    #[must_use]
    pub const fn new(prober: Arc<Prober>, config: PathMtuConfig) -> Self {
        Self { prober, config }
    }

    /// Starts it, on the current tokio runtime. It gives no result where the configuration makes no sense,
    /// the session cannot be probed, or the peer does not answer, or has not yet when it is stopped.
    pub fn start(self) -> Running<PathMtuEvent, PathMtuReport> {
        Running::start(|mut progress| async move {
            self.config.check()?;
            // The addresses may be others by now. If there are none, the first probe says so.
            let _ = self.prober.refresh().await;
            let strays = self.prober.stray_icmp();
            let (overhead, smallest) = (self.prober.overhead(), self.prober.min_size());
            let mut plan = Plan::new(&self.config, overhead, smallest);
            let mut probes = 0;
            while let Some(question) = plan.next() {
                probes += 1;
                let result = tokio::select! {
                    biased;
                    () = progress.stopped() => break,
                    result = ask(&self.prober, &question) => result?,
                };
                let event = plan.heard(&question, result.0, result.1);
                progress.tell(event.map_err(|nobody| MeasureError::NoAnswer {
                    peer: self.prober.remote(),
                    probes: nobody.probes,
                })?);
            }
            let report = plan.report(self.prober.stray_icmp() - strays);
            if report.rtt.is_none() {
                // Nothing is known to pass.
                let peer = self.prober.remote();
                return Err(MeasureError::NoAnswer { peer, probes });
            }
            Ok(report)
        })
    }
}

/// What became of a packet, and of the small one that went with it.
pub(super) type Asked = (PathMtuResult, Option<PathMtuResult>);

/// Sends a packet, and the small one that is to go with it, and waits for what becomes of them.
pub(super) async fn ask(prober: &Prober, question: &Question) -> Result<Asked, ProbeError> {
    let large = ask_one(prober, question, question.size);
    let Some(small) = question.small else {
        return Ok((large.await?, None));
    };
    let (large, small) = tokio::join!(large, ask_one(prober, question, small));
    Ok((large?, Some(small?)))
}

async fn ask_one(
    prober: &Prober,
    question: &Question,
    size: usize,
) -> Result<PathMtuResult, ProbeError> {
    let probe = Probe::new()
        .with_size(size)
        .with_options(question.options)
        .with_timeout(question.timeout);
    Ok(match prober.probe(probe).await?.result {
        ProbeResult::Answered(answer) => PathMtuResult::Answered {
            rtt: answer.rtt.time,
            error_code: answer.error_code,
        },
        ProbeResult::Icmp {
            error, attribution, ..
        } => match error.kind {
            IcmpErrorKind::PacketTooBig => PathMtuResult::TooBig {
                from: error.offender,
                mtu: error.next_hop_mtu,
                proved: attribution == Attribution::TransactionId,
            },
            IcmpErrorKind::LocalTooBig => PathMtuResult::TooBigHere {
                mtu: error.next_hop_mtu,
            },
            kind => PathMtuResult::Icmp {
                from: error.offender,
                error: kind,
            },
        },
        ProbeResult::TooBigHere { mtu } => PathMtuResult::TooBigHere { mtu },
        ProbeResult::Lost => PathMtuResult::Lost,
    })
}
