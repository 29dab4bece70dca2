//! One UDP socket, and for every message another TTL, DF bit and TOS.
//!
//! Five demonstrations, sent to a receiver of the program's own over the loopback interface. The
//! receiver tells TTL and TOS, a sniffer tells the DF bit, and the program exits with 1 if anything is
//! not as asked. With `--dest` the same goes to somebody else, and nobody looks.
//!
//! ```console
//! $ cargo run --release --example per_message_udp_options
//! $ cargo run --release --example per_message_udp_options -- --dest 192.0.2.1:9
//! ```

#![forbid(unsafe_code)]

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use perpacket_examples::{Asked, Header, Values, open_sniffer, system_defaults, table};
use perpacket_lab::Sniffer;
use perpacket_udp::{
    MessageOptions, UdpSocket, create_socket_for_per_message_options, send_with_options,
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

/// One UDP socket, and for every message another TTL, DF bit and TOS.
#[derive(Debug, Parser)]
struct Args {
    /// Send to this address instead; then nothing is checked.
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "ipv6")]
    dest: Option<SocketAddr>,

    /// Run on the IPv6 loopback address.
    #[arg(long)]
    ipv6: bool,
}

fn demonstrations() -> Vec<(&'static str, Vec<MessageOptions>)> {
    let options = MessageOptions::default();
    let sequence = [16, 32, 48, 64, 80, 96, 112, 128];
    vec![
        ("1 TTL alone", vec![options.with_ttl(10)]),
        ("2 with DF", vec![options.with_ttl(64).with_df_bit(true)]),
        (
            "3 without DF",
            vec![options.with_ttl(128).with_df_bit(false)],
        ),
        (
            "4 all three",
            vec![options.with_ttl(32).with_df_bit(true).with_tos(0x10)],
        ),
        (
            "5 in sequence",
            sequence
                .map(|ttl| options.with_ttl(ttl).with_df_bit(true))
                .into(),
        ),
    ]
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Before there is a second thread: without root, this moves the process into another network.
    let sniffer = match args.dest {
        Some(_) => None,
        None => open_sniffer()
            .inspect_err(|why| eprintln!("No sniffer, so the DF bit is not visible. Why: {why}"))
            .ok(),
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start tokio")
        .and_then(|runtime| {
            runtime.block_on(async {
                match args.dest {
                    Some(destination) => send_only(destination).await,
                    None => send_and_check(args.ipv6, sniffer).await,
                }
            })
        });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn send_only(destination: SocketAddr) -> Result<bool> {
    let any: SocketAddr = match destination {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let defaults = system_defaults(destination.is_ipv6())?;
    let socket = create_socket_for_per_message_options(any)?;
    let mut table = table(&["message", "TTL", "DF", "TOS", "sent"]);
    let mut all_sent = true;
    for (name, messages) in demonstrations() {
        for options in messages {
            let result = send_with_options(&socket, name.as_bytes(), destination, &options).await;
            all_sent &= result.is_ok();
            let [ttl, df, tos] = Asked::new(options, defaults).cells();
            let sent = result.map_or_else(|error| error.to_string(), |n| format!("{n} bytes"));
            table.add_row([name.to_owned(), ttl, df, tos, sent]);
        }
    }
    println!("{}\n\nTo {destination}; nobody looked.", table.trim_fmt());
    Ok(all_sent)
}

async fn send_and_check(ipv6: bool, mut sniffer: Option<Sniffer>) -> Result<bool> {
    let loopback: SocketAddr = if ipv6 {
        (Ipv6Addr::LOCALHOST, 0).into()
    } else {
        (Ipv4Addr::LOCALHOST, 0).into()
    };
    let defaults = system_defaults(ipv6)?;
    let receiver = UdpSocket::bind(loopback)?;
    let socket = create_socket_for_per_message_options(loopback)?;
    let mut table = table(&[
        "message", "TTL", "DF", "TOS", "TTL seen", "DF seen", "TOS seen", "verdict",
    ]);
    let (mut messages_sent, mut wrong) = (0, 0);
    for (name, messages) in demonstrations() {
        for options in messages {
            messages_sent += 1;
            let message = format!("{name}, message {messages_sent}");
            let destination = receiver.local_addr();
            send_with_options(&socket, message.as_bytes(), destination, &options).await?;

            let mut seen = receive(&receiver, &message).await?;
            if let Some(sniffer) = &mut sniffer {
                seen.df = on_the_wire(sniffer, destination, &message, seen)?;
            }
            let asked = Asked::new(options, defaults);
            let verdict = match (asked.is_met_by(seen), seen.df, ipv6) {
                (false, ..) => "MISMATCH",
                (true, None, false) => "ok, DF not visible",
                (true, ..) => "ok",
            };
            wrong += u32::from(!asked.is_met_by(seen));
            let mut values = Values::default();
            values.add(seen);
            let mut cells = vec![name.to_owned()];
            cells.extend(asked.cells());
            cells.extend(values.cells());
            cells.push(verdict.to_owned());
            table.add_row(cells);
        }
    }
    println!("{}\n", table.trim_fmt());
    println!("In parentheses: not asked for, so the system's default.");
    if ipv6 {
        println!("IPv6 has no DF bit.");
    }
    println!("{messages_sent} datagrams, {wrong} wrong");
    Ok(wrong == 0)
}

/// What the receiver sees of the header.
async fn receive(receiver: &UdpSocket, message: &str) -> Result<Header> {
    let mut buffer = [0; 1500];
    let meta = timeout(PATIENCE, receiver.recv_from(&mut buffer))
        .await
        .context("nothing arrived")??;
    ensure!(
        buffer[..meta.len] == *message.as_bytes(),
        "something else arrived"
    );
    Ok(Header {
        ttl: meta.ttl.context("the receiver does not see the TTL")?,
        df: None,
        tos: meta
            .tos
            .context("the receiver does not see the TOS")?
            .byte(),
    })
}

/// The DF bit, from the sniffer, which has to agree with the receiver about the rest.
fn on_the_wire(
    sniffer: &mut Sniffer,
    destination: SocketAddr,
    message: &str,
    received: Header,
) -> Result<Option<bool>> {
    let packet = sniffer.find(PATIENCE, |packet| {
        packet.destination == destination && packet.payload == message.as_bytes()
    })?;
    ensure!(
        (packet.ttl, packet.tos) == (received.ttl, received.tos),
        "receiver and sniffer disagree: {received:?}, {packet}"
    );
    Ok(destination.is_ipv4().then_some(packet.df))
}
