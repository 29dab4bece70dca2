//! The right peer tells the left one how its checks arrive.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use perpacket_path::{TOS_REPORT_LABEL, TosReporter, TosReports};
use tokio::sync::mpsc;
use webrtc::data_channel::RTCDataChannel;

use crate::support::connection::DEADLINE;
use crate::support::measured::Measured;

/// Opens the channel for it, as an application would.
pub(crate) fn report_back(measured: &Measured) -> Result<TosReports> {
    let session = measured.far_session.clone();
    let on_data_channel = move |channel: Arc<RTCDataChannel>| {
        if channel.label() == TOS_REPORT_LABEL {
            let mut reporter = TosReporter::new(&session);
            tokio::spawn(async move {
                while channel
                    .send(&Bytes::from(reporter.message().await))
                    .await
                    .is_ok()
                {}
            });
        }
    };
    measured
        .right
        .connection
        .on_data_channel(Box::new(move |channel| {
            let on_data_channel = on_data_channel.clone();
            let opened = Arc::clone(&channel);
            channel.on_open(Box::new(move || {
                on_data_channel(opened);
                Box::pin(async {})
            }));
            Box::pin(async {})
        }));
    let reports = TosReports::new();
    let (heard, mut first) = mpsc::unbounded_channel();
    measured.left.block_on(async {
        let connection = &measured.left.connection;
        let channel = connection
            .create_data_channel(TOS_REPORT_LABEL, None)
            .await?;
        let to = reports.clone();
        channel.on_message(Box::new(move |message| {
            to.receive(&message.data);
            // Nobody listens after the first.
            let _ = heard.send(());
            Box::pin(async {})
        }));
        tokio::time::timeout(DEADLINE, first.recv())
            .await
            .context("the right peer reports nothing")?
            .context("the channel is gone")
    })?;
    Ok(reports)
}
