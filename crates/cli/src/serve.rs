//! A server to join: it answers WHIP, and sends back messages and media.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use axum::{Router, response::Html, routing::get};
use clap::Args as ClapArgs;
use perpacket_server::{Sessions, Transport, whip};
use perpacket_webrtc::{CustomMux, CustomNet};
use tokio::{
    net::{TcpListener, lookup_host},
    sync::{mpsc, oneshot},
    time::timeout,
};
use webrtc::{ice::url::Url, ice_transport::ice_server::RTCIceServer};

use crate::{
    exit::Outcome,
    interrupt::Interrupt,
    output::line,
    set::{self, Setting},
};

/// How long the end may take, and a STUN server.
const PATIENCE: Duration = Duration::from_secs(4);

/// Be a server to measure towards: WHIP at /whip, a page for browsers at /.
///
/// It sends back data-channel messages and media. Lines on standard input change what a class of packets
/// gets while clients are connected, in the syntax of --set. Ctrl-C and SIGTERM close all sessions and end
/// it.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Args {
    /// The TCP port of HTTP; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,

    /// The address to listen on, and to offer to clients. 0.0.0.0 is all of IPv4, :: is all there are.
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::LOCALHOST.into())]
    bind: IpAddr,

    /// The UDP port that all clients share; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 0)]
    udp_port: u16,

    /// What a class of packets gets; can be repeated. CLASS is stun, dtls, srtp or srtcp, FIELD is ttl, df,
    /// tos, dscp or ecn. What is left out is the system's default.
    #[arg(long, value_name = set::FORM, value_parser = set::parse)]
    set: Vec<Setting>,

    /// A STUN server, for this side and for clients; can be repeated.
    #[arg(long, value_name = "[stun:]HOST[:PORT]", value_parser = parse_stun)]
    stun: Vec<Url>,
}

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    // Before the first line is printed, which is when a script may send the signal.
    let mut interrupt = Interrupt::install()?;
    let net = set::net(&args.set)?;
    let mux = mux(&net, SocketAddr::new(args.bind, args.udp_port), &args.stun).await?;
    let sessions = Sessions::builder(Transport::Mux(mux.clone()))
        .bind(args.bind)
        .ice_servers(args.stun.iter().map(ice_server).collect())
        .build();
    let address = SocketAddr::new(args.bind, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--bind, --port)"))?;
    let page = get(async || Html(whip::PAGE));
    let app = Router::new()
        .route("/", page)
        .merge(whip::router(sessions.clone()))
        .into_make_service_with_connect_info::<SocketAddr>();
    let http = listener.local_addr()?;
    line(format_args!("listening on http://{http}/"))?;
    line(format_args!("endpoint http://{http}/whip"))?;
    for udp in mux.local_addrs() {
        line(format_args!("media on {udp}"))?;
    }
    let (stop, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(
        axum::serve(listener, app)
            .with_graceful_shutdown(async { drop(stopped.await) })
            .into_future(),
    );

    let mut lines = lines();
    let mut count = sessions.count();
    loop {
        // Where nobody reads what is printed, the clients stay connected all the same.
        let _ = tokio::select! {
            Some(text) = lines.recv() => match set(&net, &text) {
                Ok(()) => line(format_args!("set {text}")),
                Err(error) => line(format_args!("error: {error}")),
            },
            Ok(()) = count.changed() => line(format_args!("sessions {}", *count.borrow_and_update())),
            () = interrupt.asked() => break,
            ended = &mut server => {
                ended?.context("the HTTP server ended")?;
                break;
            }
        };
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
    mux.close().await;
    Ok(Outcome::Done)
}

/// One port, whose server-reflexive addresses are known before the first client comes.
async fn mux(net: &CustomNet, address: SocketAddr, stun: &[Url]) -> Result<CustomMux> {
    let mut mux = CustomMux::builder(net).bind(address);
    let is_any = address.ip() == Ipv6Addr::UNSPECIFIED;
    if is_any {
        mux = mux.bind((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    let mut servers = Vec::new();
    for url in stun {
        let found = lookup_host((url.host.as_str(), url.port))
            .await
            .with_context(|| format!("cannot find {}", url.host))?;
        servers.extend(found.filter(|server| is_any || server.is_ipv4() == address.is_ipv4()));
    }
    for server in &servers {
        mux = mux.stun_server(*server);
    }
    let mux = mux
        .build()
        .with_context(|| format!("cannot receive on {address} (--bind, --udp-port)"))?;
    for server in servers {
        // One of several may be enough, and without any there are host candidates.
        match timeout(PATIENCE, mux.discover(server)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => eprintln!("Warning: {error}"),
            Err(_) => eprintln!("Warning: the STUN server {server} does not answer"),
        }
    }
    Ok(mux)
}

fn set(net: &CustomNet, text: &str) -> Result<(), String> {
    let (class, options) = set::parse(text)?;
    net.set_class_options(class, options)
        .map_err(|error| error.to_string())
}

/// Standard input. On a thread, because tokio waits at its end for a line that is being read.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    thread::spawn(move || {
        for text in std::io::stdin().lines().map_while(Result::ok) {
            let text = text.trim();
            if !text.is_empty() && sender.blocking_send(text.to_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

fn parse_stun(text: &str) -> Result<Url, String> {
    let server = text.strip_prefix("stun:").unwrap_or(text);
    Url::parse_url(&format!("stun:{server}")).map_err(|error| error.to_string())
}

fn ice_server(url: &Url) -> RTCIceServer {
    RTCIceServer {
        urls: vec![url.to_string()],
        ..RTCIceServer::default()
    }
}
