//! `connect`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use perpacket_lab::{Chain, Lab, Node, until};

use crate::program::{DEADLINE, NO_CHANNEL, Program, Server, perpacket};
use crate::stub::{Stub, forward, response};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn host() -> Result<Node> {
    Ok(Lab::new().host("host")?)
}

pub(crate) fn connect_v4() -> Result<()> {
    connect(V4, "127.0.0.1:")
}

pub(crate) fn connect_v6() -> Result<()> {
    connect(V6, "[::1]:")
}

fn connect(address: IpAddr, shown: &str) -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, address)?;
    let args = [
        "connect",
        &server.endpoint,
        "--count",
        "3",
        "--interval",
        "0.1",
    ];
    let ended = Program::run(&host, &args)?.with(0)?;
    let [first, pair, rest @ ..] = &ended.stdout[..] else {
        anyhow::bail!("{ended:?}");
    };
    ensure!(
        first.starts_with(&format!("{} joined in ", server.endpoint)),
        "{first}"
    );
    let ends: Vec<_> = pair.split(" → ").collect();
    ensure!(
        ends.len() == 2 && ends.iter().all(|end| end.starts_with(shown)),
        "{pair}"
    );
    let samples = rest
        .iter()
        .filter(|line| line.contains(" ms  sent "))
        .count();
    ensure!(samples == 3, "{rest:#?}");
    for class in ["stun ", "dtls ", "srtp "] {
        ensure!(
            rest.iter().any(|line| line.starts_with(class)),
            "{class}: {rest:#?}"
        );
    }
    let echoes = "3 of 3 messages came back";
    ensure!(
        rest.iter().any(|line| line.starts_with(echoes)),
        "{rest:#?}"
    );
    ensure!(ended.stderr.is_empty(), "{ended:?}");
    server.has_seen(1)
}

pub(crate) fn whep_and_media_only() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    for (number, options) in [
        &["--whep"][..],
        &["--media-only"],
        &["--media-only", "--ipv4"],
    ]
    .into_iter()
    .enumerate()
    {
        let args = ["connect", &server.endpoint, "--count", "1", "--json"];
        let json = Program::run(&host, &[&args[..], options].concat())?
            .with(0)?
            .json()?;
        let echoes = usize::from(!options.contains(&"--media-only"));
        ensure!(
            json.report["echo"]["received"] == echoes,
            "{options:?}: {}",
            json.report
        );
        server.has_seen(number + 1)?;
    }
    Ok(())
}

pub(crate) fn formats() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    let args = [
        "connect",
        &server.endpoint,
        "--count",
        "2",
        "--interval",
        "0.1",
    ];
    let json = Program::run(&host, &[&args[..], &["--json"]].concat())?
        .with(0)?
        .json()?;
    ensure!(json.events.len() == 2, "{:?}", json.events);
    ensure!(json.session["url"] == server.endpoint, "{}", json.session);
    let resource = json.session["resource"].as_str().context("no resource")?;
    ensure!(
        resource.starts_with(&format!("{}/", server.endpoint)),
        "{resource}"
    );
    for event in &json.events {
        ensure!(
            event["echo_us"].is_u64() && event["ttl"] == 64 && event["tos"] == 0,
            "{event}"
        );
    }
    ensure!(
        json.report["lost"] == false && json.report["echo"]["received"] == 2,
        "{}",
        json.report
    );

    let ended = Program::run(&host, &[&args[..], &["--csv"]].concat())?.with(0)?;
    let rows = ended.csv()?;
    ensure!(
        rows.len() == 3 && rows[0][..2] == ["after_us", "echo_us"],
        "{rows:?}"
    );
    Ok(())
}

/// Both to be told from the end that comes when the connection is closed.
pub(crate) fn ctrl_c() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    let mut signals = vec![Signal::SIGINT, Signal::SIGTERM];
    // Whoever runs the tests may have told them to survive it, and the program then does too.
    if !ignores_hangup()? {
        signals.push(Signal::SIGHUP);
    }
    for (number, signal) in signals.into_iter().enumerate() {
        let stub = in_front_of(&host, &server)?;
        let mut program = Program::start(&host, &["connect", &stub.url()])?;
        program.line("127.0.0.1:")?;
        program.signal(signal)?;
        program.end()?.with(0)?;
        let requests = stub.requests();
        let last = requests.last().context("no request")?;
        ensure!(last.starts_with("DELETE /whip/"), "{last}");
        server.has_seen(number + 1)?;
    }
    Ok(())
}

fn ignores_hangup() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.context("no SigIgn")?.trim();
    Ok(u64::from_str_radix(ignored, 16)? & 1 != 0)
}

/// A server that never answers the DELETE is not waited for when Ctrl-C is pressed again.
pub(crate) fn ctrl_c_twice() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    let (node, real) = (host.clone(), server.socket()?);
    let stub = Stub::start(&host, V4, move |request| {
        if request.starts_with("DELETE") {
            std::thread::sleep(DEADLINE);
        }
        forward(&node, real, request)
    })?;
    for (twice, code) in [(true, 130), (false, 0)] {
        let before = stub.requests().len();
        let mut program = Program::start(&host, &["connect", &stub.url()])?;
        program.line("127.0.0.1:")?;
        program.signal(Signal::SIGINT)?;
        if twice {
            let asked = || {
                stub.requests()[before..]
                    .iter()
                    .any(|it| it.starts_with("DELETE"))
            };
            until(
                DEADLINE,
                || "the DELETE".to_owned(),
                || Ok(asked().then_some(())),
            )?;
            program.signal(Signal::SIGINT)?;
        }
        let ended = program.end()?.with(code)?;
        let warned = ended
            .stderr
            .iter()
            .any(|line| line.starts_with("Warning: the server may"));
        ensure!(warned != twice, "{ended:?}");
    }
    Ok(())
}

/// An HTTP server that passes everything on.
fn in_front_of(host: &Node, server: &Server) -> Result<Stub> {
    let (node, real) = (host.clone(), server.socket()?);
    Stub::start(host, V4, move |request| forward(&node, real, request))
}

pub(crate) fn redirects_and_tokens() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    let (node, real) = (host.clone(), server.socket()?);
    let stub = Stub::start(&host, V4, move |request| {
        if request.starts_with("DELETE") || request.contains(" /whip ") {
            forward(&node, real, request)
        } else {
            response("307 Temporary Redirect", "location: /whip\r\n", "")
        }
    })?;
    let url = format!("http://{}/elsewhere", stub.address);
    let args = ["connect", &url, "--count", "1", "--token", "s3cret"];
    Program::run(&host, &args)?.with(0)?;
    let requests = stub.requests();
    let first_lines: Vec<_> = requests
        .iter()
        .filter_map(|request| request.lines().next())
        .collect();
    ensure!(
        matches!(&first_lines[..], [
            "OPTIONS /elsewhere HTTP/1.1",
            "OPTIONS /whip HTTP/1.1",
            "POST /elsewhere HTTP/1.1",
            "POST /whip HTTP/1.1",
            delete,
        ] if delete.starts_with("DELETE /whip/")),
        "{first_lines:?}"
    );
    for request in &requests {
        let has = request
            .to_ascii_lowercase()
            .contains("\r\nauthorization: bearer s3cret\r\n");
        ensure!(has, "{request}");
    }
    Ok(())
}

/// On this host's loopback address, from which the server cannot be reached.
pub(crate) fn proxy() -> Result<()> {
    let chain = Chain::new(1, 1500)?;
    let server = Server::start(&chain.right, chain.right_v4())?;
    let (node, real) = (chain.left.clone(), server.socket()?);
    let proxy = Stub::start(&chain.left, V4, move |request| {
        forward(&node, real, request)
    })?;
    let mut command = perpacket();
    command
        .args(["connect", &server.endpoint, "--count", "1"])
        .env("http_proxy", format!("http://{}", proxy.address))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY");
    let ended = Program::spawn(&chain.left, &mut command)?.end()?.with(0)?;
    let first = proxy.requests();
    let first = first.first().context("no request")?;
    ensure!(
        first.starts_with(&format!("OPTIONS {} ", server.endpoint)),
        "{first}"
    );
    let from = format!("{}:", chain.left_v4());
    ensure!(
        ended.stdout.iter().any(|line| line.starts_with(&from)),
        "{ended:?}"
    );
    Ok(())
}

/// A few of them are asked, and after Ctrl-C nothing is begun.
pub(crate) fn stun_servers() -> Result<()> {
    let host = host()?;
    let silent = || host.run(|| UdpSocket::bind((V4, 0)));
    // What the program gives them. If this machine takes longer, there is another attempt.
    let patience = Duration::from_secs(3);
    for _ in 0..5 {
        let servers = [
            silent()?,
            silent()?,
            silent()?,
            silent()?,
            silent()?,
            silent()?,
        ];
        let mut links = String::new();
        for server in &servers {
            server.set_read_timeout(Some(DEADLINE))?;
            let link = format!(
                "link: <stun:{}>; rel=\"ice-server\"\r\n",
                server.local_addr()?
            );
            links.push_str(&link);
        }
        let stub = Stub::start(&host, V4, move |_| response("204 No Content", &links, ""))?;
        let begun = Instant::now();
        let program = Program::start(&host, &["connect", &stub.url()])?;
        let (asked, others) = servers.split_at(4);
        for server in asked {
            server.recv(&mut [0; 100])?;
        }
        program.signal(Signal::SIGINT)?;
        if begun.elapsed() >= patience {
            continue;
        }
        let ended = program.end()?.with(1)?;
        ended.complains("interrupted before there was a session")?;
        let requests = stub.requests();
        ensure!(
            requests.iter().all(|it| it.starts_with("OPTIONS ")),
            "{requests:?}"
        );
        for server in others {
            server.set_nonblocking(true)?;
            ensure!(server.recv(&mut [0; 100]).is_err());
        }
        return Ok(());
    }
    anyhow::bail!("this machine is too slow")
}

/// Whose answers on the channel are held back for longer than it takes to call a server mute.
pub(crate) fn slow_channel() -> Result<()> {
    let chain = Chain::new(1, 1500)?;
    let server = Server::start(&chain.right, chain.right_v4())?;
    chain.routers[0].nft(NO_CHANNEL)?;
    let args = ["connect", &server.endpoint, "--interval", "0.1"];
    let mut program = Program::start(&chain.left, &args)?;
    program.says(" s  echo         -  sent ", 5)?;
    chain.routers[0].nft("delete table inet t")?;
    program.says(" ms  sent ", 1)?;
    program.signal(Signal::SIGINT)?;
    program.end()?.with(0)?;
    Ok(())
}

pub(crate) fn closed_pipe() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    let endpoint = server.endpoint.clone();
    let mut command = perpacket();
    command
        .args(["connect", &endpoint, "--interval", "0.05"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut process = host.spawn(&mut command)?;
    // Whoever reads has had enough at once.
    drop(process.child().stdout.take());
    let output = process.wait()?;
    ensure!(output.stderr.is_empty(), "{output:?}");
    server.has_seen(1)
}

pub(crate) fn lost_server() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    let mut program = Program::start(&host, &["connect", &server.endpoint])?;
    program.says(" s  echo ", 1)?;
    server.program.signal(Signal::SIGTERM)?;
    server.program.end()?.with(0)?;
    let ended = program.end()?.with(3)?;
    let said = ended
        .stderr
        .iter()
        .any(|line| line == "The connection was lost.");
    ensure!(said, "{ended:?}");
    Ok(())
}
