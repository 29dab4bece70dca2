//! Peer connections on hosts of the lab.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use perpacket_lab::NodeRuntime;
use perpacket_webrtc::Session;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;

use super::connection::{self, Channel};

/// A peer connection with a data channel, on the runtime of its host.
pub(crate) struct Peer {
    pub(crate) connection: Arc<RTCPeerConnection>,
    pub(crate) channel: Channel,
    pub(crate) runtime: Arc<NodeRuntime>,
}

impl Peer {
    /// One whose sockets belong to `session`.
    pub(crate) fn new(
        runtime: &Arc<NodeRuntime>,
        address: IpAddr,
        session: &Session,
    ) -> Result<Self> {
        Self::with(runtime, address, |settings| session.install(settings))
    }

    /// One with these settings.
    pub(crate) fn with(
        runtime: &Arc<NodeRuntime>,
        address: IpAddr,
        install: impl FnOnce(&mut SettingEngine) + Send,
    ) -> Result<Self> {
        let (connection, channel) = runtime.block_on(async {
            let configuration = RTCConfiguration::default();
            let connection = connection::new(address, configuration, install).await?;
            let channel = Channel::new(&connection);
            anyhow::Ok((Arc::new(connection), channel))
        })?;
        Ok(Self {
            connection,
            channel,
            runtime: Arc::clone(runtime),
        })
    }

    /// Runs a future on the host.
    pub(crate) fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.runtime.block_on(future)
    }

    /// Starts a task on the host, that ends at the latest with what is returned.
    pub(crate) fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Task(self.runtime.spawn(future))
    }
}

/// A task that ends when this is dropped.
pub(crate) struct Task<T>(pub(crate) tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Offer and answer; returns when a message has gone each way.
pub(crate) fn connect(offerer: &mut Peer, answerer: &mut Peer) -> Result<()> {
    offerer.block_on(offerer.channel.offer(&offerer.connection))?;
    negotiate(offerer, answerer, false)?;
    for peer in [&mut *offerer, answerer] {
        let greeted = peer.runtime.block_on(peer.channel.greet());
        greeted.with_context(|| states(&peer.connection))?;
    }
    for peer in [offerer, answerer] {
        peer.runtime.block_on(peer.channel.be_greeted())?;
    }
    Ok(())
}

/// How far the layers of a connection have come.
fn states(connection: &RTCPeerConnection) -> String {
    format!(
        "ICE {}, DTLS {}, SCTP {}",
        connection.ice_connection_state(),
        connection.dtls_transport().state(),
        connection.sctp().state()
    )
}

/// Offer and answer.
pub(crate) fn negotiate(offerer: &Peer, answerer: &Peer, ice_restart: bool) -> Result<()> {
    let offer = offerer.block_on(connection::offer(&offerer.connection, ice_restart))?;
    let answer = answerer.block_on(connection::answer(&answerer.connection, offer))?;
    Ok(offerer.block_on(offerer.connection.set_remote_description(answer))?)
}
