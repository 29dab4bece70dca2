//! Peer connections that know nothing of perpacket: what they are to send through is put into their settings
//! before they are made.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tokio::sync::mpsc;
use webrtc::api::APIBuilder;
use webrtc::api::media_engine::MediaEngine;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::data_channel::RTCDataChannel;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::network_type::NetworkType;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::offer_answer_options::RTCOfferOptions;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;

/// What every wait is limited to, on a machine that is busy with something else.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Longer than any test: a connection never gives up by itself.
const NEVER: Duration = Duration::from_mins(10);

/// How often ICE says that it is still there, so that there is STUN to be seen all the time.
const KEEPALIVE: Duration = Duration::from_millis(100);

const GREETING: Bytes = Bytes::from_static(b"hello");

/// A peer connection with one host candidate, at this address.
pub(crate) async fn new(
    address: IpAddr,
    configuration: RTCConfiguration,
    install: impl FnOnce(&mut SettingEngine),
) -> Result<RTCPeerConnection> {
    let mut settings = SettingEngine::default();
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    settings.set_include_loopback_candidate(address.is_loopback());
    settings.set_ip_filter(Box::new(move |candidate| candidate == address));
    settings.set_network_types(vec![if address.is_ipv4() {
        NetworkType::Udp4
    } else {
        NetworkType::Udp6
    }]);
    settings.set_ice_timeouts(Some(NEVER), Some(NEVER), Some(KEEPALIVE));
    install(&mut settings);
    let mut media = MediaEngine::default();
    media.register_default_codecs()?;
    let api = APIBuilder::new()
        .with_setting_engine(settings)
        .with_media_engine(media)
        .build();
    Ok(api.new_peer_connection(configuration).await?)
}

/// An offer with all candidates in it.
pub(crate) async fn offer(
    connection: &RTCPeerConnection,
    ice_restart: bool,
) -> Result<RTCSessionDescription> {
    let options = RTCOfferOptions {
        ice_restart,
        ..RTCOfferOptions::default()
    };
    let offer = connection.create_offer(Some(options)).await?;
    gathered(connection, offer).await
}

/// The answer to an offer, with all candidates in it.
pub(crate) async fn answer(
    connection: &RTCPeerConnection,
    offer: RTCSessionDescription,
) -> Result<RTCSessionDescription> {
    connection.set_remote_description(offer).await?;
    let answer = connection.create_answer(None).await?;
    gathered(connection, answer).await
}

async fn gathered(
    connection: &RTCPeerConnection,
    description: RTCSessionDescription,
) -> Result<RTCSessionDescription> {
    let mut complete = connection.gathering_complete_promise().await;
    connection.set_local_description(description).await?;
    let _closed = tokio::time::timeout(DEADLINE, complete.recv())
        .await
        .context("candidates are still being gathered")?;
    connection
        .local_description()
        .await
        .context("no description")
}

/// One end of a data channel, reliable and ordered.
///
/// One that both ends negotiate beforehand would be simpler, but in webrtc-rs 0.17 it sometimes never opens at the end
/// that hears from the other before it has opened its own.
pub(crate) struct Channel {
    inner: Option<Arc<RTCDataChannel>>,
    opened: mpsc::UnboundedReceiver<Arc<RTCDataChannel>>,
    messages: mpsc::UnboundedReceiver<Bytes>,
    ends: Ends,
}

/// Where what happens on a channel goes. Nobody listens only when the test is over.
#[derive(Clone)]
struct Ends {
    opened: mpsc::UnboundedSender<Arc<RTCDataChannel>>,
    messages: mpsc::UnboundedSender<Bytes>,
}

impl Channel {
    /// The one that the other end will offer, unless it is offered from here.
    pub(crate) fn new(connection: &RTCPeerConnection) -> Self {
        let (opening, opened) = mpsc::unbounded_channel();
        let (arriving, messages) = mpsc::unbounded_channel();
        let ends = Ends {
            opened: opening,
            messages: arriving,
        };
        let theirs = ends.clone();
        connection.on_data_channel(Box::new(move |channel| {
            theirs.attach(&channel);
            Box::pin(async {})
        }));
        Self {
            inner: None,
            opened,
            messages,
            ends,
        }
    }

    /// Offers it, to be called before the offer is made.
    pub(crate) async fn offer(&self, connection: &RTCPeerConnection) -> Result<()> {
        let channel = connection.create_data_channel("lab", None).await?;
        self.ends.attach(&channel);
        Ok(())
    }

    /// The channel, once it has been greeted.
    pub(crate) fn get(&self) -> &Arc<RTCDataChannel> {
        self.inner.as_ref().expect("greeted")
    }

    /// Waits until the channel is open, and sends a first message.
    pub(crate) async fn greet(&mut self) -> Result<()> {
        let channel = tokio::time::timeout(DEADLINE, self.opened.recv())
            .await
            .context("the data channel does not open")?
            .context("the data channel is gone")?;
        channel.send(&GREETING).await?;
        self.inner = Some(channel);
        Ok(())
    }

    /// Waits for the first message of the other end.
    pub(crate) async fn be_greeted(&mut self) -> Result<()> {
        let message = self.message().await?;
        ensure!(message == GREETING, "{message:?}");
        Ok(())
    }

    /// The next message that arrives.
    pub(crate) async fn message(&mut self) -> Result<Bytes> {
        tokio::time::timeout(DEADLINE, self.messages.recv())
            .await
            .context("no message arrives")?
            .context("the data channel is gone")
    }
}

impl Ends {
    fn attach(&self, channel: &Arc<RTCDataChannel>) {
        let Self { opened, messages } = self.clone();
        // It owns its handlers: they must not own it.
        let weak = Arc::downgrade(channel);
        channel.on_open(Box::new(move || {
            if let Some(channel) = weak.upgrade() {
                let _ = opened.send(channel);
            }
            Box::pin(async {})
        }));
        channel.on_message(Box::new(move |message| {
            let _ = messages.send(message.data);
            Box::pin(async {})
        }));
    }
}
