//! One server socket, three peers, and for each of them another policy, which changes while the
//! server sends.
//!
//! There is no peer connection here: the server is one [`CustomConn`], which takes whatever looks like
//! SRTP for SRTP. Each peer says what it received, a sniffer adds the DF bit, and the program exits
//! with 1 if one datagram was not as asked.
//!
//! ```console
//! $ cargo run --release --example per_peer
//! ```

#![forbid(unsafe_code)]

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use perpacket_examples::{Asked, Header, Values, open_sniffer, system_defaults, table};
use perpacket_lab::Sniffer;
use perpacket_udp::{Dscp, MessageOptions, OptionsError, UdpSocket};
use perpacket_webrtc::{CustomConn, CustomNet, PacketClass};
use tokio::time::{interval, timeout};
use webrtc_util::Conn;

const PEERS: [&str; 3] = ["anna", "bela", "carl"];
/// How many datagrams each peer waits for in each round.
const ENOUGH: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(10);

/// One server socket, three peers, three policies, changed while running.
#[derive(Debug, Parser)]
struct Args {
    /// Run on the IPv6 loopback address.
    #[arg(long)]
    ipv6: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Before there is a second thread: without root, this moves the process into another network.
    let sniffer = open_sniffer()
        .inspect_err(|why| eprintln!("No sniffer, so the DF bit is not visible. Why: {why}"))
        .ok();
    // One thread, so that no datagram is half sent while the policy changes: the next one complies.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start tokio")
        .and_then(|runtime| runtime.block_on(run(args.ipv6, sniffer)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What one peer has to see in one round, and what it saw.
struct Check {
    round: &'static str,
    peer: usize,
    /// The numbers of the datagrams of this round.
    numbers: std::ops::Range<u32>,
    asked: Asked,
    seen: Values,
    datagrams: u32,
    wrong: u32,
}

impl Check {
    fn add(&mut self, header: Header) {
        self.wrong += u32::from(!self.asked.is_met_by(header));
        self.seen.add(header);
    }
}

async fn run(ipv6: bool, sniffer: Option<Sniffer>) -> Result<bool> {
    let loopback: SocketAddr = if ipv6 {
        (Ipv6Addr::LOCALHOST, 0).into()
    } else {
        (Ipv4Addr::LOCALHOST, 0).into()
    };
    let defaults = system_defaults(ipv6)?;
    let mut peers = Vec::new();
    for _ in PEERS {
        peers.push(UdpSocket::bind(loopback)?);
    }
    let addresses: Vec<_> = peers.iter().map(UdpSocket::local_addr).collect();

    let net = CustomNet::new();
    let conn = CustomConn::bind(&net, loopback)?;
    let server = conn.local_addr()?;
    let counter = Arc::new(AtomicU32::new(0));
    tokio::spawn(serve(conn, addresses.clone(), Arc::clone(&counter)));

    let mut checks: Vec<Check> = Vec::new();
    for (round, change, asked) in rounds() {
        change(&net, &addresses)?;
        // The server goes on all the while. What it sends from here on has to comply.
        let first = counter.load(Relaxed);
        let mut checks_of_round = Vec::new();
        for (peer, options) in asked.into_iter().enumerate() {
            let mut check = Check {
                round,
                peer,
                numbers: first..u32::MAX,
                asked: Asked::new(options, defaults),
                seen: Values::default(),
                datagrams: 0,
                wrong: 0,
            };
            while check.datagrams < ENOUGH {
                let (number, header) = receive(&peers[peer])
                    .await
                    .with_context(|| format!("{} in round {round}", PEERS[peer]))?;
                if number >= first {
                    check.datagrams += 1;
                    check.add(header);
                }
            }
            checks_of_round.push(check);
        }
        let end = counter.load(Relaxed);
        checks.extend(checks_of_round.into_iter().map(|mut check| {
            check.numbers.end = end;
            check
        }));
    }

    let sees_df = sniffer.is_some();
    if let Some(sniffer) = sniffer {
        look_at_the_wire(sniffer, server, &addresses, &mut checks)?;
    }
    Ok(print(&checks, sees_df, ipv6))
}

/// A name, the change, and what each of the three peers is to see after it.
type Round = (
    &'static str,
    fn(&CustomNet, &[SocketAddr]) -> Result<(), OptionsError>,
    [MessageOptions; 3],
);

fn rounds() -> [Round; 3] {
    let options = |ttl, df_bit, dscp| {
        MessageOptions::default()
            .with_ttl(ttl)
            .with_df_bit(df_bit)
            .with_dscp(dscp)
    };
    [
        (
            "1 three policies",
            |net, peers| {
                let options = MessageOptions::default();
                let voice = options.with_ttl(10).with_df_bit(true).with_dscp(Dscp::EF);
                let video = options
                    .with_ttl(20)
                    .with_df_bit(false)
                    .with_dscp(Dscp::AF41);
                let bulk = options.with_ttl(30).with_df_bit(true).with_dscp(Dscp::CS1);
                net.set_peer_options(peers[0], voice)?;
                net.set_peer_options(peers[1], video)?;
                net.set_peer_options(peers[2], bulk)
            },
            [
                options(10, true, Dscp::EF),
                options(20, false, Dscp::AF41),
                options(30, true, Dscp::CS1),
            ],
        ),
        (
            // Anna gets a new TTL, and the rest from the class; Bela stays; Carl loses his own.
            "2 changed",
            |net, peers| {
                let options = MessageOptions::default();
                let of_class = options
                    .with_ttl(40)
                    .with_df_bit(false)
                    .with_dscp(Dscp::AF21);
                net.set_class_options(PacketClass::Srtp, of_class)?;
                net.set_peer_options(peers[0], options.with_ttl(11))?;
                net.set_peer_options(peers[2], MessageOptions::NONE)
            },
            [
                options(11, false, Dscp::AF21),
                options(20, false, Dscp::AF41),
                options(40, false, Dscp::AF21),
            ],
        ),
        (
            "3 all removed",
            |net, peers| {
                net.set_class_options(PacketClass::Srtp, MessageOptions::NONE)?;
                for peer in peers {
                    net.set_peer_options(*peer, MessageOptions::NONE)?;
                }
                Ok(())
            },
            [MessageOptions::NONE; 3],
        ),
    ]
}

/// Sends a numbered datagram to each peer in turn, and never looks at a policy.
async fn serve(conn: CustomConn, peers: Vec<SocketAddr>, counter: Arc<AtomicU32>) {
    let mut ticks = interval(Duration::from_millis(5));
    loop {
        for peer in &peers {
            let number = counter.fetch_add(1, Relaxed);
            // It always succeeds: what cannot go out is counted, and lost.
            let _ = conn.send_to(&datagram(number), *peer).await;
        }
        ticks.tick().await;
    }
}

/// Looks like SRTP: version 2, payload type 111, and the number for a timestamp (RFC 3550 §5.1).
fn datagram(number: u32) -> Vec<u8> {
    let mut datagram = vec![0x80, 111, 0, 0];
    datagram.extend(number.to_be_bytes());
    datagram.extend([0; 100]);
    datagram
}

fn number_of(datagram: &[u8]) -> Option<u32> {
    let number = datagram.get(4..8)?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

async fn receive(peer: &UdpSocket) -> Result<(u32, Header)> {
    let mut buffer = [0; 1500];
    let meta = timeout(PATIENCE, peer.recv_from(&mut buffer))
        .await
        .context("nothing arrives")??;
    let header = Header {
        ttl: meta.ttl.context("the receiver does not see the TTL")?,
        df: None,
        tos: meta
            .tos
            .context("the receiver does not see the TOS")?
            .byte(),
    };
    let number = number_of(&buffer[..meta.len]).context("a datagram of somebody else")?;
    Ok((number, header))
}

/// Compares every datagram that the server has sent with what its round asked for its peer.
fn look_at_the_wire(
    sniffer: Sniffer,
    server: SocketAddr,
    addresses: &[SocketAddr],
    checks: &mut [Check],
) -> Result<()> {
    // The peers have looked at some of these already; none is to count twice.
    let by_peers: Vec<_> = checks
        .iter_mut()
        .map(|check| {
            check.datagrams = 0;
            std::mem::take(&mut check.wrong)
        })
        .collect();
    for packet in sniffer.stop()?.packets {
        let number = number_of(&packet.payload).filter(|_| packet.source == server);
        let check = checks.iter_mut().find(|check| {
            packet.destination == addresses[check.peer]
                && number.is_some_and(|number| check.numbers.contains(&number))
        });
        if let Some(check) = check {
            check.datagrams += 1;
            check.add(Header {
                ttl: packet.ttl,
                df: packet.source.is_ipv4().then_some(packet.df),
                tos: packet.tos,
            });
        }
    }
    for (check, by_peer) in checks.iter_mut().zip(by_peers) {
        check.wrong = check.wrong.max(by_peer);
    }
    Ok(())
}

fn print(checks: &[Check], sees_df: bool, ipv6: bool) -> bool {
    let mut table = table(&[
        "round", "peer", "packets", "TTL", "DF", "TOS", "TTL seen", "DF seen", "TOS seen",
        "verdict",
    ]);
    let mut last = "";
    for check in checks {
        let round = if check.round == last { "" } else { check.round };
        last = check.round;
        let mut cells = vec![round.into(), PEERS[check.peer].into()];
        cells.push(check.datagrams.to_string());
        cells.extend(check.asked.cells());
        cells.extend(check.seen.cells());
        cells.push(match check.wrong {
            _ if check.datagrams == 0 => "NOT SEEN".into(),
            0 if sees_df || ipv6 => "ok".into(),
            0 => "ok, DF not visible".into(),
            wrong => format!("MISMATCH in {wrong}"),
        });
        table.add_row(cells);
    }
    let datagrams: u32 = checks.iter().map(|check| check.datagrams).sum();
    let wrong: u32 = checks.iter().map(|check| check.wrong).sum();
    println!("{}\n", table.trim_fmt());
    println!("In parentheses: not asked for, so the system's default.");
    if ipv6 {
        println!("IPv6 has no DF bit.");
    }
    println!("{datagrams} datagrams, {wrong} wrong");
    wrong == 0 && checks.iter().all(|check| check.datagrams > 0)
}
