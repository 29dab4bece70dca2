//! `trace`, `pmtu`, `ttl` and `qos`, over routers that are the kernel's.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use perpacket_lab::{Chain, Wan};
use serde_json::Value;

use crate::program::{Ended, NO_CHANNEL, Program, Server};

/// Host, three routers, host; and a server on the right one.
fn three_routers(v6: bool) -> Result<(Chain, Server)> {
    over(Chain::new(3, 1500)?, v6)
}

fn over(chain: Chain, v6: bool) -> Result<(Chain, Server)> {
    let address = if v6 {
        chain.right_v6()
    } else {
        chain.right_v4()
    };
    let server = Server::start(&chain.right, address)?;
    Ok((chain, server))
}

fn run(chain: &Chain, server: &Server, command: &str, options: &[&str]) -> Result<Ended> {
    let args = [command, &server.endpoint];
    Program::run(&chain.left, &[&args[..], options].concat())
}

/// The addresses of three routers and the server, as the left host sees them.
fn path(chain: &Chain, v6: bool) -> Vec<String> {
    let of = |(v4, v6_address)| if v6 { v6_address } else { v4 };
    let routers = (1..=3).map(|hop| of(chain.router_seen_from_left(hop)));
    let right = of((chain.right_v4(), chain.right_v6()));
    routers
        .chain([right])
        .map(|address: std::net::IpAddr| address.to_string())
        .collect()
}

pub(crate) fn trace(v6: bool) -> Result<()> {
    let (chain, server) = three_routers(v6)?;
    let ended = run(
        &chain,
        &server,
        "trace",
        &["--count", "2", "--interval", "0.1"],
    )?
    .with(0)?;
    let rows: Vec<Vec<_>> = ended
        .stdout
        .iter()
        .map(|line| line.split_whitespace().collect())
        .filter(|row: &Vec<_>| {
            row.first()
                .is_some_and(|hop: &&str| hop.parse::<u8>().is_ok())
        })
        .collect();
    let addresses: Vec<_> = rows.iter().map(|row| row[1]).collect();
    ensure!(addresses == path(&chain, v6), "{ended:#?}");
    ensure!(
        rows.iter().all(|row| row[2] == "0.0%" && row[3] == "2"),
        "{ended:#?}"
    );
    let last = ended
        .stdout
        .iter()
        .find(|line| line.ends_with("the server"));
    ensure!(
        last.is_some_and(|line| line.trim_start().starts_with('4')),
        "{ended:#?}"
    );
    let note = "the one path that this session's 5-tuple takes";
    ensure!(
        ended.stdout.iter().any(|line| line.contains(note)),
        "{ended:#?}"
    );
    server.has_seen(1)
}

/// Over simulated routers, of which everything is known.
pub(crate) fn trace_of_ten_hops() -> Result<()> {
    let wan = Wan::load("ten_hops")?;
    let server = Server::start(wan.right(), wan.right_v4())?;
    let args = [
        "trace",
        &server.endpoint,
        "--csv",
        "--count",
        "3",
        "--interval",
        "0.2",
    ];
    let ended = Program::run(wan.left(), &args)?.with(0)?;
    let rows = ended.csv()?;
    let column = |name: &str| rows[0].iter().position(|column| *column == name);
    let (address, best) = (
        column("address").context("-")?,
        column("best_us").context("-")?,
    );
    let mut expected: Vec<_> = (1..=10)
        .map(|hop| wan.hop(hop))
        .map(|hop| (hop.v4.to_string(), hop.rtt()))
        .collect();
    expected.push((wan.right_v4().to_string(), wan.rtt()));
    ensure!(rows.len() == 12, "{ended:#?}");
    for (row, (router, rtt)) in rows[1..].iter().zip(expected) {
        let best: f64 = row[best].parse()?;
        let rtt = rtt.as_secs_f64() * 1e6;
        // How far it is off is the library's to show: nothing is faster than the network.
        ensure!(
            row[address] == router && best >= rtt,
            "{router}, {rtt}: {row:?}"
        );
    }
    Ok(())
}

/// Where no router says so, and to the byte.
pub(crate) fn pmtu_of_a_black_hole() -> Result<()> {
    let wan = Wan::load("black_hole_1400")?;
    // Or else the offer, which is longer than a packet, does not arrive either.
    for node in [wan.left(), wan.right()] {
        node.sysctl("net.ipv4.tcp_mtu_probing", "2")?;
    }
    let server = Server::start(wan.right(), wan.right_v4())?;
    let args = ["pmtu", &server.endpoint, "--exact", "--json"];
    let json = Program::run(wan.left(), &args)?.with(0)?.json()?;
    ensure!(
        json.report["mtu"] == 1400 && json.report["exact"] == true,
        "{}",
        json.report
    );
    Ok(())
}

pub(crate) fn trace_formats() -> Result<()> {
    let (chain, server) = three_routers(false)?;
    let json = run(&chain, &server, "trace", &["--json", "--count", "1"])?
        .with(0)?
        .json()?;
    let kinds: Vec<_> = json
        .events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    ensure!(
        kinds.contains(&"hop") && kinds.contains(&"picture"),
        "{kinds:?}"
    );
    let hops = json.report["hops"].as_array().context("no hops")?;
    let addresses: Vec<_> = hops
        .iter()
        .filter_map(|hop| hop["addresses"][0]["address"].as_str())
        .collect();
    ensure!(addresses == path(&chain, false), "{}", json.report);
    ensure!(json.report["peer_ttl"] == 4, "{}", json.report);

    let ended = run(&chain, &server, "trace", &["--csv", "--count", "1"])?.with(0)?;
    let rows = ended.csv()?;
    ensure!(rows[0][..2] == ["ttl", "address"], "{rows:?}");
    let addresses: Vec<_> = rows[1..].iter().map(|row| row[1]).collect();
    ensure!(addresses == path(&chain, false), "{rows:?}");
    Ok(())
}

pub(crate) fn trace_too_short() -> Result<()> {
    let (chain, server) = three_routers(false)?;
    let options = ["--max-ttl", "2", "--count", "1"];
    let ended = run(&chain, &server, "trace", &options)?.with(3)?;
    let said = ended
        .stdout
        .iter()
        .any(|line| line == "the server has not answered");
    ensure!(said, "{ended:#?}");
    run(&chain, &server, "ttl", &["--max-ttl", "2", "--wait", "0.3"])?.with(3)?;
    Ok(())
}

pub(crate) fn pmtu(v6: bool) -> Result<()> {
    let (chain, server) = over(Chain::with_mtus(&[1500, 1400, 1500])?, v6)?;
    let ended = run(&chain, &server, "pmtu", &[])?.with(0)?;
    let found = ended
        .stdout
        .iter()
        .any(|line| line.starts_with("1400 bytes pass, exact"));
    ensure!(found, "{ended:#?}");
    let json = run(&chain, &server, "pmtu", &["--json"])?.with(0)?.json()?;
    ensure!(
        json.report["mtu"] == 1400 && json.report["exact"] == true,
        "{}",
        json.report
    );
    ensure!(!json.events.is_empty(), "{}", json.report);
    let ended = run(&chain, &server, "pmtu", &["--csv"])?.with(0)?;
    ensure!(ended.csv()?[1][0] == "1400", "{ended:?}");
    Ok(())
}

pub(crate) fn ttl() -> Result<()> {
    let (chain, server) = three_routers(true)?;
    let ended = run(&chain, &server, "ttl", &[])?.with(0)?;
    ensure!(
        ended.stdout.iter().any(|line| line.starts_with("4 hops, ")),
        "{ended:#?}"
    );
    let ended = run(&chain, &server, "ttl", &["--csv"])?.with(0)?;
    ensure!(ended.csv()?[1][..3] == ["4", "61", "4"], "{ended:#?}");

    // A watch goes on until it is told.
    let args = [
        "ttl",
        &server.endpoint,
        "--json",
        "--watch",
        "--interval",
        "0.1",
    ];
    let mut program = Program::start(&chain.left, &args)?;
    program.line("{\"event\":")?;
    program.signal(Signal::SIGINT)?;
    let json = program.end()?.with(0)?.json()?;
    ensure!(json.report["reach"]["ttl"] == 4, "{}", json.report);
    Ok(())
}

pub(crate) fn qos() -> Result<()> {
    let (chain, server) = three_routers(false)?;
    let options = ["--count", "20", "--marks", "EF,ect0", "--json", "--no-raw"];
    let json = run(&chain, &server, "qos", &options)?.with(0)?.json()?;
    let marks = json.report["marks"].as_array().context("no marks")?;
    ensure!(marks.len() == 3, "{marks:?}");
    ensure!(
        marks.iter().all(|mark| mark["rtt"]["received"] == 20),
        "{marks:?}"
    );

    let options = [
        "--count", "20", "--marks", "EF", "--no-raw", "--csv", "--load", "800",
    ];
    let ended = run(&chain, &server, "qos", &options)?.with(0)?;
    let rows = ended.csv()?;
    let loaded: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1])).collect();
    let expected = [
        ("CS0", "false"),
        ("EF", "false"),
        ("CS0", "true"),
        ("EF", "true"),
    ];
    ensure!(loaded == expected, "{rows:?}");
    ensure!(rows[0][2] == "load_kbit_s", "{rows:?}");
    for row in &rows[1..] {
        // No more than was asked for, and the first of it comes at once.
        let sent = match row[2] {
            "" => None,
            sent => Some(sent.parse::<u64>()?),
        };
        let is_loaded = row[1] == "true";
        ensure!(
            sent.is_some() == is_loaded && sent.is_none_or(|sent| (1..=850).contains(&sent)),
            "{rows:?}"
        );
    }

    // What the path swallows is named, and the session's packets go back to what it does not.
    chain.routers[1]
        .nft("table ip t { chain c { type filter hook forward priority 0; ip dscp ef drop; }; }")?;
    let options = [
        "--count",
        "30",
        "--marks",
        "EF",
        "--no-raw",
        "--set",
        "srtp:dscp=EF",
        "--fall-back",
    ];
    let ended = run(
        &chain,
        &server,
        "qos",
        &[&options[..], &["--wait", "0.3"]].concat(),
    )?
    .with(0)?;
    for words in ["EF does not arrive", "srtp has gone from EF back to DSCP 0"] {
        ensure!(
            ended.stdout.iter().any(|line| line.contains(words)),
            "{ended:#?}"
        );
    }
    Ok(())
}

/// Nothing is said of a load that nobody has sent.
pub(crate) fn no_load() -> Result<()> {
    let (chain, server) = three_routers(false)?;
    let args = ["--load", "200", "--count", "20", "--marks", "EF"];
    chain.routers[1].nft(NO_CHANNEL)?;
    let ended = run(&chain, &server, "qos", &args)?.with(1)?;
    let is_claimed = ended.stdout.iter().any(|line| line.contains("under load"));
    ensure!(!is_claimed && ended.stderr.len() == 1, "{ended:#?}");
    Ok(())
}

/// What was asked for last is not begun any more.
pub(crate) fn qos_interrupted() -> Result<()> {
    let (chain, server) = three_routers(false)?;
    let args = ["qos", &server.endpoint, "--json", "--no-raw"];
    let options = ["--load", "200", "--count", "1000"];
    let mut program = Program::start(&chain.left, &[&args[..], &options].concat())?;
    // Each mark has to have some.
    program.lines("{\"event\":", 100)?;
    program.signal(Signal::SIGINT)?;
    let json = program.end()?.with(0)?.json()?;
    ensure!(json.report["phase"] == "idle", "{}", json.report);
    Ok(())
}

/// Nothing is said of sizes before anything was answered.
pub(crate) fn pmtu_interrupted() -> Result<()> {
    let (chain, server) = three_routers(false)?;
    chain.routers[1]
        .nft("table ip t { chain c { type filter hook forward priority 0; ip dscp ef drop; }; }")?;
    let args = ["pmtu", &server.endpoint, "--probes", "dscp=EF"];
    let mut program = Program::start(&chain.left, &[&args[..], &["--wait", "600"]].concat())?;
    program.says(" → ", 1)?;
    program.signal(Signal::SIGINT)?;
    let ended = program.end()?.with(3)?;
    ensure!(
        !ended.stdout.iter().any(|line| line.contains("bytes pass")),
        "{ended:#?}"
    );
    Ok(())
}

/// On the last link, of which no router tells: the server says what has arrived.
pub(crate) fn remarking_at_the_end() -> Result<()> {
    let (chain, server) = three_routers(true)?;
    chain.routers[2].nft(
        "table ip6 t { chain c { type filter hook forward priority 0; ip6 dscp set cs0; }; }",
    )?;
    let options = ["--count", "10", "--marks", "EF,AF41", "--json"];
    let json = run(&chain, &server, "qos", &options)?.with(0)?.json()?;
    let seen = &json.report["observation"];
    ensure!(seen["at_the_peer"] == "observed", "{seen}");
    let remarking = &seen["remarkings"][0];
    ensure!(
        remarking["from_hop"] == 3 && remarking["to_hop"] == 4,
        "{seen}"
    );
    Ok(())
}

/// With the privilege of the lab, which has its own networks.
pub(crate) fn remarking() -> Result<()> {
    let (chain, server) = three_routers(false)?;
    chain.routers[1]
        .nft("table ip t { chain c { type filter hook forward priority 0; ip dscp set cs0; }; }")?;
    let options = ["--count", "10", "--marks", "EF,AF41", "--raw"];
    let ended = run(&chain, &server, "qos", &options)?.with(0)?;
    let named =
        |line: &String| line.contains("Bleach-DSCP") && line.contains("between hop 2 and hop 3");
    ensure!(ended.stdout.iter().any(named), "{ended:#?}");

    let options = ["--raw", "--json", "--count", "1", "--probes", "dscp=EF"];
    let json = run(&chain, &server, "trace", &options)?.with(0)?.json()?;
    let change = &json.report["changes"][0];
    let tos = |field: &str| change[field].as_u64();
    ensure!(
        (tos("after"), tos("before"), tos("from"), tos("to"))
            == (Some(2), Some(3), Some(0xb8), Some(0)),
        "{}",
        Value::clone(change)
    );
    Ok(())
}
