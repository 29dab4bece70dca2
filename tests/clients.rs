//! Clients that nobody here wrote, against the WHIP server: they connect and talk, and the wire tells that every
//! datagram sent to them has the IP header of its class, while that changes under them.
//!
//! `sh tests/clients/install.sh` installs them; `tests/clients/README.md` says what they are and what was found.

mod clients {
    pub(crate) mod browser;
    pub(crate) mod client;
    pub(crate) mod home;
    pub(crate) mod page;
    pub(crate) mod phases;
    pub(crate) mod program;
    pub(crate) mod server;
}
mod support;

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Lab, Node, Sniffer, Test, until};

use clients::client::{Client, Kind, Status};
use clients::phases::Phases;
use clients::server::{Server, Way};
use support::connection::DEADLINE;
use support::wire::{count, sent_after};

/// How many datagrams of STUN, DTLS, SRTP and SRTCP make a phase. The first and the last are sent by the clock: of
/// STUN a few in ten seconds.
const ENOUGH: [usize; 4] = [1, 20, 40, 3];

/// How many messages go back and forth, beside a steady trickle.
const MESSAGES: u32 = 1000;

/// The slowest that a message may be when nothing interrupts it. Mostly it is a tenth of a second; on a machine that is
/// busy with something else, a client in Python has taken six.
const UNINTERRUPTED: Duration = Duration::from_secs(15);

/// What the cable carries: more than some of them read in one message of STUN.
const MTU: u32 = 9216;

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// A client by each way, over each family of addresses.
macro_rules! each_way {
    ($name:literal, $kind:ident) => {
        [
            (concat!($name, "_net_v4"), || talk(Kind::$kind, Net, V4)),
            (concat!($name, "_mux_v4"), || talk(Kind::$kind, Mux, V4)),
            (concat!($name, "_mux_v6"), || talk(Kind::$kind, Mux, V6)),
        ]
    };
}

fn main() -> ExitCode {
    use Family::{V4, V6};
    use Way::{Mux, Net};
    let tests: [[Test; 3]; 8] = [
        each_way!("chromium", Chromium),
        each_way!("chromium_with_camera", ChromiumWithCamera),
        each_way!("firefox", Firefox),
        each_way!("firefox_with_camera", FirefoxWithCamera),
        each_way!("aiortc", Aiortc),
        each_way!("node_datachannel", NodeDatachannel),
        each_way!("werift", Werift),
        each_way!("wrtc", Wrtc),
    ];
    perpacket_lab::main(tests.concat())
}

fn talk(kind: Kind, way: Way, family: Family) -> Result<()> {
    let lab = Lab::new();
    // A router, to say at once that nothing else is to be reached: browsers try.
    let (near, far) = (lab.router("server")?, lab.host("client")?);
    let address = connect_hosts(&lab, &near, &far, family)?;
    let mut wire = Sniffer::on(&near, "eth0")?;
    let server = Server::start(&near, address, way)?;
    let mut phases = Phases::begin(&server)?;

    let mut client = Client::start(kind, &far)?;
    let versions = client.versions()?;
    let connected = client.connect(server.url()).context(versions.clone())?;
    ensure!(connected.hides == kind.hides());
    ensure!(connected.pair.remote.may_be(address), "not {address}");
    ensure!(server.sessions() == 1);

    client.messages(MESSAGES).context(versions.clone())?;
    let mut status = connected.clone();
    for phase in 0..3 {
        if phase > 0 {
            phases.next(&server)?;
        }
        wire.wait_for(DEADLINE, |packets| {
            let counts = count(sent_after(packets, address, phases.since()));
            let mut classes = counts.iter().zip(ENOUGH);
            classes.all(|(count, want)| *count >= want)
        })?;
        status = client.status_beyond(&status).context(versions.clone())?;
        uninterrupted(&connected, &status).with_context(|| format!("phase {phase}: {status}"))?;
    }
    let mut capture = wire.stop()?;
    // Probes have headers of their own, so the wire is looked at before and after.
    let accepted = server
        .accepted(kind.reads(), MTU as usize)
        .context(versions.clone())?;
    let wire = Sniffer::on(&near, "eth0")?;
    status = client.status_beyond(&status).context(versions.clone())?;
    uninterrupted(&connected, &status).with_context(|| format!("after probes: {status}"))?;
    println!("{versions}, {way:?}: {status}, answers probes of {accepted}");
    client.close().context(versions)?;
    until(
        DEADLINE,
        || "the session to end".to_owned(),
        || Ok((server.sessions() == 0).then_some(())),
    )?;

    let ending = wire.stop()?;
    ensure!(capture.dropped == 0 && ending.dropped == 0);
    capture.packets.extend(ending.packets);
    phases.hold(&capture.packets, address)?;
    if let Some(port) = server.port() {
        let stray = sent_after(&capture.packets, address, SystemTime::UNIX_EPOCH)
            .find(|packet| packet.source.port() != port);
        ensure!(stray.is_none(), "not from {port}: {stray:?}");
    }
    Ok(())
}

/// Puts a cable between two hosts, and returns the address of the near one.
fn connect_hosts(lab: &Lab, near: &Node, far: &Node, family: Family) -> Result<IpAddr> {
    lab.link(near, far)
        .mtu(MTU)
        .v4("10.0.1.1/24", "10.0.1.2/24")
        .v6("fd00:1::1/64", "fd00:1::2/64")
        .up()?;
    // A browser offers the address from which it would reach the internet.
    far.route("0.0.0.0/0", "10.0.1.1")?;
    far.route("::/0", "fd00:1::1")?;
    Ok(match family {
        Family::V4 => "10.0.1.1".parse()?,
        Family::V6 => "fd00:1::1".parse()?,
    })
}

/// Fails when ICE has left the connected state since it was first reached, or a message took long.
fn uninterrupted(connected: &Status, after: &Status) -> Result<()> {
    let since = after.ice.iter().skip(connected.ice.len().saturating_sub(1));
    for state in since {
        ensure!(
            ["connected", "completed"].contains(&&**state),
            "ICE: {:?}",
            after.ice
        );
    }
    ensure!(Duration::from_millis(after.slowest_ms) < UNINTERRUPTED);
    Ok(())
}
