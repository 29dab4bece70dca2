//! What goes wrong, and what is said of it.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use perpacket_lab::{Chain, Lab};

use crate::program::{Program, Server};
use crate::stub::{Stub, response};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn usage() -> Result<()> {
    let host = Lab::new().host("host")?;
    for args in [
        &["connect"][..],
        &["nonsense"],
        &["connect", "nonsense"],
        &["connect", "ftp://example.org/"],
        &["connect", "http://127.0.0.1/", "-4", "-6"],
        &["connect", "http://127.0.0.1/", "--json", "--csv"],
        &["connect", "http://127.0.0.1/", "--set", "srtp:ttl=0"],
        &["connect", "http://127.0.0.1/", "--timeout", "0"],
        &["trace", "http://127.0.0.1/", "--max-ttl", "0"],
        &["pmtu", "http://127.0.0.1/", "--cap", "100"],
        &["pmtu", "http://127.0.0.1/", "--probes", "ttl=5"],
        &["pmtu", "http://127.0.0.1/", "--probes", "dscp=EF,df=0"],
        &["trace", "http://127.0.0.1/", "--probes", "ttl=5"],
        &["qos", "http://127.0.0.1/", "--marks", "AF99"],
        &["qos", "http://127.0.0.1/", "--marks", "EF+ce"],
        &["qos", "http://127.0.0.1/", "--marks", &["EF"; 33].join(",")],
        &["serve", "--tls-cert", "cert.pem"],
        &["serve", "--origin", "example.org"],
        &["serve", "--keep-days", "0"],
    ] {
        let ended = Program::run(&host, args)?.with(2)?;
        ensure!(
            ended.stdout.is_empty() && !ended.stderr.is_empty(),
            "{ended:?}"
        );
    }
    let help = Program::run(&host, &["--help"])?.with(0)?;
    for words in [
        "Exit codes:",
        "trace",
        "pmtu",
        "qos",
        "ttl",
        "connect",
        "serve",
    ] {
        ensure!(
            help.stdout.iter().any(|line| line.contains(words)),
            "{help:?}"
        );
    }
    Ok(())
}

pub(crate) fn nobody_listens() -> Result<()> {
    let host = Lab::new().host("host")?;
    let ended = Program::run(&host, &["connect", "http://127.0.0.1:9/whip"])?.with(1)?;
    ended.complains("cannot reach http://127.0.0.1:9/whip: Connection refused")?;
    let ended = Program::run(&host, &["connect", "http://nobody.invalid/whip"])?.with(1)?;
    ended.complains("cannot reach http://nobody.invalid/whip: ")?;
    Ok(())
}

pub(crate) fn nobody_answers() -> Result<()> {
    let host = Lab::new().host("host")?;
    let listener = host.run(|| TcpListener::bind((V4, 0)))?;
    let url = format!("http://{}/whip", listener.local_addr()?);
    let begun = Instant::now();
    let ended = Program::run(&host, &["connect", &url, "--timeout", "0.5"])?.with(1)?;
    ended.complains(&format!("{url} does not answer within 0.5 s"))?;
    ensure!(begun.elapsed() < Duration::from_secs(10));
    Ok(())
}

pub(crate) fn server_refuses() -> Result<()> {
    let host = Lab::new().host("host")?;
    let problem = r#"{"detail":"no room"}"#;
    for (status, body, words) in [
        ("401 Unauthorized", "", "401 Unauthorized; --token"),
        ("404 Not Found", "<html>", "404 Not Found; is this the URL"),
        (
            "406 Not Acceptable",
            "no\u{1b}[2J",
            "406 Not Acceptable: no [2J; a WHEP endpoint",
        ),
        (
            "503 Service Unavailable",
            problem,
            "503 Service Unavailable: no room",
        ),
        (
            "200 OK",
            "hello",
            "200 OK: hello; what answers there is no WHIP",
        ),
        ("201 Created", "hello", "the answer"),
    ] {
        let answer = response(status, "location: /whip/1\r\n", body);
        let stub = Stub::start(&host, V4, move |_| answer.clone())?;
        let ended = Program::run(&host, &["connect", &stub.url()])?.with(1)?;
        ended.complains(words)?;
        let deletes = stub
            .requests()
            .iter()
            .filter(|request| request.starts_with("DELETE /whip/1 "))
            .count();
        ensure!(
            deletes == usize::from(status == "201 Created"),
            "{status}: {deletes}"
        );
    }
    Ok(())
}

pub(crate) fn udp_is_blocked() -> Result<()> {
    let chain = Chain::new(1, 1500)?;
    chain.routers[0].nft(
        "table inet t { chain c { type filter hook forward priority 0; meta l4proto udp drop; }; }",
    )?;
    let server = Server::start(&chain.right, chain.right_v4())?;
    let args = ["connect", &server.endpoint, "--timeout", "2"];
    let ended = Program::run(&chain.left, &args)?.with(1)?;
    ended.complains("is not connected within 2 s: the server is at 10.0.1.2:")?;
    // Nothing but the DELETE can have told the server, which would have waited for half a minute.
    let begun = Instant::now();
    server.has_seen(1)?;
    ensure!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

pub(crate) fn port_is_taken() -> Result<()> {
    let host = Lab::new().host("host")?;
    let first = Server::start(&host, V4)?;
    let port = first.endpoint.trim_end_matches("/whip").rsplit(':').next();
    let args = ["serve", "--port", port.unwrap_or_default()];
    Program::run(&host, &args)?
        .with(1)?
        .complains("cannot listen on 127.0.0.1:")?;
    let udp = std::net::SocketAddr::new(V4, 5000);
    let taken = host.run(|| std::net::UdpSocket::bind(udp))?;
    let args = ["serve", "--port", "0", "--udp-port", "5000"];
    Program::run(&host, &args)?
        .with(1)?
        .complains("cannot receive on 127.0.0.1:5000")?;
    let args = ["connect", &first.endpoint, "--udp-port", "5000"];
    Program::run(&host, &args)?
        .with(1)?
        .complains("cannot send from 127.0.0.1:5000")?;
    drop(taken);
    Ok(())
}
