//! A server with one UDP port and two clients, on stock webrtc-rs over loopback: every packet of the
//! server arrives with the TTL that the client's session was given, and the port is one.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use perpacket_webrtc::udp::MessageOptions;
use perpacket_webrtc::{CustomMux, CustomNet, PacketClass};
use webrtc::api::APIBuilder;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc_util::vnet::net::Net;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What is new is the one line with `mux`.
async fn peer(net: &CustomNet, mux: &CustomMux, name: &str) -> Result<Arc<RTCPeerConnection>> {
    let mut settings = SettingEngine::default();
    mux.for_session(&net.session(name)).install(&mut settings);
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    let api = APIBuilder::new().with_setting_engine(settings).build();
    Ok(Arc::new(
        api.new_peer_connection(RTCConfiguration::default()).await?,
    ))
}

#[tokio::main]
async fn main() -> Result<()> {
    let net = CustomNet::new();
    let server = CustomMux::bind(&net, "127.0.0.1:0".parse()?)?;
    for ttl in [41, 42] {
        let client = CustomMux::bind(&net, "127.0.0.1:0".parse()?)?;
        let (near, far) = (format!("client {ttl}"), format!("server {ttl}"));
        // Held, so that what it counted is not forgotten when the connection is.
        let (seen, set) = (net.session(&near), net.session(&far));
        set.set_options(MessageOptions::default().with_ttl(ttl))?;
        talk(
            &peer(&net, &client, &near).await?,
            &peer(&net, &server, &far).await?,
        )
        .await?;
        let dtls = *seen.total().class(PacketClass::Dtls);
        println!("TTL {:?} in {} datagrams", dtls.received_ttl, dtls.received);
        if dtls.received_ttl != Some(ttl) {
            return Err("the options did not reach the wire".into());
        }
    }
    let muxed = server.snapshot();
    println!("{muxed:?}");
    if muxed.connections != 0 || muxed.addresses != 0 {
        return Err("something is left behind".into());
    }
    server.close().await;
    Ok(())
}

/// Connects the two, sends a message, and closes them.
async fn talk(alice: &Arc<RTCPeerConnection>, bob: &Arc<RTCPeerConnection>) -> Result<()> {
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
    if text.as_deref() != Some(b"hello") {
        return Err(format!("{text:?} arrived").into());
    }
    for connection in [alice, bob] {
        // The second one says that it cannot tell the first, and is closed all the same.
        let _ = connection.close().await;
    }
    Ok(())
}

/// With the fork, which has a third variant, this does not compile.
const _: fn(&Net) = |net| match net {
    Net::Ifs(_) | Net::VNet(_) => {}
};
