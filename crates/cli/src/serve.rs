//! A server that browsers and WHIP clients connect to, with a dashboard.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;
use etcetera::BaseStrategy as _;
use perpacket_server::{
    Server, Sessions, Tls, Token, Transport,
    history::{DatabaseUrl, History, Retention},
};
use perpacket_webrtc::{CustomMux, CustomNet};
use tokio::{net::lookup_host, time::timeout};
use url::Url as Origin;
use webrtc::{ice::url::Url, ice_transport::ice_server::RTCIceServer};

use crate::{
    exit::Outcome,
    interrupt::Interrupt,
    output::line,
    set::{self, Setting},
};

/// How long a STUN server may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long the end may take: a supervisor may wait for as little as five seconds.
const CLOSING: Duration = Duration::from_secs(4);

const DAY: Duration = Duration::from_hours(24);
const MIB: u64 = 1 << 20;

/// Be a server that shows what each client's path does, and changes its packets while it is connected.
///
/// Browsers connect by the page at /, other clients by WHIP at /whip; their messages and media are sent back.
/// The dashboard at /dashboard shows each of them, changes TTL, DF bit, DSCP and ECN of what it is sent, and
/// measures its path. It asks for the token once; so does the API below /api, which /api/docs describes.
///
/// Whoever has the token can change what clients get. It is made at the first start and printed then; later
/// it is in the file of --token-file. What is seen of clients, and who changed what, is kept in the database.
///
/// Only this host can connect, unless --bind says otherwise. Browsers give their camera to HTTPS and to
/// localhost alone; --tls-cert and --tls-key are for all other hosts.
///
/// Ctrl-C and SIGTERM close all sessions and end it.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct Args {
    /// The TCP port of HTTP; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,

    /// The address to listen on, over HTTP and UDP, and to offer to clients. 0.0.0.0 is all of IPv4, :: is all
    /// there are.
    #[arg(long, value_name = "ADDR", default_value_t = Ipv4Addr::LOCALHOST.into())]
    bind: IpAddr,

    /// The UDP port that all clients share; 0 for any that is free.
    #[arg(long, value_name = "N", default_value_t = 0)]
    udp_port: u16,

    /// What a class of packets gets, until the dashboard says otherwise for a client; can be repeated. CLASS is
    /// stun, dtls, srtp or srtcp, FIELD is ttl, df, tos, dscp or ecn. What is left out is the system's default.
    #[arg(long, value_name = set::FORM, value_parser = set::parse)]
    set: Vec<Setting>,

    /// A STUN server, for this side and for clients; can be repeated.
    #[arg(long, value_name = "[stun:]HOST[:PORT]", value_parser = parse_stun)]
    stun: Vec<Url>,

    /// Where the token is. If there is no such file, it is made, with a new token in it. Default: "token" in the
    /// user's data directory, which is ~/.local/share/perpacket unless `XDG_DATA_HOME` says otherwise.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Where history is kept: a file of SQLite, :memory: (until the end), or `postgres://USER:PASSWORD@HOST/DATABASE`,
    /// which several servers can share. Default: "history.db" in the user's data directory.
    #[arg(
        long,
        value_name = "WHERE",
        env = "PERPACKET_DATABASE",
        hide_env_values = true
    )]
    // Not parsed by clap, which shows what cannot be parsed: there may be a password in it.
    database: Option<String>,

    /// For how many days history is kept.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: u32,

    /// How many MiB of history are kept.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    keep_mib: u32,

    /// What tells this server from others that share the database. Default: the name of this host and the port.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The certificate for HTTPS: PEM, with those of the chain after it. It is read at the start only.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate: PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// What browsers see this server as, such as `https://ops.example.org`, where a proxy does not pass on the Host
    /// that they ask for; can be repeated. What pages of any other site ask of the API is refused.
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin)]
    origin: Vec<String>,
}

pub(crate) async fn run(args: Args) -> Result<Outcome> {
    // Before the first line is printed, which is when a script may send the signal.
    let mut interrupt = Interrupt::install()?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::from_pem_files(certificate, key)?),
        _ => None,
    };
    let address = SocketAddr::new(args.bind, args.port);
    let listener = TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address} (--bind, --port)"))?;
    let port = listener.local_addr()?.port();
    let net = CustomNet::builder().icmp_errors(true).build();
    set::apply(&net, &args.set)?;
    let udp = SocketAddr::new(args.bind, args.udp_port);
    let mux = tokio::select! {
        mux = mux(&net, udp, &args.stun) => mux?,
        () = interrupt.asked() => return Ok(Outcome::Done),
    };
    if tls.is_none() && !args.bind.is_loopback() {
        eprintln!(
            "Warning: without --tls-cert and --tls-key the token can be read by whoever is on the way."
        );
    }
    let name = args.name.unwrap_or_else(|| name(port));
    let history = tokio::select! {
        history = history(args.database, &name, args.keep_days, args.keep_mib) => history?,
        () = interrupt.asked() => return Ok(Outcome::Done),
    };
    // The last that can fail, because a new one is printed once.
    let (token, token_file, is_new) = token(args.token_file)?;

    let sessions = Sessions::builder(Transport::Mux(mux.clone()))
        .bind(args.bind)
        .ice_servers(args.stun.iter().map(ice_server).collect())
        .build();
    let secret = token.reveal().to_owned();
    let mut server = Server::builder(sessions, token).name(name).history(history);
    for origin in args.origin {
        server = server.origin(origin);
    }
    let server = server.build();

    let scheme = if tls.is_some() { "https" } else { "http" };
    let host = host(args.bind);
    let mut running = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener, tls).await }
    });
    let printed = (|| {
        line(format_args!("page {scheme}://{host}:{port}/"))?;
        line(format_args!("endpoint {scheme}://{host}:{port}/whip"))?;
        line(format_args!("dashboard {scheme}://{host}:{port}/dashboard"))?;
        if is_new {
            line(format_args!("token {secret}"))
        } else {
            line(format_args!("token in {}", token_file.display()))
        }
    })();
    // Where nobody reads what is printed, clients may still come.
    drop((printed, secret));

    tokio::select! {
        () = interrupt.asked() => {}
        ended = &mut running => {
            ended?.context("the HTTP server ended")?;
        }
    }
    let closed = server.shutdown(CLOSING).await;
    running.abort();
    mux.close().await;
    closed.context("not all of the history is kept")?;
    Ok(Outcome::Done)
}

/// The token, the file that it is in, and whether it is new.
fn token(file: Option<PathBuf>) -> Result<(Token, PathBuf, bool)> {
    let file = match file {
        Some(file) => file,
        None => data("token", "--token-file")?,
    };
    let (token, is_new) = Token::load_or_create(&file)
        .with_context(|| format!("cannot use the token in {} (--token-file)", file.display()))?;
    #[cfg(unix)]
    if let Ok(metadata) = std::fs::metadata(&file)
        && std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
    {
        eprintln!("Warning: others can read the token in {}.", file.display());
    }
    Ok((token, file, is_new))
}

async fn history(
    database: Option<String>,
    name: &str,
    keep_days: u32,
    keep_mib: u32,
) -> Result<History> {
    let database = match database {
        Some(text) => text.parse().context("there is no history (--database)")?,
        None => DatabaseUrl::File(data("history.db", "--database")?),
    };
    let keep = Retention {
        age: DAY * keep_days,
        bytes: MIB * u64::from(keep_mib),
        ..Retention::default()
    };
    let opened = History::open(&database, name, keep).await;
    opened.context("there is no history (--database)")
}

/// A file in the user's data directory, which is made for this user alone.
fn data(file: &str, option: &str) -> Result<PathBuf> {
    let Ok(folders) = etcetera::choose_base_strategy() else {
        bail!("this user has no home directory: say where with {option}");
    };
    let folder = folders.data_dir().join("perpacket");
    make(&folder).with_context(|| format!("cannot make {} ({option})", folder.display()))?;
    Ok(folder.join(file))
}

fn make(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// What tells this server from others.
fn name(port: u16) -> String {
    let host = gethostname::gethostname();
    format!("{}-{port}", host.to_string_lossy())
}

/// The host of a URL that can be opened here.
fn host(bind: IpAddr) -> String {
    match bind {
        _ if bind.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
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

fn parse_stun(text: &str) -> Result<Url, String> {
    let server = text.strip_prefix("stun:").unwrap_or(text);
    Url::parse_url(&format!("stun:{server}")).map_err(|error| error.to_string())
}

/// As browsers write it in the header: scheme, host, and the port unless it is the scheme's own (RFC 6454 §6.2).
fn parse_origin(text: &str) -> Result<String, String> {
    let url = Origin::parse(text).map_err(|error| error.to_string())?;
    let is_whole = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !is_whole {
        return Err("expected http:// or https:// and a host, no path".to_owned());
    }
    Ok(url.origin().ascii_serialization())
}

fn ice_server(url: &Url) -> RTCIceServer {
    RTCIceServer {
        urls: vec![url.to_string()],
        ..RTCIceServer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_as_browsers_send_it() {
        let origin = |text| parse_origin(text).ok();
        let expected = Some("https://ops.example.org".to_owned());
        assert_eq!(origin("https://ops.example.org"), expected);
        assert_eq!(origin("https://OPS.example.org:443/"), expected);
        assert_eq!(
            origin("http://[::1]:8080"),
            Some("http://[::1]:8080".to_owned())
        );
        for text in [
            "ops.example.org",
            "ftp://ops.example.org",
            "https://ops.example.org/a",
            "",
        ] {
            assert_eq!(origin(text), None, "{text}");
        }
    }
}
