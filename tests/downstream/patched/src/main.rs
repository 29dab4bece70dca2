//! Gathers the candidates of a peer connection through a `Net` of its own.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use perpacket_webrtc as _;
use webrtc::api::APIBuilder;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc_util::Conn;
use webrtc_util::vnet::net::{Net, NetProvider};

/// Counts the sockets it makes.
#[derive(Default)]
struct Counted(AtomicUsize);

#[async_trait]
impl NetProvider for Counted {
    async fn bind(&self, addr: SocketAddr) -> webrtc_util::Result<Arc<dyn Conn + Send + Sync>> {
        self.0.fetch_add(1, Relaxed);
        Ok(Arc::new(tokio::net::UdpSocket::bind(addr).await?))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let counted = Arc::new(Counted::default());
    let mut settings = SettingEngine::default();
    settings.set_vnet(Some(Arc::new(Net::Custom(counted.clone()))));
    settings.set_include_loopback_candidate(true);
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    let api = APIBuilder::new().with_setting_engine(settings).build();
    let peer = api.new_peer_connection(RTCConfiguration::default()).await?;

    peer.create_data_channel("test", None).await?;
    let mut gathered = peer.gathering_complete_promise().await;
    peer.set_local_description(peer.create_offer(None).await?)
        .await?;
    let _ = gathered.recv().await;
    let offer = peer.local_description().await.ok_or("no offer")?;
    peer.close().await?;

    let candidates = offer.sdp.matches("a=candidate:").count();
    let sockets = counted.0.load(Relaxed);
    println!("{sockets} sockets made by this program, {candidates} candidates in the offer");
    if sockets == 0 {
        return Err("webrtc made its sockets elsewhere".into());
    }
    Ok(())
}
