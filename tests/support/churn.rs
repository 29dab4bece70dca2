//! Peer connections that come and go, and what is in the process meanwhile.

use std::fs;
use std::future::Future;
use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::until;
use perpacket_webrtc::{CustomMux, CustomNet};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::dtls::crypto::Certificate;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::certificate::RTCCertificate;

use super::connection::{self, Channel, DEADLINE};

/// When nothing has changed for so long, nothing is about to. webrtc-rs ends some tasks by time-outs.
const QUIET: Duration = Duration::from_secs(5);

/// What there is in the process, in the network, and in the mux where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Census {
    pub(crate) descriptors: usize,
    pub(crate) tasks: usize,
    pub(crate) conns: usize,
    pub(crate) sessions: usize,
    /// Connections, addresses and transactions.
    pub(crate) mux: [usize; 3],
}

impl Census {
    fn take(net: &CustomNet, mux: Option<&CustomMux>, handle: &Handle) -> Result<Self> {
        let snapshot = net.snapshot();
        let mux = mux.map(CustomMux::snapshot);
        Ok(Self {
            descriptors: fs::read_dir("/proc/self/fd")?.count(),
            tasks: handle.metrics().num_alive_tasks(),
            conns: snapshot.conns.len(),
            sessions: snapshot.sessions.len(),
            mux: mux.map_or([0; 3], |mux| {
                [mux.connections, mux.addresses, mux.transactions]
            }),
        })
    }

    /// Waits until there is no more than `before`; or where that is not known, until nothing has gone for a while.
    pub(crate) fn settled(
        net: &CustomNet,
        mux: Option<&CustomMux>,
        handle: &Handle,
        before: Option<Self>,
    ) -> Result<Self> {
        let mut last = Self::take(net, mux, handle)?;
        let mut since = Instant::now();
        let settled = until(
            DEADLINE,
            || "what the connections had to go away".to_owned(),
            || {
                let now = Self::take(net, mux, handle).expect("/proc is there");
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                Ok(match before {
                    Some(before) => now.is_no_more_than(&before),
                    None => since.elapsed() > QUIET,
                }
                .then_some(()))
            },
        );
        settled.with_context(|| format!("{last:?}, before {before:?}"))?;
        Ok(last)
    }

    fn is_no_more_than(&self, other: &Self) -> bool {
        self.descriptors <= other.descriptors
            && self.tasks <= other.tasks
            && self.conns <= other.conns
            && self.sessions <= other.sessions
            && self
                .mux
                .iter()
                .zip(other.mux)
                .all(|(now, then)| *now <= then)
    }
}

/// One for all connections: it costs more than the rest.
pub(crate) fn certificate() -> Result<RTCCertificate> {
    Ok(RTCCertificate::from_existing(
        Certificate::generate_self_signed(vec!["lab".to_owned()])?,
        SystemTime::now() + Duration::from_hours(1),
    ))
}

/// Runs `pair` for each of these numbers, some at a time.
pub(crate) async fn come_and_go<F>(
    pairs: Range<usize>,
    at_a_time: usize,
    pair: impl Fn(usize) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in pairs {
        if running.len() == at_a_time {
            running.join_next().await.context("none is running")???;
        }
        running.spawn(pair(number));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Connects two, lets a message go each way, and closes them.
pub(crate) async fn meet(offerer: RTCPeerConnection, answerer: RTCPeerConnection) -> Result<()> {
    let mut ends = [Channel::new(&offerer), Channel::new(&answerer)];
    ends[0].offer(&offerer).await?;
    let offer = connection::offer(&offerer, false).await?;
    let answer = connection::answer(&answerer, offer).await?;
    offerer.set_remote_description(answer).await?;
    for end in &mut ends {
        end.greet().await?;
    }
    for end in &mut ends {
        end.be_greeted().await?;
        ensure!(end.get().ready_state() == RTCDataChannelState::Open);
    }
    for connection in [offerer, answerer] {
        // The second one says that it cannot tell the first, and is closed all the same.
        let _ = connection.close().await;
    }
    Ok(())
}
