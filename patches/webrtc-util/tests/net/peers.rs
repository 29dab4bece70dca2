//! Peer connections of the `webrtc` crate, with the replaced `Net` under them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::sync::mpsc;
use webrtc::api::APIBuilder;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::peer_connection::RTCPeerConnection;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc_util::vnet::net::{Net, NetProvider};

use crate::DEADLINE;
use crate::custom::Recorder;
use crate::virtual_network::{A, B, two_hosts};

/// `webrtc_util` as the stack names it is the crate under test.
const _: fn(Net) -> webrtc::util::vnet::net::Net = |net| net;

#[tokio::test]
async fn connect_over_the_virtual_network() -> Result<()> {
    let (a, b, _router) = two_hosts().await?;
    connect(a, b).await
}

#[tokio::test]
async fn take_every_socket_from_the_provider() -> Result<()> {
    let (a, b, _router) = two_hosts().await?;
    let (a, b) = (Recorder::of(a), Recorder::of(b));
    let custom = |of: &Arc<Recorder>| Net::Custom(Arc::clone(of) as Arc<dyn NetProvider>);
    // There is no way from one to the other but the virtual network behind the providers.
    connect(custom(&a), custom(&b)).await?;
    for (recorder, ip) in [(a, A), (b, B)] {
        let calls = recorder.calls.lock().unwrap();
        assert!(calls.contains(&"interfaces".to_owned()), "{calls:?}");
        assert!(calls.contains(&format!("bind {ip}:0")), "{calls:?}");
    }
    Ok(())
}

/// Connects two peers, and returns when a message on a data channel has arrived.
async fn connect(offerer: Net, answerer: Net) -> Result<()> {
    let (offerer, answerer) = (peer(offerer).await?, peer(answerer).await?);
    let (arrived, mut message) = mpsc::channel(1);
    answerer.on_data_channel(Box::new(move |channel| {
        let arrived = arrived.clone();
        Box::pin(async move {
            channel.on_message(Box::new(move |message| {
                let arrived = arrived.clone();
                Box::pin(async move {
                    // The other end is gone only when the test has failed.
                    let _ = arrived.send(message.data).await;
                })
            }));
        })
    }));
    let channel = offerer.create_data_channel("test", None).await?;
    let sender = Arc::clone(&channel);
    channel.on_open(Box::new(move || {
        Box::pin(async move {
            sender
                .send_text("hello")
                .await
                .expect("the channel is open");
        })
    }));

    negotiate(&offerer, &answerer).await?;
    let message = tokio::time::timeout(DEADLINE, message.recv()).await;
    assert_eq!(Some(Bytes::from("hello")), message.context("no message")?);
    offerer.close().await?;
    answerer.close().await?;
    Ok(())
}

async fn peer(net: Net) -> Result<RTCPeerConnection> {
    let mut settings = SettingEngine::default();
    settings.set_vnet(Some(Arc::new(net)));
    // mDNS has a socket of its own, which does not come from `Net`.
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    let api = APIBuilder::new().with_setting_engine(settings).build();
    Ok(api.new_peer_connection(RTCConfiguration::default()).await?)
}

/// Offer and answer, with all candidates in them.
async fn negotiate(offerer: &RTCPeerConnection, answerer: &RTCPeerConnection) -> Result<()> {
    let mut gathered = offerer.gathering_complete_promise().await;
    offerer
        .set_local_description(offerer.create_offer(None).await?)
        .await?;
    let _ = gathered.recv().await;
    let offer = offerer.local_description().await.context("no offer")?;
    answerer.set_remote_description(offer).await?;

    let mut gathered = answerer.gathering_complete_promise().await;
    answerer
        .set_local_description(answerer.create_answer(None).await?)
        .await?;
    let _ = gathered.recv().await;
    let answer = answerer.local_description().await.context("no answer")?;
    offerer.set_remote_description(answer).await?;
    Ok(())
}
