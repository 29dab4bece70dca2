//! Peer connections come and go, and leave nothing behind: no descriptor, no task, no entry.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use perpacket_lab::{Lab, Test};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{CustomNet, PacketClass};
use webrtc::peer_connection::certificate::RTCCertificate;
use webrtc::peer_connection::configuration::RTCConfiguration;

use support::churn::{Census, certificate, come_and_go, meet};
use support::connection;

const PAIRS: usize = 250;

/// How many pairs there are at a time.
const AT_A_TIME: usize = 10;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![("nothing_is_left_behind", nothing_is_left_behind)];
    perpacket_lab::main(tests)
}

fn nothing_is_left_behind() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let runtime = host.runtime()?;
    // All descriptors that a socket can have: one for each value of the DF bit, and one while errors are on.
    let net = CustomNet::builder().icmp_errors(true).build();
    net.set_class_options(PacketClass::Stun, MessageOptions::NONE.with_df_bit(true))?;
    net.set_class_options(PacketClass::Dtls, MessageOptions::NONE.with_df_bit(false))?;
    let certificate = certificate()?;
    let pair = |number| one_pair(net.clone(), certificate.clone(), number);

    // The first ones leave what the runtime and the libraries keep for good.
    runtime.block_on(come_and_go(0..AT_A_TIME, AT_A_TIME, pair))?;
    let before = Census::settled(&net, None, runtime.handle(), None)?;
    ensure!((before.conns, before.sessions) == (0, 0), "{before:?}");

    let begun = Instant::now();
    runtime.block_on(come_and_go(AT_A_TIME..PAIRS, AT_A_TIME, pair))?;
    let after = Census::settled(&net, None, runtime.handle(), Some(before))?;
    println!(
        "{PAIRS} pairs in {:.1?}: {before:?}, {after:?}",
        begun.elapsed()
    );
    let total = net.snapshot().total;
    let received = total.class(PacketClass::Dtls).received;
    ensure!(received >= PAIRS as u64, "{total:?}");
    Ok(())
}

async fn one_pair(net: CustomNet, certificate: RTCCertificate, number: usize) -> Result<()> {
    let address: IpAddr = if number.is_multiple_of(2) {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    let peer = async |side: &str| {
        let session = net.session(format!("{side} {number}"));
        let configuration = RTCConfiguration {
            certificates: vec![certificate.clone()],
            ..RTCConfiguration::default()
        };
        let connection = connection::new(address, configuration, |settings| {
            session.install(settings);
        });
        connection.await
    };
    meet(peer("offerer").await?, peer("answerer").await?).await
}
