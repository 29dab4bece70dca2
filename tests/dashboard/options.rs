//! What an operator asks for by the form is what goes out.

use std::net::IpAddr;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::Packet;
use perpacket_udp::MessageOptions;
use perpacket_webrtc::PacketClass;
use serde_json::Value;

use super::page::Page;
use super::scene::Scene;
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;
use crate::support::wire::{class_of, complies, count, sent_after};

/// Senders that had asked the policy when it was changed.
const LATE: usize = 4;

/// How many packets are enough to judge by.
const ENOUGH: usize = 200;

const FORM: &str = "section[aria-labelledby=options] form";

/// What is sent while nothing is asked for.
const PLAIN: MessageOptions = MessageOptions::NONE
    .with_ttl(64)
    .with_df_bit(true)
    .with_tos(0);

const ASKED: MessageOptions = MessageOptions::NONE
    .with_ttl(10)
    .with_df_bit(true)
    .with_tos(46 << 2);

pub(crate) fn on_the_wire(family: Family) -> Result<()> {
    let mut scene = Scene::new(family)?;
    let operator = scene.operator()?;
    operator.wait_for_text(".empty h2", "Nobody is connected")?;
    // A page that is loaded again forgets this.
    operator.run("window.isTheSame = true")?;
    let (measured, id) = scene.measured()?;
    let link = format!(".clients tbody tr a[data-stop][href='/dashboard/clients/{id}']");
    operator.wait_for_text(&link, "chrome on linux")?;
    let (_program, other, _media) = scene.program()?;
    operator.wait(
        "with both clients",
        "document.querySelectorAll('.clients tbody tr').length === 2",
    )?;
    let [view, other] = [&id, &other].map(|id| scene.wait_for_first_look(id));
    let [to, to_other] = [address(&view?)?, address(&other?)?];

    operator.click(&link)?;
    operator.wait("of the client", "document.querySelector('#ttl')")?;
    operator.fill("#ttl", "10")?;
    operator.click("input[name=df_bit][value='1']")?;
    operator.click("#dscp option[value='46']")?;
    operator.click(&format!("{FORM} .primary"))?;
    operator.wait_for_text(FORM, "In force from the next packet on.")?;
    let since = operator.answered("/socket-options")?;
    ensure!(
        operator.run("return window.isTheSame")? == true,
        "it was loaded again"
    );

    seen(&operator)?;
    operator.wait(
        "with the watch at its end",
        "document.querySelector('.guard.kept:not([hidden])')",
    )?;
    let kept = SystemTime::now();
    wait_for_all_classes(&mut scene, &to, kept)?;
    let packets = scene.near.wire.packets();
    let from = scene.near.address;
    hold(sent_to(packets, from, &to, since), &ASKED, &PLAIN)?;
    // Nobody has to prove anything any more: not one packet is otherwise.
    let strange = sent_to(packets, from, &to, kept).find(|packet| !complies(packet, &ASKED));
    ensure!(strange.is_none(), "{strange:?}");
    let touched = sent_to(packets, from, &to_other, since).find(|packet| !complies(packet, &PLAIN));
    ensure!(touched.is_none(), "{touched:?}");
    ensure!(sent_to(packets, from, &to_other, since).count() > ENOUGH);
    if family == Family::V4 {
        operator.picture("options")?;
    }

    operator.click(&format!("{FORM} .tools button[type=button]"))?;
    operator.wait_for_text(FORM, "Cleared.")?;
    let since = operator.answered("/socket-options")?;
    operator.wait(
        "with both changes",
        "document.querySelectorAll('.changes li').length === 2",
    )?;
    operator.wait(
        "with both marked",
        "document.querySelectorAll('.chart .change').length === 12",
    )?;
    wait_for_all_classes(&mut scene, &to, since)?;
    let packets = scene.near.wire.packets();
    hold(sent_to(packets, from, &to, since), &PLAIN, &ASKED)?;
    operator.wait(
        "where nothing is asked for",
        "[...document.querySelectorAll('.applied-table .asked')].every((it) => it.textContent === 'unset')
            && document.querySelector('#ttl').value === ''",
    )?;
    measured.close()?;
    operator.close()
}

/// The change is marked in each chart, and listed; what has gone out agrees with what was asked for.
fn seen(operator: &Page) -> Result<()> {
    operator.wait(
        "with the mark",
        "document.querySelectorAll('.chart .change').length === 6",
    )?;
    operator.wait(
        "with the change",
        "document.querySelectorAll('.changes li').length === 1",
    )?;
    let change = operator.text(".changes li .what")?;
    let said = "TTL unset → 10, DF unset → 1, DSCP unset → EF, by token";
    ensure!(change.starts_with(said), "{change}");
    operator.wait(
        "that agrees with the wire",
        "[...document.querySelectorAll('.applied-table tbody tr')].every((row) =>
            ['TTL', 'DSCP'].every((name) => row.querySelector(`[data-title=${name}] .same`)))",
    )?;
    for row in operator.cells(".applied-table tbody tr")? {
        let expected = ["10\n✓ asked", "1\n✓ asked", "EF\n✓ asked", "Not-ECT\nunset"];
        ensure!(row[1..5] == expected, "{row:?}");
    }
    Ok(())
}

/// Where packets for a client go to.
fn address(view: &Value) -> Result<String> {
    let remote = view["pair"]["remote"].as_str();
    Ok(remote.context("no address")?.to_owned())
}

fn sent_to<'a>(
    packets: &'a [Packet],
    from: IpAddr,
    to: &str,
    since: SystemTime,
) -> impl Iterator<Item = &'a Packet> {
    sent_after(packets, from, since).filter(move |packet| packet.destination.to_string() == to)
}

fn wait_for_all_classes(scene: &mut Scene, to: &str, since: SystemTime) -> Result<()> {
    let from = scene.near.address;
    scene.near.wire.wait_for(DEADLINE, |packets| {
        let counts = count(sent_to(packets, from, to, since));
        counts.iter().all(|of_class| *of_class > 0) && counts.iter().sum::<usize>() > ENOUGH
    })?;
    Ok(())
}

/// Fails unless all packets are as was asked for. Only the server's own checks go out with the header from before as
/// well, while it watches whether the new one cuts off.
fn hold<'a>(
    packets: impl Iterator<Item = &'a Packet>,
    asked: &MessageOptions,
    before: &MessageOptions,
) -> Result<()> {
    let mut late = Vec::new();
    for packet in packets {
        let is_request =
            class_of(packet) == Some(PacketClass::Stun) && packet.payload[..2] == [0, 1];
        if complies(packet, asked) || is_request && complies(packet, before) {
            continue;
        }
        late.push(packet.to_string());
    }
    ensure!(
        late.len() <= LATE,
        "{asked:?}, but {} are not: {late:#?}",
        late.len()
    );
    Ok(())
}
