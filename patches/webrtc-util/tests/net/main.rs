//! The replaced `Net` beside upstream's behaviour, alone and under real peer connections.

mod custom;
mod graph;
mod peers;
mod system;
mod virtual_network;

use std::time::Duration;

use anyhow::{Context as _, Result};
use webrtc_util::Conn;

/// What every wait in these tests is limited to.
const DEADLINE: Duration = Duration::from_secs(20);

/// Sends a datagram each way between two sockets.
async fn exchange(a: &(dyn Conn + Send + Sync), b: &(dyn Conn + Send + Sync)) -> Result<()> {
    for (from, to) in [(a, b), (b, a)] {
        let (source, destination) = (from.local_addr()?, to.local_addr()?);
        let sent = format!("{source} to {destination}");
        from.send_to(sent.as_bytes(), destination).await?;
        let mut buf = [0; 100];
        let (len, seen) = tokio::time::timeout(DEADLINE, to.recv_from(&mut buf))
            .await
            .with_context(|| format!("not received: {sent}"))??;
        assert_eq!((sent.as_bytes(), source), (&buf[..len], seen));
    }
    Ok(())
}
