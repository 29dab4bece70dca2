//! A WebRTC server that measures the path to each client that connects, from inside the client's own
//! session: where it goes, how large a packet it carries, and what it does with marks.
//!
//! ```console
//! $ cargo run --release --example measure
//! listening on http://127.0.0.1:8080/
//! ```
//!
//! The page at that address connects a browser; `perpacket connect http://127.0.0.1:8080/whip` connects
//! without one. A browser needs nothing for it: it answers the probes as it answers any check of ICE.
//!
//! All there is of it is in `measure`: a [`Prober`] for the session, and three measurements, whose
//! results are printed here and could as well go to a database. Ctrl-C ends the program.

#![forbid(unsafe_code)]

use std::{
    collections::HashSet,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Router, response::Html, routing::get};
use clap::Parser;
use perpacket_path::{
    Hop, MarkReport, PathMtu, PathMtuConfig, Qos, QosConfig, Trace, TraceConfig, Verdict,
};
use perpacket_server::{Sessions, Transport, whip};
use perpacket_webrtc::{CustomMux, CustomNet, Prober, SessionId};
use tokio::{net::TcpListener, task::JoinSet};

/// A WHIP server that measures the path to its clients.
#[derive(Debug, Parser)]
struct Args {
    /// The TCP port of HTTP; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,

    /// The address to listen on, and to offer to clients.
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::LOCALHOST.into())]
    bind: IpAddr,

    /// The UDP port that all clients share; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 0)]
    udp_port: u16,

    /// End when so many clients have been measured.
    #[arg(long, value_name = "N")]
    clients: Option<usize>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let net = CustomNet::new();
    let mux = CustomMux::bind(&net, SocketAddr::new(args.bind, args.udp_port))?;
    let sessions = Sessions::builder(Transport::Mux(mux)).build();

    let address = SocketAddr::new(args.bind, args.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    say(&format!("listening on http://{}/", listener.local_addr()?));
    let page = get(async || Html(whip::PAGE));
    let app = Router::new()
        .route("/", page)
        .merge(whip::router(sessions.clone()))
        .into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(axum::serve(listener, app).into_future());

    tokio::select! {
        () = measure_all(&sessions, args.clients) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        ended = server => ended?.context("the HTTP server ended")?,
    }
    sessions.close_all().await;
    Ok(())
}

/// Measures the path to each client, once it is connected, until so many are done.
async fn measure_all(sessions: &Sessions, clients: Option<usize>) {
    let mut count = sessions.count();
    let mut known = HashSet::new();
    let mut measuring = JoinSet::new();
    let mut done = 0;
    while clients.is_none_or(|clients| done < clients) {
        for info in sessions.list() {
            if known.insert(info.id.clone()) {
                measuring.spawn(measure(sessions.clone(), info.id));
            }
        }
        tokio::select! {
            Some(measured) = measuring.join_next() => match measured {
                Ok(Ok(true)) => done += 1,
                // It has gone before there was anything to measure.
                Ok(Ok(false)) => {}
                Ok(Err(error)) => eprintln!("Error: {error:#}"),
                Err(error) => eprintln!("Error: {error}"),
            },
            Ok(()) = count.changed() => {}
        }
        known.retain(|id| sessions.get(id).is_some());
    }
}

/// Asks the client on the 5-tuple of its session, and prints what is found. Whether there was one.
async fn measure(sessions: Sessions, id: SessionId) -> Result<bool> {
    let Some(connection) = sessions.connected(&id).await else {
        return Ok(false);
    };
    let Some(info) = sessions.get(&id) else {
        return Ok(false);
    };
    let prober = Arc::new(Prober::new(&info.session, &connection).await?);
    let client = prober.remote();
    say(&format!("{client}: connected"));

    let config = TraceConfig {
        rounds: Some(3),
        interval: Duration::from_millis(300),
        ..TraceConfig::default()
    };
    let trace = Trace::new(Arc::clone(&prober), config).start();
    for hop in trace.finish().await?.hops {
        say(&format!("{client}: {}", hop_line(&hop)));
    }

    let mtu = PathMtu::new(Arc::clone(&prober), PathMtuConfig::default());
    let mtu = mtu.start().finish().await?;
    say(&format!(
        "{client}: packets of {} bytes pass, with {} of RTP payload",
        mtu.mtu, mtu.room.rtp_payload
    ));

    let mut config = QosConfig::default();
    config.count = 20;
    let qos = Qos::new(prober, config).start().finish().await?;
    for mark in &qos.marks {
        say(&format!("{client}: {}", mark_line(mark)));
    }
    for remarking in &qos.observation.remarkings {
        say(&format!("{client}: {remarking}"));
    }
    Ok(true)
}

fn hop_line(hop: &Hop) -> String {
    let who = hop.address().map_or("…".to_owned(), |it| it.to_string());
    let rtt = milliseconds(hop.rtt.median);
    let peer = if hop.peer { "  the client" } else { "" };
    format!("hop {:2}  {who}  {rtt}{peer}", hop.ttl)
}

fn mark_line(mark: &MarkReport) -> String {
    let verdicts = mark.comparison.iter().flat_map(|it| &it.verdicts);
    let verdicts: Vec<_> = verdicts.map(Verdict::to_string).collect();
    let verdict = if verdicts.is_empty() {
        "what the others are compared with".to_owned()
    } else {
        verdicts.join(", ")
    };
    let median = milliseconds(mark.rtt.median);
    format!("mark {}  {median}  {verdict}", mark.mark)
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or("no answer".to_owned(), |time| {
        format!("{:.2} ms", time.as_secs_f64() * 1e3)
    })
}

/// Prints a line; where nobody reads, the clients stay connected all the same.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
