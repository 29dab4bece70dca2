//! What a client does with more than one data channel.

use anyhow::{Result, ensure};
use perpacket_path::{TOS_REPORT_LABEL, TosReports};

use super::client::{Client, Offer, Opened};
use super::server::Sockets;
use crate::support::hosts::Family;

/// As many as a session may have, of which all but the first are closed again, and one more.
pub(crate) fn too_many() -> Result<()> {
    const LIMIT: usize = 64;
    let (hosts, server) = crate::start(Family::V4, Sockets::Own, |sessions| sessions)?;
    let mut client = Client::connect(&hosts.sides[0], &server, &Offer::messages())?;
    // The first is there already.
    for number in 2..=LIMIT {
        let mut channel = client.open(&number.to_string())?;
        // webrtc-rs takes no more channels after one that is closed before it is taken.
        channel.send("hello")?;
        ensure!(channel.next()?.data == *b"hello".as_slice());
        channel.close()?;
    }
    client.echo("still here")?;
    ensure!(server.sessions.list().len() == 1);

    let _one_more = client.open("one more")?;
    server.is_empty(&hosts.sides[1])
}

/// The server reports on the channel that was opened last, and sends back nothing on any.
pub(crate) fn reports_are_resumed() -> Result<()> {
    let (hosts, server) = crate::start(Family::V6, Sockets::Own, |sessions| sessions)?;
    let client = Client::connect(&hosts.sides[0], &server, &Offer::messages())?;
    let mut first = client.open(TOS_REPORT_LABEL)?;
    hears_reports(&mut first)?;
    let mut second = client.open(TOS_REPORT_LABEL)?;
    hears_reports(&mut second)?;
    first.close()?;
    second.close()?;
    hears_reports(&mut client.open(TOS_REPORT_LABEL)?)
}

fn hears_reports(channel: &mut Opened) -> Result<()> {
    channel.send("nothing that comes back")?;
    for _ in 0..3 {
        let message = channel.next()?;
        ensure!(TosReports::new().receive(&message.data), "{message:?}");
    }
    Ok(())
}
