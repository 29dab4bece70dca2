//! A WebRTC server for anyone's clients: it answers WHIP (RFC 9725), sends back data-channel messages
//! and media, and gives each class of packet the IP header that it is told to.
//!
//! ```console
//! $ cargo run --release --example whip_server -- --set srtp:ttl=9,tos=184
//! listening on http://127.0.0.1:8080/
//! ```
//!
//! The page at that address connects a browser. While clients are connected, lines on standard input
//! change the options of a class, in the syntax of `--set`; what a line leaves out is left to the
//! system. Each line is answered on standard output, `set` when the next packet will obey, or `error:`
//! and why:
//!
//! ```console
//! srtp:ttl=20,df=1
//! set srtp:ttl=20,df=1
//! ```
//!
//! `sessions N` is printed whenever the number of sessions changes. Ctrl-C and SIGTERM close them all
//! and end the program, with success.

#![forbid(unsafe_code)]

use std::{
    fmt,
    io::{self, BufRead, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Router, response::Html, routing::get};
use clap::Parser;
use perpacket_examples::parse_set;
use perpacket_server::{Sessions, Transport, whip};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{CustomMux, CustomNet, PacketClass};
use tokio::{
    net::{TcpListener, lookup_host},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::timeout,
};
use webrtc::{ice::url::Url, ice_transport::ice_server::RTCIceServer};

/// How long the end may take, and a STUN server.
const PATIENCE: Duration = Duration::from_secs(4);

/// A WHIP server that echoes, with IP options for each class of packet.
#[derive(Debug, Parser)]
struct Args {
    /// The TCP port of HTTP; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,

    /// The address to listen on, and to offer to clients. 0.0.0.0 is all of IPv4, :: is all there are.
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::LOCALHOST.into())]
    bind: IpAddr,

    /// The UDP port that all clients share; 0 for any that is free. Without this option each peer
    /// connection has ports of its own.
    #[arg(long, value_name = "N")]
    udp_port: Option<u16>,

    /// What a class of packets gets; can be repeated. CLASS is stun, dtls, srtp or srtcp; what is left
    /// out is the system's default.
    #[arg(long, value_name = "CLASS:ttl=N,df=0|1,tos=N", value_parser = parse_set)]
    set: Vec<(PacketClass, MessageOptions)>,

    /// A STUN server, for this side and for clients; can be repeated.
    #[arg(long, value_name = "[stun:]HOST[:PORT]", value_parser = parse_stun)]
    stun: Vec<RTCIceServer>,

    /// A TURN server over UDP, for this side and for clients; can be repeated.
    #[arg(long, value_name = "turn:USER:PASSWORD@HOST[:PORT]", value_parser = parse_turn)]
    turn: Vec<RTCIceServer>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let net = CustomNet::new();
    for (class, options) in args.set {
        net.set_class_options(class, options)?;
    }
    let transport = match args.udp_port {
        Some(port) => {
            Transport::Mux(mux(&net, SocketAddr::new(args.bind, port), &args.stun).await?)
        }
        None => Transport::Net(net.clone()),
    };
    let sessions = Sessions::builder(transport)
        .bind(args.bind)
        .ice_servers([args.stun, args.turn].concat())
        .build();

    // Before the first line is printed, which is when a script may send the signal.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let address = SocketAddr::new(args.bind, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    say(format_args!(
        "listening on http://{}/",
        listener.local_addr()?
    ));
    let page = get(async || Html(whip::PAGE));
    let app = Router::new()
        .route("/", page)
        .merge(whip::router(sessions.clone()))
        .into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(
        axum::serve(listener, app)
            .with_graceful_shutdown(async { drop(stopped.await) })
            .into_future(),
    );

    let mut lines = lines();
    let mut count = sessions.count();
    loop {
        tokio::select! {
            Some(line) = lines.recv() => match set(&net, &line) {
                Ok(()) => say(format_args!("set {line}")),
                Err(error) => say(format_args!("error: {error}")),
            },
            Ok(()) = count.changed() => say(format_args!("sessions {}", *count.borrow_and_update())),
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            ended = &mut server => return ended?.context("the HTTP server ended"),
        }
    }
    drop(stop);
    let ended = timeout(PATIENCE, async {
        tokio::join!(sessions.close_all(), server)
    });
    if ended.await.is_err() {
        eprintln!(
            "Not all sessions could be closed: {}",
            sessions.list().len()
        );
    }
    Ok(())
}

/// Prints a line; where nobody reads, the clients stay connected all the same.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// One port, whose server-reflexive addresses are known before the first client comes.
async fn mux(net: &CustomNet, address: SocketAddr, stun: &[RTCIceServer]) -> Result<CustomMux> {
    let mut mux = CustomMux::builder(net).bind(address);
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        mux = mux.bind((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    let mut servers = Vec::new();
    for url in stun.iter().flat_map(|server| &server.urls) {
        let url = Url::parse_url(url)?;
        let found = lookup_host((url.host.as_str(), url.port))
            .await
            .with_context(|| format!("cannot find {}", url.host))?;
        servers.extend(found.filter(|server| {
            address.ip() == Ipv6Addr::UNSPECIFIED || server.is_ipv4() == address.is_ipv4()
        }));
    }
    for server in &servers {
        mux = mux.stun_server(*server);
    }
    let mux = mux.build()?;
    for server in servers {
        // One of several may be enough, and without any there are host candidates.
        match timeout(PATIENCE, mux.discover(server)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => eprintln!("{error}"),
            Err(_) => eprintln!("the STUN server {server} does not answer"),
        }
    }
    Ok(mux)
}

fn set(net: &CustomNet, line: &str) -> Result<(), String> {
    let (class, options) = parse_set(line)?;
    net.set_class_options(class, options)
        .map_err(|error| error.to_string())
}

/// Standard input. On a thread, because tokio waits at its end for a line that is being read.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    thread::spawn(move || {
        let lines = io::stdin().lock().lines();
        for line in lines.map_while(Result::ok) {
            let line = line.trim();
            if !line.is_empty() && sender.blocking_send(line.to_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn parse_stun(text: &str) -> Result<RTCIceServer, String> {
    let server = text.strip_prefix("stun:").unwrap_or(text);
    ice_server(format!("stun:{server}"), "", "")
}

fn parse_turn(text: &str) -> Result<RTCIceServer, String> {
    const FORM: &str = "expected turn:USER:PASSWORD@HOST[:PORT]";
    let (account, server) = text
        .strip_prefix("turn:")
        .and_then(|rest| rest.rsplit_once('@'))
        .ok_or(FORM)?;
    let (username, credential) = account.split_once(':').ok_or(FORM)?;
    if username.is_empty() || credential.is_empty() {
        return Err(FORM.to_owned());
    }
    ice_server(format!("turn:{server}?transport=udp"), username, credential)
}

fn ice_server(url: String, username: &str, credential: &str) -> Result<RTCIceServer, String> {
    Url::parse_url(&url).map_err(|error| format!("{url}: {error}"))?;
    Ok(RTCIceServer {
        urls: vec![url],
        username: username.to_owned(),
        credential: credential.to_owned(),
    })
}
