//! Questions to the path of a connected session: what they look like on the wire, what comes back, and that neither ICE
//! nor the session's packets notice.

mod support;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use perpacket_lab::{Chain, Packet, Sniffer, Test};
use perpacket_udp::{IcmpErrorKind, IcmpListener, MessageOptions};
use perpacket_webrtc::{
    Attribution, Clock, PacketClass, Probe, ProbeAnswer, ProbeOutcome, ProbeResult, Prober,
    StunHeader, classify,
};
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::policy::ice_transport_policy::RTCIceTransportPolicy;

use support::connection::DEADLINE;
use support::description::Description;
use support::hosts::{Family, on_link};
use support::internet::Internet;
use support::measured::{Measured, Way};
use support::numbers::Numbers;
use support::peer::{connect, negotiate};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("every_hop_net_v4", || every_hop(Way::Net, Family::V4)),
        ("every_hop_net_v6", || every_hop(Way::Net, Family::V6)),
        ("every_hop_mux_v4", || every_hop(Way::Mux, Family::V4)),
        ("every_hop_mux_v6", || every_hop(Way::Mux, Family::V6)),
        ("every_size_net_v4", || every_size(Way::Net, Family::V4)),
        ("every_size_net_v6", || every_size(Way::Net, Family::V6)),
        ("every_size_mux_v4", || every_size(Way::Mux, Family::V4)),
        ("every_size_mux_v6", || every_size(Way::Mux, Family::V6)),
        ("quoted_header_v4", || quoted_header(Family::V4)),
        ("quoted_header_v6", || quoted_header(Family::V6)),
        ("another_source_v4", || another_source(Family::V4)),
        ("another_source_v6", || another_source(Family::V6)),
        ("ice_restart_net", || ice_restart(Way::Net)),
        ("ice_restart_mux", || ice_restart(Way::Mux)),
        ("a_closed_session_is_not_probed", closed),
        ("a_relayed_session_is_not_probed", relayed),
    ];
    perpacket_lab::main(tests)
}

struct Scene {
    chain: Chain,
    near: IpAddr,
    wire: Sniffer,
    measured: Measured,
    numbers: Numbers,
}

impl Scene {
    /// Two routers, and links with these MTUs.
    fn new(way: Way, family: Family, mtus: [u32; 3]) -> Result<Self> {
        let chain = Chain::with_mtus(&mtus)?;
        let (near, far) = chain.pairs()[family as usize];
        let wire = Sniffer::on(&chain.left, &chain.links[0].a)?;
        let mut measured = Measured::new([&chain.left, &chain.right], [near, far], way)?;
        let mut numbers = Numbers::send(&measured.left);
        numbers.go_on(&mut measured.right)?;
        Ok(Self {
            chain,
            near,
            wire,
            measured,
            numbers,
        })
    }

    /// The address of a router on the side of the left host.
    fn router(&self, number: u8) -> IpAddr {
        match self.near {
            IpAddr::V4(_) => [10, 0, number, 2].into(),
            IpAddr::V6(_) => [0xfd00, 0, 0, number.into(), 0, 0, 0, 2].into(),
        }
    }

    fn ask(&self, probe: Probe) -> Result<ProbeOutcome> {
        let prober = &self.measured.prober;
        Ok(self.measured.left.block_on(prober.probe(probe))?)
    }

    /// Finds a probe as it left the host.
    fn on_the_wire(&mut self, outcome: &ProbeOutcome) -> Result<Packet> {
        let id = outcome.transaction_id;
        Ok(self.wire.find(DEADLINE, move |packet| {
            transaction(packet).is_some_and(|(found, outgoing)| found == id && outgoing)
        })?)
    }

    /// The data channel has lost nothing and goes on.
    fn finish(mut self) -> Result<()> {
        self.numbers.go_on(&mut self.measured.right)?;
        self.numbers
            .all_arrive(&self.measured.left, &mut self.measured.right)?;
        let total = self.measured.session.total();
        ensure!(total.total().dropped.iter().sum::<u64>() == 0, "{total:?}");
        Ok(())
    }
}

/// The transaction of a STUN request or answer, and whether it is a request.
fn transaction(packet: &Packet) -> Option<([u8; 12], bool)> {
    let header = StunHeader::parse(&packet.payload)?;
    Some((header.transaction_id, header.message_type == 1))
}

fn answer(outcome: &ProbeOutcome) -> Result<ProbeAnswer> {
    match &outcome.result {
        ProbeResult::Answered(answer) => Ok(*answer),
        other => bail!("{other:?}"),
    }
}

fn every_hop(way: Way, family: Family) -> Result<()> {
    let mut scene = Scene::new(way, family, [1500; 3])?;
    let marks = MessageOptions::NONE.with_tos(0xb9);
    for ttl in 1..=2 {
        let outcome = scene.ask(Probe::new().with_options(marks.with_ttl(ttl)))?;
        let ProbeResult::Icmp {
            error,
            rtt,
            attribution,
        } = &outcome.result
        else {
            bail!("TTL {ttl}: {outcome:?}");
        };
        ensure!(error.kind == IcmpErrorKind::TimeExceeded, "{error:?}");
        ensure!(error.offender == Some(scene.router(ttl - 1)), "{error:?}");
        ensure!(*attribution == Attribution::TransactionId);
        ensure!(rtt.clock == Clock::Kernel, "{rtt:?}");
        ensure!(error.reply_ttl == Some(65 - ttl), "{error:?}");
        let packet = scene.on_the_wire(&outcome)?;
        ensure!(packet.ttl == ttl && packet.tos == 0xb9, "{packet:?}");
        let apart = outcome.sent.duration_since(packet.at);
        let apart = apart.unwrap_or_else(|error| error.duration());
        ensure!(apart < Duration::from_millis(5), "{apart:?}");
    }
    let outcome = scene.ask(Probe::new().with_options(marks.with_ttl(3)))?;
    let reached = answer(&outcome)?;
    ensure!(reached.ttl == Some(62), "{reached:?}");
    ensure!(reached.rtt.clock == Clock::Kernel, "{reached:?}");
    let mapped = SocketAddr::new(scene.near, scene.measured.prober.local().port());
    ensure!(reached.mapped == Some(mapped), "{reached:?}");
    ensure!(reached.error_code.is_none(), "{reached:?}");

    // The same 5-tuple as the data channel's.
    let probe = scene.on_the_wire(&outcome)?;
    let media = scene.wire.find(DEADLINE, |packet| {
        packet.source.ip() == probe.source.ip()
            && packet.udp.is_some()
            && classify(&packet.payload).class == PacketClass::Dtls
    })?;
    ensure!((probe.source, probe.destination) == (media.source, media.destination));
    ensure!(probe.flow_label == media.flow_label, "{probe:?} {media:?}");
    ensure!(scene.measured.prober.remote() == media.destination);
    ensure!(scene.measured.prober.stray_icmp() == 0);
    scene.finish()
}

/// In the middle there is less room.
fn every_size(way: Way, family: Family) -> Result<()> {
    let mut scene = Scene::new(way, family, [1500, 1400, 1500])?;
    let df = MessageOptions::NONE.with_df_bit(true);
    let smallest = scene.measured.prober.min_size();
    for size in [smallest, 1200, 1400] {
        let outcome = scene.ask(Probe::new().with_options(df).with_size(size))?;
        answer(&outcome).with_context(|| format!("{size} bytes"))?;
        ensure!(outcome.size == size);
        let packet = scene.on_the_wire(&outcome)?;
        ensure!(packet.raw.len() == size, "{} bytes", packet.raw.len());
        ensure!(family == Family::V6 || packet.df, "{packet:?}");
    }
    // Twice: the kernel has heard of the MTU before the second, which is not to matter.
    for _ in 0..2 {
        let outcome = scene.ask(Probe::new().with_options(df).with_size(1450))?;
        ensure!(outcome.size == 1448, "{outcome:?}");
        let ProbeResult::Icmp { error, .. } = &outcome.result else {
            bail!("{outcome:?}");
        };
        ensure!(error.kind == IcmpErrorKind::PacketTooBig, "{error:?}");
        ensure!(error.next_hop_mtu == Some(1400), "{error:?}");
        ensure!(error.offender == Some(scene.router(0)), "{error:?}");
        let packet = scene.on_the_wire(&outcome)?;
        ensure!(packet.raw.len() == 1448, "{} bytes", packet.raw.len());
    }
    let outcome = scene.ask(Probe::new().with_options(df).with_size(1504))?;
    ensure!(
        matches!(outcome.result, ProbeResult::TooBigHere { mtu: Some(1500) }),
        "{outcome:?}"
    );
    // Without DF it gets through, in fragments.
    let fragments = MessageOptions::NONE.with_df_bit(false);
    let outcome = scene.ask(Probe::new().with_options(fragments).with_size(4000))?;
    answer(&outcome)?;
    let huge = scene.ask(Probe::new().with_size(70_000));
    ensure!(huge.is_err(), "{huge:?}");
    scene.finish()
}

/// Where nothing is in the way, a probe arrives at the second router as it was sent; the first one is made to mark it.
fn quoted_header(family: Family) -> Result<()> {
    let scene = Scene::new(Way::Net, family, [1500; 3])?;
    let (table, field) = match family {
        Family::V4 => ("ip", "ip dscp"),
        Family::V6 => ("ip6", "ip6 dscp"),
    };
    scene.chain.routers[0].nft(&format!(
        "table {table} rewrite {{
            chain out {{ type filter hook postrouting priority 0; udp dport {} {field} set cs1; }}
        }}",
        scene.measured.prober.remote().port()
    ))?;
    let near = scene.near;
    let listener = scene
        .measured
        .left
        .block_on(async { IcmpListener::open(near) })?;
    for (ttl, tos) in [(1, 0xb8), (2, 0x20)] {
        let options = MessageOptions::NONE.with_ttl(ttl).with_tos(0xb8);
        let outcome = scene.ask(Probe::new().with_options(options))?;
        let heard = scene.measured.left.block_on(async {
            tokio::time::timeout(DEADLINE, async {
                loop {
                    let error = listener.recv().await?;
                    if error.quote.payload.get(8..20) == Some(&outcome.transaction_id) {
                        return anyhow::Ok(error);
                    }
                }
            })
            .await?
        })?;
        ensure!(heard.quote.tos.byte() == tos, "TTL {ttl}: {heard:?}");
        ensure!(heard.from == scene.router(ttl - 1), "{heard:?}");
        ensure!(heard.kind == IcmpErrorKind::TimeExceeded, "{heard:?}");
        ensure!(heard.quote.total_length == outcome.size, "{heard:?}");
        ensure!(heard.reply_ttl == Some(65 - ttl), "{heard:?}");
        let local = SocketAddr::new(near, scene.measured.prober.local().port());
        ensure!(heard.quote.source == local, "{heard:?}");
        ensure!(heard.quote.destination == scene.measured.prober.remote());
    }
    scene.finish()
}

/// The session's packets leave from an address that is not the first of the host, and with a label of their own: by
/// the way that these lead, probes go too. What else is set for the session is not for them.
fn another_source(family: Family) -> Result<()> {
    let mut scene = Scene::new(Way::Mux, family, [1500; 3])?;
    let other = match family {
        Family::V4 => IpAddr::from([10, 0, 0, 9]),
        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 9]),
    };
    let interface = &scene.chain.links[0].a;
    scene.chain.left.add_addr(interface, &on_link(other))?;
    let session = scene.measured.session.clone();
    let way = MessageOptions::NONE
        .with_source(other)
        .with_flow_label(0x1_2345);
    session.set_options(way.with_ttl(50).with_tos(0x20))?;
    let port = scene.measured.prober.local().port();
    let source = SocketAddr::new(other, port);
    ensure!(scene.measured.prober.local() == source);

    let outcome = scene.ask(Probe::new().with_timeout(DEADLINE))?;
    ensure!(answer(&outcome)?.mapped == Some(source), "{outcome:?}");
    let probe = scene.on_the_wire(&outcome)?;
    ensure!((probe.ttl, probe.tos) == (64, 0), "{probe:?}");
    let media = scene.wire.find(DEADLINE, |packet| {
        packet.source == source && classify(&packet.payload).class == PacketClass::Dtls
    })?;
    ensure!((media.ttl, media.tos) == (50, 0x20), "{media:?}");
    ensure!((probe.source, probe.destination) == (media.source, media.destination));
    ensure!(probe.flow_label == media.flow_label, "{probe:?} {media:?}");
    ensure!(family == Family::V4 || probe.flow_label == 0x1_2345);

    // What a probe says of itself comes first.
    let first = MessageOptions::NONE.with_source(scene.near);
    let outcome = scene.ask(Probe::new().with_timeout(DEADLINE).with_options(first))?;
    let near = SocketAddr::new(scene.near, port);
    ensure!(answer(&outcome)?.mapped == Some(near), "{outcome:?}");
    ensure!(scene.on_the_wire(&outcome)?.source == near);
    scene.finish()
}

/// New credentials and a new socket: the prober finds both.
fn ice_restart(way: Way) -> Result<()> {
    let mut scene = Scene::new(way, Family::V4, [1500; 3])?;
    answer(&scene.ask(Probe::new())?)?;
    let Measured {
        left,
        right,
        prober,
        ..
    } = &scene.measured;
    ensure!(!left.block_on(prober.refresh())?);
    negotiate(left, right, true)?;
    scene.numbers.go_on(&mut scene.measured.right)?;
    let Measured { left, prober, .. } = &scene.measured;
    let answered = left.block_on(async {
        tokio::time::timeout(DEADLINE, async {
            loop {
                let refreshed = prober.refresh().await;
                let probe = Probe::new().with_timeout(Duration::from_millis(200));
                let outcome = prober.probe(probe).await;
                if let (Ok(_), Ok(outcome)) = (refreshed, outcome)
                    && let ProbeResult::Answered(answer) = outcome.result
                    && answer.error_code.is_none()
                {
                    return answer;
                }
                // While there is no pair, there is nothing to wait for in a probe.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    })?;
    ensure!(answered.ttl == Some(62), "{answered:?}");
    scene.finish()
}

fn closed() -> Result<()> {
    let scene = Scene::new(Way::Net, Family::V4, [1500; 3])?;
    let Measured { left, prober, .. } = &scene.measured;
    left.block_on(left.connection.close())?;
    let error = left.block_on(prober.probe(Probe::new()));
    let text = error.err().context("it was sent")?.to_string();
    ensure!(text.contains("`left`"), "{text}");
    ensure!(left.block_on(prober.refresh()).is_err());
    Ok(())
}

/// The error names the address that the server relays at, which is not the server's own.
fn relayed() -> Result<()> {
    let internet = Internet::new()?;
    let configuration = RTCConfiguration {
        ice_servers: vec![internet.coturn.turn()],
        ice_transport_policy: RTCIceTransportPolicy::Relay,
        ..RTCConfiguration::default()
    };
    let mut left = internet.alice.peer("left", configuration, |settings| {
        settings.set_relay_acceptance_min_wait(Some(Duration::ZERO));
    })?;
    let direct = RTCConfiguration::default();
    let mut right = internet.bob.peer("right", direct, |_| {})?;
    connect(&mut left, &mut right)?;
    let candidates = Description::of(&left)?.candidates;
    let (_, relayed) = candidates.first().context("no candidate")?;
    let session = internet.alice.net.session("left");
    let error = left.block_on(Prober::new(&session, &left.connection));
    let text = error.err().context("it is probed")?.to_string();
    ensure!(
        text.contains(&format!("relays the session at {relayed}:")),
        "{text}"
    );
    Ok(())
}
