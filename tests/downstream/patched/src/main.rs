//! Two peer connections whose sockets are perpacket's, over loopback: every packet of one of them
//! arrives with the TTL that its session was given.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use perpacket_webrtc::udp::MessageOptions;
use perpacket_webrtc::{CustomNet, PacketClass};
use webrtc::api::APIBuilder;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc_util::vnet::net::Net;

const TTL: u8 = 42;

/// The one line that is new is `install`.
async fn peer(net: &CustomNet, name: &str) -> webrtc::error::Result<Arc<RTCPeerConnection>> {
    let mut settings = SettingEngine::default();
    net.session(name).install(&mut settings);
    settings.set_include_loopback_candidate(true);
    settings.set_ip_filter(Box::new(|ip: IpAddr| ip.is_loopback()));
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    let api = APIBuilder::new().with_setting_engine(settings).build();
    Ok(Arc::new(
        api.new_peer_connection(RTCConfiguration::default()).await?,
    ))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let net = CustomNet::new();
    let alice_session = net.session("alice");
    alice_session.set_options(MessageOptions::default().with_ttl(TTL))?;
    let (alice, bob) = (peer(&net, "alice").await?, peer(&net, "bob").await?);

    let (arrived, mut message) = tokio::sync::mpsc::channel(1);
    bob.on_data_channel(Box::new(move |channel| {
        let arrived = arrived.clone();
        channel.on_message(Box::new(move |message| {
            let _ = arrived.try_send(message.data);
            Box::pin(async {})
        }));
        Box::pin(async {})
    }));
    let channel = alice.create_data_channel("test", None).await?;
    let sender = channel.clone();
    channel.on_open(Box::new(move || {
        Box::pin(async move {
            let _ = sender.send_text("hello").await;
        })
    }));

    let mut gathered = alice.gathering_complete_promise().await;
    alice
        .set_local_description(alice.create_offer(None).await?)
        .await?;
    let _ = gathered.recv().await;
    bob.set_remote_description(alice.local_description().await.ok_or("no offer")?)
        .await?;
    let mut gathered = bob.gathering_complete_promise().await;
    bob.set_local_description(bob.create_answer(None).await?)
        .await?;
    let _ = gathered.recv().await;
    alice
        .set_remote_description(bob.local_description().await.ok_or("no answer")?)
        .await?;

    let text = tokio::time::timeout(Duration::from_secs(30), message.recv()).await?;
    let seen = *net.session("bob").total().class(PacketClass::Dtls);
    println!(
        "{text:?}, TTL {:?} in {} DTLS datagrams",
        seen.received_ttl, seen.received
    );
    for peer in [alice, bob] {
        // The second one says that it cannot tell the first, and is closed all the same.
        let _ = peer.close().await;
    }
    if text.as_deref() != Some(b"hello") || seen.received_ttl != Some(TTL) {
        return Err("the options did not reach the wire".into());
    }
    Ok(())
}

/// There is a third variant only in the fork.
const _: fn(&Net) -> bool = |net| matches!(net, Net::Custom(_));
