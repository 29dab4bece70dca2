//! What marks arrive with, for a client that asks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use perpacket_path::{TOS_REPORT_LABEL, TosReporter};
use perpacket_webrtc::Session;
use tokio::sync::watch;
use webrtc::data_channel::RTCDataChannel;

/// At most one reporter for a connection: each looks at every datagram that comes in.
#[derive(Clone, Debug)]
pub(crate) struct TosReport {
    session: Session,
    begun: Arc<AtomicBool>,
}

impl TosReport {
    pub(crate) fn new(session: &Session) -> Self {
        Self {
            session: session.clone(),
            begun: Arc::default(),
        }
    }

    /// Reports on this channel, if that is what it is for, until the connection is closed. Says whether it
    /// does.
    pub(crate) fn takes(
        &self,
        channel: &Arc<RTCDataChannel>,
        closing: &watch::Receiver<bool>,
    ) -> bool {
        if channel.label() != TOS_REPORT_LABEL || self.begun.swap(true, Relaxed) {
            return false;
        }
        let reporter = TosReporter::new(&self.session);
        // It owns its handler: that must not own it.
        let weak = Arc::downgrade(channel);
        let closing = closing.clone();
        channel.on_open(Box::new(move || {
            Box::pin(async move {
                if let Some(channel) = weak.upgrade() {
                    tokio::spawn(report(channel, reporter, closing));
                }
            })
        }));
        true
    }
}

async fn report(
    channel: Arc<RTCDataChannel>,
    mut reporter: TosReporter,
    mut closing: watch::Receiver<bool>,
) {
    let reporting = async {
        loop {
            let message = reporter.message().await.into();
            if let Err(error) = channel.send(&message).await {
                tracing::debug!(%error, "no more reports of marks");
                return;
            }
        }
    };
    tokio::select! {
        () = reporting => {}
        _ = closing.wait_for(|closing| *closing) => {}
    }
}
