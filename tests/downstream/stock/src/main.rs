//! Two peer connections on stock webrtc-rs, each with a mux over a socket that is perpacket's, over
//! loopback: every packet of one of them arrives with the TTL that its session was given.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use perpacket_webrtc::udp::MessageOptions;
use perpacket_webrtc::{CustomConn, CustomNet, PacketClass};
use webrtc::api::APIBuilder;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::udp_mux::{UDPMuxDefault, UDPMuxParams};
use webrtc::ice::udp_network::UDPNetwork;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc_util::vnet::net::Net;

const TTL: u8 = 42;

/// What is new is whose socket the mux gets.
async fn peer(net: &CustomNet, name: &str) -> Result<Arc<RTCPeerConnection>, Box<dyn Error>> {
    let mut settings = SettingEngine::default();
    let socket = CustomConn::bind(&net.session(name).net(), "127.0.0.1:0".parse()?)?;
    settings.set_udp_network(UDPNetwork::Muxed(UDPMuxDefault::new(UDPMuxParams::new(
        socket,
    ))));
    settings.set_include_loopback_candidate(true);
    settings.set_ip_filter(Box::new(|ip: IpAddr| ip == IpAddr::from([127, 0, 0, 1])));
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
    alice.close().await?;
    bob.close().await?;
    if text.as_deref() != Some(b"hello") || seen.received_ttl != Some(TTL) {
        return Err("the options did not reach the wire".into());
    }
    Ok(())
}

/// With the fork, which has a third variant, this does not compile.
const _: fn(&Net) = |net| match net {
    Net::Ifs(_) | Net::VNet(_) => {}
};
