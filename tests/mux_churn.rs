//! Sessions come and go on one mux, many at a time, and nothing grows: no descriptors, no entries, no memory.

mod support;

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Lab, Test};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{AddressFamily, CustomMux, CustomNet, PacketClass};
use webrtc::api::setting_engine::SettingEngine;
use webrtc::peer_connection::certificate::RTCCertificate;
use webrtc::peer_connection::configuration::RTCConfiguration;

use support::churn::{Census, certificate, come_and_go, meet};
use support::connection;

/// How many sessions there are in all, unless the environment says otherwise: `PERPACKET_CHURN=2000`.
const SESSIONS: usize = 600;

/// How many at a time.
const AT_A_TIME: usize = 50;

/// After so many sessions it is looked at what there is. From the first time on it must not grow.
const ROUND: usize = 200;

/// By how much resident memory may differ, in KiB: the allocator keeps what it likes. Of 2,000 sessions it is less than
/// 10 KiB each.
const SLACK: usize = 16 << 10;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![("nothing_grows", nothing_grows)];
    perpacket_lab::main(tests)
}

fn nothing_grows() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let runtime = host.runtime()?;
    let net = CustomNet::new();
    // The sockets have all their twins.
    net.set_class_options(PacketClass::Stun, MessageOptions::NONE.with_df_bit(true))?;
    net.set_class_options(PacketClass::Dtls, MessageOptions::NONE.with_df_bit(false))?;
    let mux = CustomMux::builder(&net)
        .bind((Ipv4Addr::LOCALHOST, 5000).into())
        .bind((Ipv6Addr::LOCALHOST, 5000).into());
    let mux = runtime.block_on(async { mux.build() })?;
    let certificate = certificate()?;

    let pair = |number| one_pair(net.clone(), mux.clone(), certificate.clone(), number);
    let round = |number, before| {
        let begun = Instant::now();
        let numbers = number * ROUND..(number + 1) * ROUND;
        runtime.block_on(come_and_go(numbers, AT_A_TIME, pair))?;
        let census = Census::settled(&net, Some(&mux), runtime.handle(), before)?;
        let resident = resident()?;
        let elapsed = begun.elapsed();
        println!("{ROUND} sessions in {elapsed:.1?}: {census:?}, {resident} KiB");
        anyhow::Ok((census, resident))
    };

    let sessions = match env::var("PERPACKET_CHURN") {
        Ok(number) => number.parse().context("PERPACKET_CHURN")?,
        Err(_) => SESSIONS,
    };
    let (first, resident) = round(0, None)?;
    // The mux itself has one that is nobody's.
    ensure!(
        (first.conns, first.sessions, first.mux) == (1, 0, [0; 3]),
        "{first:?}"
    );
    for number in 1..sessions / ROUND {
        let (_, now) = round(number, Some(first))?;
        ensure!(now <= resident + SLACK, "{resident} KiB have become {now}");
    }
    let received = net.snapshot().total.class(PacketClass::Dtls).received;
    ensure!(received >= sessions as u64, "{received}");
    Ok(())
}

/// The memory of the process that is not swapped or unused, in KiB (`VmRSS`, proc(5)).
fn resident() -> Result<usize> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(size.context("no VmRSS")?.parse()?)
}

/// One over the mux, and whoever talks to it.
async fn one_pair(
    net: CustomNet,
    mux: CustomMux,
    certificate: RTCCertificate,
    number: usize,
) -> Result<()> {
    let (address, family): (IpAddr, _) = if number.is_multiple_of(2) {
        (Ipv4Addr::LOCALHOST.into(), AddressFamily::V4)
    } else {
        (Ipv6Addr::LOCALHOST.into(), AddressFamily::V6)
    };
    let peer = async |install: &(dyn Fn(&mut SettingEngine) + Sync)| {
        let configuration = RTCConfiguration {
            certificates: vec![certificate.clone()],
            ..RTCConfiguration::default()
        };
        let connection = connection::new(address, configuration, |settings| {
            install(settings);
            let [never, second] = [600, 1].map(Duration::from_secs);
            settings.set_ice_timeouts(Some(never), Some(never), Some(second));
        });
        connection.await
    };
    let sessions = ["client", "server"].map(|side| net.session(format!("{side} {number}")));
    let mux = mux.for_session(&sessions[1]).with_family(family);
    let client = peer(&|settings| sessions[0].install(settings)).await?;
    let server = peer(&|settings| mux.install(settings)).await?;
    meet(client, server).await
}
