//! What other people's programs find out about a simulated network.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Wan, require_program};

fn output(wan: &Wan, program: &str, package: &str, arguments: &[&str]) -> Result<String> {
    let program = require_program(program, &format!("apt-get install {package}"))?;
    let output = wan.left().output(Command::new(program).args(arguments))?;
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) fn traceroute_finds_every_hop() -> Result<()> {
    let wan = Wan::load("ten_hops")?;
    for (left, right) in wan.pairs() {
        let right = right.to_string();
        // One probe a hop: Linux hosts send few port-unreachables a second.
        let text = output(
            &wan,
            "traceroute",
            "traceroute",
            &["-n", "-q", "1", "-w", "5", &right],
        )?;
        let lines: Vec<_> = text.lines().skip(1).collect();
        ensure!(lines.len() == 11, "{text}");
        for (number, line) in (1..).zip(lines) {
            let words: Vec<_> = line.split_whitespace().collect();
            let (address, rtt) = match number {
                11 => (right.clone(), wan.rtt()),
                number => (
                    wan.hop(number).address(left).to_string(),
                    wan.hop(number).rtt(),
                ),
            };
            ensure!(words.get(1) == Some(&&*address), "{text}");
            let found: f64 = words.get(2).context("no RTT")?.parse()?;
            // It prints microseconds, rounded.
            ensure!(found + 0.001 >= rtt.as_secs_f64() * 1e3, "{line}: {rtt:?}");
        }
    }
    Ok(())
}

pub(crate) fn tracepath_finds_the_mtu() -> Result<()> {
    let wan = Wan::load("ptb_1400")?;
    for (_, right) in wan.pairs() {
        let text = output(
            &wan,
            "tracepath",
            "iputils-tracepath",
            &["-n", &right.to_string()],
        )?;
        let last = text.lines().last().context("it says nothing")?;
        ensure!(
            last.contains("pmtu 1400") && last.contains("hops 5"),
            "{text}"
        );
    }
    Ok(())
}

pub(crate) fn traceroute_finds_labels() -> Result<()> {
    let wan = Wan::load("mpls")?;
    let stacks = [
        "<MPLS:L=16001,E=5,S=0,T=1/L=24005,E=0,S=1,T=1>",
        "<MPLS:L=1048575,E=7,S=1,T=255;2/2:",
    ];
    for (_, right) in wan.pairs() {
        let right = right.to_string();
        let text = output(
            &wan,
            "traceroute",
            "traceroute",
            &["-n", "-e", "-q", "1", &right],
        )?;
        let line = |number| text.lines().nth(number).unwrap_or_default();
        ensure!(
            line(2).contains(stacks[0]) && line(3).contains(stacks[1]),
            "{text}"
        );
        ensure!(!line(1).contains('<') && !line(4).contains('<'), "{text}");
    }
    Ok(())
}

pub(crate) fn mtr_finds_every_hop() -> Result<()> {
    let wan = Wan::load("four_hops")?;
    for (left, right) in wan.pairs() {
        let right = right.to_string();
        let text = output(
            &wan,
            "mtr",
            "mtr-tiny",
            &["-n", "-c", "2", "-i", "0.2", "-G", "1", "-r", "-w", &right],
        )?;
        for (number, line) in (1..).zip(text.lines().skip(2)) {
            let address = match number {
                5 => right.clone(),
                number => wan.hop(number).address(left).to_string(),
            };
            ensure!(line.contains(&format!("{number}.|-- {address} ")), "{text}");
        }
        ensure!(text.lines().count() == 7, "{text}");
    }
    Ok(())
}

pub(crate) fn ping_passes_the_nat() -> Result<()> {
    let wan = Wan::load("nat")?;
    for (_, right) in wan.pairs() {
        let right = right.to_string();
        let text = output(
            &wan,
            "ping",
            "iputils-ping",
            &["-n", "-c", "3", "-i", "0.1", &right],
        )?;
        ensure!(
            text.contains("3 received") && text.contains("ttl=60"),
            "{text}"
        );
    }
    Ok(())
}
