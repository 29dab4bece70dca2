//! What marks arrive with, for a client that asks.

use std::sync::Arc;

use perpacket_path::{TOS_REPORT_LABEL, TosReporter};
use perpacket_webrtc::Session;
use tokio::sync::watch;
use webrtc::data_channel::RTCDataChannel;

/// At most one reporter for a connection: each looks at every datagram that comes in. Of several channels for it the
/// last one is reported on: that a client has closed one may become known only after it has opened another.
#[derive(Clone, Debug)]
pub(crate) struct TosReport {
    session: Session,
    /// Changes with every channel.
    channels: Arc<watch::Sender<()>>,
}

impl TosReport {
    pub(crate) fn new(session: &Session) -> Self {
        Self {
            session: session.clone(),
            channels: Arc::default(),
        }
    }

    /// Reports on this channel, if that is what it is for, until the connection is closed or there is another one
    /// for it. Says whether it is.
    pub(crate) fn takes(
        &self,
        channel: &Arc<RTCDataChannel>,
        closing: &watch::Receiver<bool>,
    ) -> bool {
        if channel.label() != TOS_REPORT_LABEL {
            return false;
        }
        self.channels.send_replace(());
        let another = self.channels.subscribe();
        let reporter = TosReporter::new(&self.session);
        // It owns its handler: that must not own it.
        let weak = Arc::downgrade(channel);
        let closing = closing.clone();
        channel.on_open(Box::new(move || {
            Box::pin(async move {
                if let Some(channel) = weak.upgrade() {
                    tokio::spawn(report(channel, reporter, closing, another));
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
    mut another: watch::Receiver<()>,
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
        // An error says that the connection is gone.
        _ = another.changed() => {}
    }
}
