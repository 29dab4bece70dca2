//! What becomes of large media packets once the session knows what its path carries.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use perpacket_lab::{Willing, until};
use perpacket_path::PathMtuConfig;
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{Event, PacketClass};
use webrtc::api::media_engine::MIME_TYPE_OPUS;
use webrtc::rtp::header::Header;
use webrtc::rtp::packet::Packet as Rtp;
use webrtc::rtp_transceiver::rtp_codec::RTCRtpCodecCapability;
use webrtc::track::track_local::TrackLocalWriter as _;
use webrtc::track::track_local::track_local_static_rtp::TrackLocalStaticRTP;

use super::scene::{NARROW, NEAR, Scene};
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::peer::{Peer, Task, negotiate};

/// Of RTP: with it a packet is larger than 1,400 bytes, and no larger than 1,500.
const PAYLOAD: usize = 1400;

const PACE: Duration = Duration::from_millis(10);

/// How many show that they get through, or that they do not.
const SOME: u64 = 20;

/// They are lost in the black hole, with DF as the policy has it; then the application hears of it, and on IPv4 they are cut
/// and arrive. On IPv6 no router cuts them, and no host either that can send them whole.
pub(crate) fn large_media_are_not_lost_in_silence(family: Family) -> Result<()> {
    let scene = Scene::new(family, 1500, NEAR)?;
    let session = scene.measured.session.clone();
    session.set_options(MessageOptions::NONE.with_df_bit(true))?;
    let media = send_large(&scene.measured.left, &scene.measured.right)?;
    let counted = |scene: &Scene| {
        let of = |session: &perpacket_webrtc::Session| *session.total().class(PacketClass::Srtp);
        let (near, far) = (&scene.measured.session, &scene.measured.far_session);
        (of(near).sent, of(far).received, of(near).oversize)
    };
    let arrive = |scene: &Scene| {
        let (.., before, _) = counted(scene);
        let more = || Ok((counted(scene).1 >= before + SOME).then_some(()));
        until(DEADLINE, || "large media".to_owned(), more)
    };
    arrive(&scene)?;

    scene.narrow(1400, Willing::Silent)?;
    // What was on the way when the hole appeared has arrived by the time that this is known.
    let ([report], _) = scene.measure_undisturbed(&[PathMtuConfig::default()], 1400)?;
    let (sent, received, oversize) = counted(&scene);
    let lost = || Ok((counted(&scene).0 >= sent + SOME).then_some(()));
    until(DEADLINE, || "large media to be sent".to_owned(), lost)?;
    ensure!(counted(&scene).1 == received, "the hole lets them through");
    ensure!(oversize == 0);

    let mut events = session.net().events();
    report.apply(&session)?;
    ensure!(session.path_mtu() == Some(1400));
    match family {
        Family::V4 => arrive(&scene)?,
        Family::V6 => {
            let told = || Ok((counted(&scene).2 >= SOME).then_some(()));
            until(DEADLINE, || "large media to be counted".to_owned(), told)?;
        }
    }
    ensure!(counted(&scene).2 >= SOME);
    let heard = std::iter::from_fn(|| events.try_recv().ok()).find_map(|event| match event {
        Event::Oversize {
            class, length, mtu, ..
        } => Some((class, length, mtu)),
        _ => None,
    });
    ensure!(
        matches!(heard, Some((PacketClass::Srtp, PAYLOAD.., 1400))),
        "{heard:?}"
    );
    // By the router that they do not fit through.
    let cut = scene.wan.counters().hops[NARROW - 1].fragmented;
    ensure!((cut >= SOME) == (family == Family::V4), "{cut}");
    drop(media);
    scene.finish()
}

/// Sends large RTP packets from one to the other until what is returned is dropped.
fn send_large(from: &Peer, to: &Peer) -> Result<Task<()>> {
    let codec = RTCRtpCodecCapability {
        mime_type: MIME_TYPE_OPUS.to_owned(),
        ..RTCRtpCodecCapability::default()
    };
    let track = TrackLocalStaticRTP::new(codec, "audio".to_owned(), "lab".to_owned());
    let track = Arc::new(track);
    from.block_on(from.connection.add_track(Arc::clone(&track) as Arc<_>))?;
    negotiate(from, to, false)?;
    Ok(from.spawn(async move {
        let mut pace = tokio::time::interval(PACE);
        let mut packet = Rtp {
            header: Header {
                version: 2,
                ..Header::default()
            },
            payload: Bytes::from_static(&[7; PAYLOAD]),
        };
        loop {
            pace.tick().await;
            packet.header.sequence_number = packet.header.sequence_number.wrapping_add(1);
            // What comes of it is counted.
            let _ = track.write_rtp(&packet).await;
        }
    }))
}
