//! Peer connections behind NATs, by server-reflexive candidates: what their headers say on either side of each NAT.

mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Capture, Direction, Lab, Packet, Sniffer, Test};
use perpacket_webrtc::{CustomMux, CustomNet, PacketClass};
use webrtc::ice_transport::ice_candidate_type::RTCIceCandidateType;
use webrtc::peer_connection::configuration::RTCConfiguration;
use webrtc::peer_connection::sdp::session_description::RTCSessionDescription;

use support::connection::{self, DEADLINE};
use support::coturn::Coturn;
use support::description::Description;
use support::hosts::{ENOUGH, marking};
use support::internet::Host;
use support::media::{Tracks, send_everything};
use support::nat::Nat;
use support::peer::{Peer, connect};
use support::wire::{CLASSES, all_comply, class_of, count, sent_after};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("behind_masquerading", || {
            translated([Some(Nat::Masquerade), None])
        }),
        ("behind_a_port_restricted_nat", || {
            translated([Some(Nat::PortRestricted), None])
        }),
        ("both_behind_port_restricted_nats", || {
            translated([Some(Nat::PortRestricted); 2])
        }),
        ("a_mux_behind_a_port_restricted_nat", muxed),
    ];
    perpacket_lab::main(tests)
}

/// A host, its router, and what passes the router's interface to the outside.
struct Site {
    host: Host,
    nat: Option<Nat>,
    outside: Sniffer,
    public: IpAddr,
}

/// What passed a site's wires.
struct Passed {
    address: IpAddr,
    nat: Option<Nat>,
    inside: Capture,
    outside: Capture,
}

impl Site {
    fn stop(self) -> Result<Passed> {
        let passed = Passed {
            address: self.host.address,
            nat: self.nat,
            inside: self.host.wire.stop()?,
            outside: self.outside.stop()?,
        };
        ensure!(passed.inside.dropped + passed.outside.dropped == 0);
        Ok(passed)
    }
}

/// Two sites and a STUN server, with one router between them.
struct Scene {
    _lab: Lab,
    coturn: Coturn,
    sites: [Site; 2],
}

impl Scene {
    fn new(nats: [Option<Nat>; 2]) -> Result<Self> {
        let lab = Lab::new();
        let internet = lab.router("internet")?;
        let site = |number: u8, name: &str, nat: Option<Nat>| {
            let (node, router) = (lab.host(name)?, lab.router("gateway")?);
            // Behind a NAT both have the same addresses.
            let inside = if nat.is_some() {
                "192.168.0".to_owned()
            } else {
                format!("10.{number}.1")
            };
            let outside = format!("10.{number}.0");
            let [host, gateway] = [1, 2].map(|n| format!("{inside}.{n}"));
            let [public, uplink] = [1, 2].map(|n| format!("{outside}.{n}"));
            lab.link(&node, &router)
                .v4(&format!("{host}/24"), &format!("{gateway}/24"))
                .up()?;
            let link = lab
                .link(&router, &internet)
                .v4(&format!("{public}/24"), &format!("{uplink}/24"))
                .up()?;
            node.route("0.0.0.0/0", &gateway)?;
            router.route("0.0.0.0/0", &uplink)?;
            match nat {
                Some(nat) => nat.set_up(&router, &link.a)?,
                None => internet.route(&format!("{inside}.0/24"), &public)?,
            }
            anyhow::Ok(Site {
                host: Host::new(&node, host.parse()?, CustomNet::new())?,
                nat,
                outside: Sniffer::on(&router, &link.a)?,
                public: if nat.is_some() {
                    public.parse()?
                } else {
                    host.parse()?
                },
            })
        };
        let sites = [site(1, "alice", nats[0])?, site(2, "bob", nats[1])?];
        let server = lab.host("server")?;
        lab.link(&server, &internet)
            .v4("10.3.0.1/24", "10.3.0.2/24")
            .up()?;
        server.route("0.0.0.0/0", "10.3.0.2")?;
        Ok(Self {
            coturn: Coturn::start(&server, "10.3.0.1".parse()?)?,
            sites,
            _lab: lab,
        })
    }

    /// A peer that has a server-reflexive candidate and no other.
    fn peer(&self, site: &Site, session: &str) -> Result<Peer> {
        let configuration = RTCConfiguration {
            ice_servers: vec![self.coturn.stun()],
            ..RTCConfiguration::default()
        };
        site.host.peer(session, configuration, |settings| {
            settings.set_ip_filter(Box::new(|_| false));
        })
    }
}

fn translated(nats: [Option<Nat>; 2]) -> Result<()> {
    let scene = Scene::marked(nats)?;
    let mut alice = scene.peer(&scene.sites[0], "alice")?;
    let mut bob = scene.peer(&scene.sites[1], "bob")?;
    let tracks = [Tracks::add(&alice)?, Tracks::add(&bob)?];
    connect(&mut alice, &mut bob)?;
    let ends = [
        end(&alice, &scene.sites[0], &bob)?,
        end(&bob, &scene.sites[1], &alice)?,
    ];
    scene.both_ways([&alice, &bob], &tracks, ends)
}

/// The mux asks coturn how its port looks from outside, and the answer to an offer says it.
fn muxed() -> Result<()> {
    let scene = Scene::marked([Some(Nat::PortRestricted); 2])?;
    let mut alice = scene.peer(&scene.sites[0], "alice")?;
    let Host {
        runtime,
        net,
        address,
        ..
    } = &scene.sites[1].host;
    let mux = runtime.block_on(async { CustomMux::bind(net, (*address, 5000).into()) })?;
    let found = runtime.block_on(mux.discover(scene.coturn.address))?;
    let [reflexive] = found[..] else {
        anyhow::bail!("{found:?}");
    };
    ensure!(
        reflexive.mapped.ip() == scene.sites[1].public,
        "{reflexive:?}"
    );
    let session = net.session("bob");
    let mut bob = scene.sites[1]
        .host
        .stock_peer(RTCConfiguration::default(), |settings| {
            mux.for_session(&session).install(settings);
        })?;
    let tracks = [Tracks::add(&alice)?, Tracks::add(&bob)?];

    alice.block_on(alice.channel.offer(&alice.connection))?;
    let offer = alice.block_on(connection::offer(&alice.connection, false))?;
    let answer = bob.block_on(connection::answer(&bob.connection, offer))?;
    let completed = RTCSessionDescription::answer(mux.complete(&answer.sdp))?;
    alice.block_on(alice.connection.set_remote_description(completed))?;
    for peer in [&mut alice, &mut bob] {
        peer.runtime.block_on(peer.channel.greet())?;
    }
    for peer in [&mut alice, &mut bob] {
        peer.runtime.block_on(peer.channel.be_greeted())?;
    }
    let transport = alice.connection.sctp().transport();
    let pair = alice
        .block_on(transport.ice_transport().get_selected_candidate_pair())
        .context("no pair is selected")?;
    let selected = SocketAddr::new(pair.remote.address.parse()?, pair.remote.port);
    ensure!(selected == reflexive.mapped, "{pair}");
    let ends = [offered(&alice)?, selected];
    scene.both_ways([&alice, &bob], &tracks, ends)
}

/// The only candidate of a peer.
fn offered(peer: &Peer) -> Result<SocketAddr> {
    let candidates = Description::of(peer)?.candidates;
    Ok(candidates.first().context("no candidate")?.1)
}

impl Scene {
    /// With a marking for each class at each site.
    fn marked(nats: [Option<Nat>; 2]) -> Result<Self> {
        let scene = Self::new(nats)?;
        scene.mark()?;
        Ok(scene)
    }

    fn mark(&self) -> Result<()> {
        let scene = self;
        for (number, site) in scene.sites.iter().enumerate() {
            for class in CLASSES {
                site.host
                    .net
                    .set_class_options(class, marking(number, 0, class))?;
            }
        }
        Ok(())
    }

    /// Has both send, and fails unless everything is right on the whole way.
    fn both_ways(
        self,
        [alice, bob]: [&Peer; 2],
        tracks: &[Tracks; 2],
        ends: [SocketAddr; 2],
    ) -> Result<()> {
        let mut scene = self;
        let traffic = [
            send_everything(alice, &tracks[0]),
            send_everything(bob, &tracks[1]),
        ];
        for (site, from) in scene.sites.iter_mut().zip([ends[1], ends[0]]) {
            site.host.wire.wait_for(DEADLINE, |packets| {
                let arrived = packets.iter().filter(|packet| packet.source == from);
                count(arrived).iter().all(|count| *count >= ENOUGH)
            })?;
        }
        drop(traffic);

        // What has arrived by now has passed all sniffers before any of them stops.
        let end = SystemTime::now();
        let Scene {
            sites: [one, other],
            coturn: _coturn,
            _lab,
        } = scene;
        let passed = [one.stop()?, other.stop()?];
        for number in [0, 1] {
            let way = [number, 1 - number];
            one_way(
                number,
                way.map(|at| &passed[at]),
                way.map(|at| ends[at]),
                end,
            )?;
        }
        Ok(())
    }
}

/// Where the outside has a peer: the address that the other peer has selected.
fn end(peer: &Peer, site: &Site, other: &Peer) -> Result<SocketAddr> {
    let candidates = Description::of(peer)?.candidates;
    let [(kind, offered)] = &Vec::from_iter(candidates)[..] else {
        anyhow::bail!("other candidates than one");
    };
    ensure!(
        kind == "srflx" && offered.ip() == site.public,
        "{kind} {offered}"
    );
    let transport = other.connection.sctp().transport();
    let pair = other
        .block_on(transport.ice_transport().get_selected_candidate_pair())
        .context("no pair is selected")?;
    let end = SocketAddr::new(pair.remote.address.parse()?, pair.remote.port);
    ensure!(pair.local.typ == RTCIceCandidateType::Srflx, "{pair}");
    // See `Nat::PortRestricted`: without it, whoever is sent to before it sends gets another port.
    let is_offered = pair.remote.typ == RTCIceCandidateType::Srflx && end == *offered;
    let may_move = site.nat == Some(Nat::Masquerade) && end.ip() == site.public;
    ensure!(is_offered || may_move, "{offered} was offered: {pair}");
    Ok(end)
}

/// The places that a datagram passes, in order, and how many routers are before each.
const PLACES: [(&str, u8); 4] = [
    ("from the sender", 0),
    ("out of its site", 1),
    ("into the other site", 2),
    ("to the receiver", 3),
];

/// Fails unless what went from one site to the other was marked as its class is, and changed on the way as a NAT changes
/// it and in no other way. Shows one datagram of each class.
fn one_way(
    number: usize,
    [sender, receiver]: [&Passed; 2],
    [from, to]: [SocketAddr; 2],
    end: SystemTime,
) -> Result<()> {
    let class_marking = |_: &Packet, class| marking(number, 0, class);
    let sent = sent_after(
        &sender.inside.packets,
        sender.address,
        SystemTime::UNIX_EPOCH,
    );
    all_comply(sent, class_marking, class_marking)?;

    let captures = [
        &sender.inside,
        &sender.outside,
        &receiver.outside,
        &receiver.inside,
    ];
    let directions = [
        Direction::Outgoing,
        Direction::Outgoing,
        Direction::Incoming,
        Direction::Incoming,
    ];
    // The identification stays, too, and with it each datagram has one name.
    let places: Vec<HashMap<_, _>> = captures
        .into_iter()
        .zip(directions)
        .map(|(capture, direction)| {
            let packets = capture.packets.iter();
            packets
                .filter(|packet| packet.direction == direction && packet.udp.is_some())
                .map(|packet| ((&packet.payload, packet.identification), packet))
                .collect()
        })
        .collect();
    let mut shown = String::new();
    let mut whole_ways = Vec::new();
    let arrived = |last: &&Packet| last.source == from && last.at < end;
    for (name, last) in places[3].iter().filter(|(_, last)| arrived(last)) {
        let way: Vec<_> = places.iter().filter_map(|place| place.get(name)).collect();
        ensure!(way.len() == PLACES.len(), "nobody sent {last}");
        let first = way[0];
        for (packet, (place, routers)) in way.iter().zip(PLACES) {
            let header = |packet: &Packet, routers| (packet.ttl + routers, packet.tos, packet.df);
            let is_same = header(packet, routers) == header(first, 0)
                && packet.source == if routers == 0 { first.source } else { from }
                && packet.destination == if routers == 3 { last.destination } else { to };
            ensure!(is_same, "{place}: {first} became {packet}");
        }
        let inside = [
            (first.source, sender, from),
            (last.destination, receiver, to),
        ];
        for (address, site, public) in inside {
            ensure!(address.ip() == site.address, "{address}");
            ensure!(
                (address != public) == site.nat.is_some(),
                "{address}, {public}"
            );
        }
        whole_ways.push((*first).clone());
        if shown.is_empty() && class_of(first) == Some(PacketClass::Srtp) {
            for (packet, (place, _)) in way.iter().zip(PLACES) {
                writeln!(shown, "{place:<20} {packet}")?;
            }
        }
    }
    println!("{shown}");
    let counts = count(whole_ways.iter());
    ensure!(counts.iter().all(|count| *count >= ENOUGH), "{counts:?}");
    Ok(())
}
