//! Peer connections come and go, and leave nothing behind: no descriptor, no task, no entry.

mod support {
    pub(crate) mod connection;
}

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Lab, Test, until};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{CustomNet, PacketClass};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use webrtc::data_channel::data_channel_state::RTCDataChannelState;
use webrtc::dtls::crypto::Certificate;
use webrtc::peer_connection::certificate::RTCCertificate;
use webrtc::peer_connection::configuration::RTCConfiguration;

use support::connection::{self, Channel, DEADLINE};

const PAIRS: usize = 250;

/// How many pairs there are at a time.
const AT_A_TIME: usize = 10;

/// When nothing has changed for so long, nothing is about to. webrtc-rs ends some tasks by time-outs.
const QUIET: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![("nothing_is_left_behind", nothing_is_left_behind)];
    perpacket_lab::main(tests)
}

/// What there is in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Census {
    descriptors: usize,
    tasks: usize,
    conns: usize,
    sessions: usize,
}

impl Census {
    fn take(net: &CustomNet, handle: &Handle) -> Result<Self> {
        let snapshot = net.snapshot();
        Ok(Self {
            descriptors: fs::read_dir("/proc/self/fd")?.count(),
            tasks: handle.metrics().num_alive_tasks(),
            conns: snapshot.conns.len(),
            sessions: snapshot.sessions.len(),
        })
    }

    fn is_no_more_than(&self, other: &Self) -> bool {
        self.descriptors <= other.descriptors
            && self.tasks <= other.tasks
            && self.conns <= other.conns
            && self.sessions <= other.sessions
    }
}

fn nothing_is_left_behind() -> Result<()> {
    let lab = Lab::new();
    let host = lab.host("host")?;
    let runtime = host.runtime()?;
    // All descriptors that a socket can have: one for each value of the DF bit, and one while errors are on.
    let net = CustomNet::builder().icmp_errors(true).build();
    net.set_class_options(PacketClass::Stun, MessageOptions::NONE.with_df_bit(true))?;
    net.set_class_options(PacketClass::Dtls, MessageOptions::NONE.with_df_bit(false))?;
    let certificate = RTCCertificate::from_existing(
        Certificate::generate_self_signed(vec!["lab".to_owned()])?,
        SystemTime::now() + Duration::from_hours(1),
    );

    // The first ones leave what the runtime and the libraries keep for good.
    runtime.block_on(come_and_go(&net, &certificate, 0..AT_A_TIME))?;
    let before = settled(&net, runtime.handle(), None)?;
    ensure!((before.conns, before.sessions) == (0, 0), "{before:?}");

    let begun = Instant::now();
    runtime.block_on(come_and_go(&net, &certificate, AT_A_TIME..PAIRS))?;
    let after = settled(&net, runtime.handle(), Some(before))?;
    println!(
        "{PAIRS} pairs in {:.1?}: {before:?}, {after:?}",
        begun.elapsed()
    );
    let total = net.snapshot().total;
    let received = total.class(PacketClass::Dtls).received;
    ensure!(received >= PAIRS as u64, "{total:?}");
    Ok(())
}

/// Waits until there is no more than `before`; or where that is not known, until nothing has gone for a while.
fn settled(net: &CustomNet, handle: &Handle, before: Option<Census>) -> Result<Census> {
    let mut last = Census::take(net, handle)?;
    let mut since = Instant::now();
    let settled = until(
        DEADLINE,
        || "what the connections had to go away".to_owned(),
        || {
            let now = Census::take(net, handle).expect("/proc is there");
            if now != last {
                (last, since) = (now, Instant::now());
            }
            Ok(match before {
                Some(before) => now.is_no_more_than(&before),
                None => since.elapsed() > QUIET,
            }
            .then_some(()))
        },
    );
    settled.with_context(|| format!("{last:?}, before {before:?}"))?;
    Ok(last)
}

/// Makes these pairs, some at a time.
async fn come_and_go(
    net: &CustomNet,
    certificate: &RTCCertificate,
    pairs: Range<usize>,
) -> Result<()> {
    let mut running = JoinSet::new();
    for number in pairs {
        if running.len() == AT_A_TIME {
            running.join_next().await.context("none is running")???;
        }
        running.spawn(one_pair(net.clone(), certificate.clone(), number));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// Connects two, lets a message go each way, and closes them.
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
    let (offerer, answerer) = (peer("offerer").await?, peer("answerer").await?);
    let mut ends = [Channel::new(&offerer), Channel::new(&answerer)];
    ends[0].offer(&offerer).await?;
    let offer = connection::offer(&offerer, false).await?;
    let answer = connection::answer(&answerer, offer).await?;
    offerer.set_remote_description(answer).await?;
    for end in &mut ends {
        end.greet().await?;
    }
    for end in &mut ends {
        end.be_greeted().await?;
        ensure!(end.get().ready_state() == RTCDataChannelState::Open);
    }
    for connection in [offerer, answerer] {
        // The second one says that it cannot tell the first, and is closed all the same.
        let _ = connection.close().await;
    }
    Ok(())
}
