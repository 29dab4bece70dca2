//! A server that is gone.

use std::sync::Arc;

use perpacket_webrtc::{Probe, ProbeResult, Prober, Session};
use tokio::sync::watch;
use webrtc::peer_connection::RTCPeerConnection;

/// How often a server that has closed the data channel is asked whether it is there.
const LAST_QUESTIONS: usize = 3;

/// Returns once the server has closed the data channel, and answers nothing any more. ICE would take half a
/// minute to find that out, and DTLS tells webrtc-rs alone.
pub(super) async fn gone(
    closed: Option<watch::Receiver<bool>>,
    session: Session,
    connection: Arc<RTCPeerConnection>,
) {
    let is_closed = match closed {
        Some(mut closed) => closed.wait_for(|closed| *closed).await.is_ok(),
        None => false,
    };
    if is_closed && !answers(&session, &connection).await {
        return;
    }
    std::future::pending::<()>().await;
}

async fn answers(session: &Session, connection: &Arc<RTCPeerConnection>) -> bool {
    let Ok(prober) = Prober::new(session, connection).await else {
        return false;
    };
    for _ in 0..LAST_QUESTIONS {
        let asked = prober.probe(Probe::new()).await;
        if let Ok(outcome) = asked
            && matches!(outcome.result, ProbeResult::Answered(_))
        {
            return true;
        }
    }
    false
}
