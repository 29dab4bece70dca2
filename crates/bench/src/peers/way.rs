//! How a peer connection gets its sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use perpacket_udp::{Batching, Dscp, MessageOptions};
use perpacket_webrtc::{CustomMux, CustomNet, PacketClass};
use tokio::net::UdpSocket;
use webrtc::api::setting_engine::SettingEngine;
use webrtc::ice::mdns::MulticastDnsMode;
use webrtc::ice::network_type::NetworkType;
use webrtc::ice::udp_mux::{UDPMux as _, UDPMuxDefault, UDPMuxParams};
use webrtc::ice::udp_network::UDPNetwork;

use super::DEADLINE;

/// Where everything is bound.
pub(super) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How a peer connection gets its sockets, and which line of webrtc-rs it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// webrtc-rs 0.17, a socket of its own for each.
    Stock,
    /// webrtc-rs 0.17, `UDPMuxDefault` on a tokio socket.
    StockMux,
    /// webrtc-rs 0.17, a socket of a [`CustomNet`] for each.
    Net,
    /// The same, gathering what is sent.
    NetBatched,
    /// webrtc-rs 0.17, a [`CustomMux`].
    Mux,
    /// The same, gathering what is sent.
    MuxBatched,
    /// webrtc 0.21, a socket of its own for each.
    Next,
}

impl Way {
    /// All, what is compared beside what it is compared with.
    pub(super) const ALL: [Self; 7] = [
        Self::Stock,
        Self::Net,
        Self::NetBatched,
        Self::StockMux,
        Self::Mux,
        Self::MuxBatched,
        Self::Next,
    ];

    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    /// What it is called in the name of a row.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::StockMux => "stock-mux",
            Self::Net => "perpacket-net",
            Self::NetBatched => "perpacket-net-batched",
            Self::Mux => "perpacket-mux",
            Self::MuxBatched => "perpacket-mux-batched",
            Self::Next => "webrtc-0.21",
        }
    }

    /// What it is compared with.
    pub(super) const fn stock(self) -> Option<Self> {
        match self {
            Self::Net | Self::NetBatched | Self::Next => Some(Self::Stock),
            Self::Mux | Self::MuxBatched => Some(Self::StockMux),
            Self::Stock | Self::StockMux => None,
        }
    }
}

/// What the peer connections of one program send through, where it is of webrtc-rs 0.17.
pub(super) enum Sockets {
    Stock,
    StockMux(Arc<UDPMuxDefault>),
    Net(CustomNet),
    Mux(CustomMux),
}

impl Sockets {
    /// To be called on the runtime.
    ///
    /// # Errors
    /// When nothing can be bound, and for [`Way::Next`], which has its own.
    pub(super) async fn new(way: Way) -> Result<Self> {
        Ok(match way {
            Way::Stock => Self::Stock,
            Way::StockMux => {
                let socket = UdpSocket::bind(LOOPBACK).await?;
                Self::StockMux(UDPMuxDefault::new(UDPMuxParams::new(socket)))
            }
            Way::Net | Way::NetBatched => Self::Net(net(way)?),
            Way::Mux | Way::MuxBatched => Self::Mux(CustomMux::bind(&net(way)?, LOOPBACK)?),
            Way::Next => anyhow::bail!("webrtc 0.21 binds its sockets itself"),
        })
    }

    /// The settings of a peer connection that sends through these.
    pub(super) fn settings(&self, name: &str) -> SettingEngine {
        let mut settings = settings();
        match self {
            Self::Stock => {}
            Self::StockMux(mux) => {
                settings.set_udp_network(UDPNetwork::Muxed(Arc::clone(mux) as _));
            }
            Self::Net(net) => net.session(name).install(&mut settings),
            Self::Mux(mux) => mux
                .for_session(&mux.net().session(name))
                .install(&mut settings),
        }
        settings
    }

    /// What a program does with a description that it sends.
    pub(super) fn signalled(&self, description: &str) {
        if let Self::Mux(mux) = self {
            mux.learn(description);
        }
    }

    /// Ends what would go on without peer connections.
    pub(super) async fn close(&self) {
        if let Self::StockMux(mux) = self {
            // Nothing depends on it any more.
            let _ = mux.close().await;
        }
    }
}

/// A network whose media and data are marked, as those of a server would be.
fn net(way: Way) -> Result<CustomNet> {
    let builder = CustomNet::builder();
    let net = match way {
        Way::NetBatched | Way::MuxBatched => builder.batching(Batching::new()).build(),
        _ => builder.build(),
    };
    let marked = |dscp| MessageOptions::default().with_ttl(64).with_dscp(dscp);
    net.set_class_options(PacketClass::Srtp, marked(Dscp::AF41))
        .and_then(|()| net.set_class_options(PacketClass::Srtcp, marked(Dscp::AF41)))
        .and_then(|()| net.set_class_options(PacketClass::Dtls, marked(Dscp::AF21)))
        .context("cannot set options")?;
    Ok(net)
}

/// Settings for the loopback interface, and none of perpacket's.
pub(super) fn settings() -> SettingEngine {
    let mut settings = SettingEngine::default();
    settings.set_ice_multicast_dns_mode(MulticastDnsMode::Disabled);
    settings.set_include_loopback_candidate(true);
    settings.set_ip_filter(Box::new(|address| address == LOOPBACK.ip()));
    settings.set_network_types(vec![NetworkType::Udp4]);
    // A machine that is busy must not end what is measured.
    settings.set_ice_timeouts(Some(DEADLINE), Some(DEADLINE), None);
    settings
}
