//! `serve`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use perpacket_lab::{Lab, Node, until};
use tempfile::TempDir;

use crate::program::{DEADLINE, Program, Server, perpacket};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Before the connection would be missed: a client gives the server 30 seconds.
const SOON: Duration = Duration::from_secs(20);

fn host() -> Result<Node> {
    Ok(Lab::new().host("host")?)
}

pub(crate) fn options() -> Result<()> {
    let host = host()?;
    let server = Server::with(&host, V4, &["--set", "stun:ttl=9"])?;
    let args = ["connect", &server.endpoint, "--count", "1", "--json"];
    let json = Program::run(&host, &args)?.with(0)?.json()?;
    let classes = json.report["classes"].as_array().context("no classes")?;
    let stun = classes.iter().find(|class| class["class"] == "stun");
    let stun = stun.context("no STUN")?;
    ensure!(stun["received_ttl"] == 9, "{stun}");
    Ok(())
}

/// Whoever is there when it ends is told, and nothing is left.
pub(crate) fn ends() -> Result<()> {
    let host = host()?;
    let server = Server::start(&host, V4)?;
    let mut program = Program::start(&host, &["connect", &server.endpoint])?;
    program.says(" s  echo ", 1)?;
    let begun = Instant::now();
    server.program.signal(Signal::SIGINT)?;
    server.program.end()?.with(0)?;
    program.end()?.with(3)?;
    ensure!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    until(
        DEADLINE,
        || "the ports to be free".to_owned(),
        || {
            let tables = host.run(|| fs::read_to_string("/proc/thread-self/net/udp"));
            let lines = tables.map_or(0, |table| table.lines().skip(1).count());
            Ok((lines == 0).then_some(()))
        },
    )?;
    Ok(())
}

/// In the user's data directory, where nobody says otherwise.
pub(crate) fn starts_again() -> Result<()> {
    let host = host()?;
    let home = TempDir::new()?;
    let start = || {
        let mut command = perpacket();
        command
            .args(["serve", "--port", "8080"])
            .env("HOME", home.path())
            .env_remove("XDG_DATA_HOME")
            .env_remove("PERPACKET_DATABASE");
        Program::spawn(&host, &mut command)
    };
    let mut first = start()?;
    let token = first.line("token ")?;
    let endpoint = first.line("endpoint ")?;
    Program::run(&host, &["connect", &endpoint, "--count", "1"])?.with(0)?;
    first.signal(Signal::SIGTERM)?;
    let first = first.end()?.with(0)?;
    ensure!(
        first.stdout[..]
            == [
                "page http://127.0.0.1:8080/".to_owned(),
                "endpoint http://127.0.0.1:8080/whip".to_owned(),
                "dashboard http://127.0.0.1:8080/dashboard".to_owned(),
                format!("token {token}"),
            ]
            && first.stderr.is_empty(),
        "{first:#?}"
    );

    let folder = home.path().join(".local/share/perpacket");
    let file = folder.join("token");
    ensure!(fs::read_to_string(&file)?.trim() == token);
    for file in [&file, &folder, &folder.join("history.db")] {
        let mode = fs::metadata(file)?.permissions().mode();
        ensure!(mode.trailing_zeros() >= 6, "{}: {mode:o}", file.display());
    }

    let mut second = start()?;
    let said = second.line("token ")?;
    ensure!(said == format!("in {}", file.display()), "{said}");
    let second = Server::running(&host, second, token, home)?;
    second.has_seen(1)
}

pub(crate) fn https() -> Result<()> {
    let host = host()?;
    let folder = TempDir::new()?;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    fs::write(&certificate, made.cert.pem())?;
    fs::write(&key, made.key_pair.serialize_pem())?;
    let options = ["--tls-cert", &certificate, "--tls-key", &key];
    let server = Server::with(&host, V4, &options)?;
    ensure!(server.endpoint.starts_with("https://127.0.0.1:"));
    let connect = ["connect", &server.endpoint, "--count", "1"];
    Program::run(&host, &connect)?.with(1)?;
    Program::run(&host, &[&connect[..], &["--insecure"]].concat())?.with(0)?;
    Ok(())
}

/// One line, and nothing is left behind.
pub(crate) fn refusals() -> Result<()> {
    let host = host()?;
    let folder = TempDir::new()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (token, short, nothing) = (path("token"), path("short"), path("nothing"));
    fs::write(&short, "secret\n")?;
    let run = |options: &[&str]| {
        let common = ["serve", "--port", "0"];
        Program::run(&host, &[&common[..], options].concat())?.with(1)
    };
    let memory = ["--database", ":memory:", "--token-file"];
    let with_token = |options: &[&str]| run(&[&memory[..], &[&token], options].concat());

    with_token(&["--tls-cert", &nothing, "--tls-key", &nothing])?
        .complains(&format!("cannot read {nothing}: No such file"))?;
    with_token(&["--tls-cert", &short, "--tls-key", &short])?
        .complains(&format!("there is no certificate in {short}"))?;
    ensure!(!fs::exists(&token)?);
    run(&[&memory[..], &[&short]].concat())?.complains("at least 16 characters")?;
    let within_a_file = format!("{short}/history.db");
    run(&["--token-file", &token, "--database", &within_a_file])?
        .complains(&format!("cannot open the database {within_a_file}"))?;
    let nobody = "postgres://user:secret@127.0.0.1:9/perpacket";
    let ended = run(&["--token-file", &token, "--database", nobody])?;
    ended.complains("cannot open the database postgres://")?;
    ensure!(!ended.stderr[0].contains("secret"), "{ended:?}");
    for url in [
        "mysql://127.0.0.1/perpacket",
        "postgres://user:sec/ret@127.0.0.1/perpacket",
    ] {
        let ended = run(&["--token-file", &token, "--database", url])?;
        ended.complains("cannot be the database")?;
        ensure!(!ended.stderr[0].contains("ret@"), "{ended:?}");
    }
    ensure!(!fs::exists(&token)?, "a token that was never printed");
    Ok(())
}
