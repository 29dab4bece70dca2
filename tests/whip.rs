//! The WHIP server of `perpacket-server` on one host of the lab, and on another a client whose peer connection is
//! stock webrtc-rs.

mod support;
mod whip {
    pub(crate) mod channels;
    pub(crate) mod client;
    pub(crate) mod http;
    pub(crate) mod server;
}

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CONTENT_TYPE, ETAG, LINK, LOCATION, RETRY_AFTER,
};
use hyper::{Method, Response, StatusCode};
use perpacket_lab::{Test, until};
use perpacket_server::SessionsBuilder;
use perpacket_webrtc::PacketClass;
use tokio::time::timeout;
use webrtc::ice_transport::ice_server::RTCIceServer;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;

use support::connection::DEADLINE;
use support::hosts::{Family, Hosts};
use whip::channels;
use whip::client::{Client, Offer};
use whip::http;
use whip::server::{Server, Sockets};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("errors_say_what_is_wrong", errors),
        ("web_pages_may_call", web_pages_may_call),
        ("ice_servers_are_advertised", ice_servers_are_advertised),
        ("messages_come_back_v4", || {
            messages(Family::V4, Sockets::Own)
        }),
        ("messages_come_back_v6", || {
            messages(Family::V6, Sockets::Own)
        }),
        ("messages_come_back_on_a_mux_v4", || {
            messages(Family::V4, Sockets::Mux)
        }),
        ("messages_come_back_on_a_mux_v6", || {
            messages(Family::V6, Sockets::Mux)
        }),
        ("media_comes_back_v4", || media(Family::V4, Sockets::Own)),
        ("media_comes_back_v6", || media(Family::V6, Sockets::Own)),
        ("media_comes_back_on_a_mux_v4", || {
            media(Family::V4, Sockets::Mux)
        }),
        ("media_comes_back_on_a_mux_v6", || {
            media(Family::V6, Sockets::Mux)
        }),
        ("who_does_not_read_has_to_wait", who_does_not_read),
        ("a_session_ends_with_too_many_channels", channels::too_many),
        ("reports_are_resumed", channels::reports_are_resumed),
        ("a_session_ends_when_its_peer_closes", peer_closes),
        ("a_session_that_does_not_connect_ends", never_connects),
        ("there_are_no_more_than_may_be", limit),
        ("one_address_has_no_more_than_it_may", limit_of_address),
        ("shutdown_leaves_nothing_behind", || shutdown(Sockets::Own)),
        ("shutdown_leaves_nothing_behind_on_a_mux", || {
            shutdown(Sockets::Mux)
        }),
    ];
    perpacket_lab::main(tests)
}

/// A client's host, and the server's.
pub(crate) fn start(
    family: Family,
    sockets: Sockets,
    configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
) -> Result<(Hosts, Server)> {
    let hosts = Hosts::new(family)?;
    let server = Server::start(&hosts.sides[1], sockets, configure)?;
    Ok((hosts, server))
}

/// What a client on the left host says to the server, and hears.
fn ask(
    hosts: &Hosts,
    server: &Server,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Response<String>> {
    let request = http::request(server.address, method, path, headers, body.to_owned());
    hosts.sides[0].runtime.block_on(request)
}

fn errors() -> Result<()> {
    const SDP: (&str, &str) = ("content-type", "application/sdp");
    let (hosts, server) = start(Family::V4, Sockets::Own, |sessions| sessions)?;
    let offer = Offer::messages();
    let good = hosts.sides[0]
        .runtime
        .block_on(Client::offer(&hosts.sides[0], &offer))?;
    let without = |attribute: &str| -> String {
        let lines = good.split_inclusive('\n');
        lines.filter(|line| !line.starts_with(attribute)).collect()
    };
    let (no_media, _) = good.split_once("m=").context("no media section")?;
    let candidate = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
    let many_candidates = format!("{}{}", without("a=candidate"), candidate.repeat(200));
    // The parser takes white space for nothing.
    let spaced_candidates = many_candidates.replace("a=candidate", "a= \tcandidate");
    let many_sections = format!("{good}{}", "m=audio 9 RTP/AVP 0\r\n".repeat(100));
    let media = |types: &str| format!("{good}m=audio 9 UDP/TLS/RTP/SAVPF{types}\r\n");
    let many_types = media(&" 1".repeat(16_000));
    let many_attributes = format!("{}{}", media(" 1"), "a=rtcp-fb:1 a\r\n".repeat(2_000));
    let post = |header, body: &str| (Method::POST, "/whip", header, body.to_owned());
    let plain = ("content-type", "text/plain");
    let cases = [
        (post(("accept", "*/*"), &good), 415, "application/sdp"),
        (post(plain, &good), 415, "application/sdp"),
        (post(SDP, ""), 400, "the offer cannot be used"),
        (post(SDP, "what is this?"), 400, "what is this?"),
        (post(SDP, &without("a=ice-ufrag")), 400, "ufrag"),
        (post(SDP, &without("a=fingerprint")), 400, "fingerprint"),
        (post(SDP, no_media), 422, "neither"),
        (post(SDP, &many_candidates), 400, "200 candidates"),
        (post(SDP, &spaced_candidates), 400, "200 candidates"),
        (post(SDP, &many_sections), 400, "media sections"),
        (post(SDP, &many_types), 400, "16000 payload types"),
        (post(SDP, &many_attributes), 400, "2000 attributes"),
        (post(SDP, &"v=0\r\n".repeat(20_000)), 413, "65536 bytes"),
        ((Method::GET, "/whip", SDP, String::new()), 405, "GET"),
        ((Method::PUT, "/whip", SDP, String::new()), 405, "PUT"),
        ((Method::PATCH, "/whip/1", SDP, String::new()), 405, "PATCH"),
        (
            (Method::DELETE, "/whip/1", SDP, String::new()),
            404,
            "no such session",
        ),
    ];
    for ((method, path, header, body), status, word) in cases {
        let answer = ask(&hosts, &server, method.clone(), path, &[header], &body)?;
        http::problem(&answer, StatusCode::from_u16(status)?, word)
            .with_context(|| format!("{method} {path} {header:?} {body:.40}"))?;
    }
    let answer = ask(&hosts, &server, Method::GET, "/whip", &[], "")?;
    ensure!(http::header(&answer, ALLOW)? == "POST", "{answer:?}");
    ensure!(server.sessions.list().is_empty());
    ensure!(
        hosts.sides[1].udp_ports()?.is_empty(),
        "a refused offer leaves sockets behind"
    );
    Ok(())
}

fn web_pages_may_call() -> Result<()> {
    let (hosts, server) = start(Family::V6, Sockets::Own, |sessions| sessions)?;
    let preflight = |path, method| {
        let headers = [
            ("origin", "http://page.test"),
            ("access-control-request-method", method),
            ("access-control-request-headers", "content-type"),
        ];
        ask(&hosts, &server, Method::OPTIONS, path, &headers, "")
    };
    for (path, method) in [("/whip", "POST"), ("/whip/1", "DELETE")] {
        let answer = preflight(path, method)?;
        ensure!(answer.status() == StatusCode::OK, "{answer:?}");
        ensure!(http::header(&answer, ACCESS_CONTROL_ALLOW_ORIGIN)? == "*");
        ensure!(http::header(&answer, ACCESS_CONTROL_ALLOW_METHODS)?.contains(method));
        ensure!(http::header(&answer, ACCESS_CONTROL_ALLOW_HEADERS)?.contains("content-type"));
    }
    let answer = ask(&hosts, &server, Method::OPTIONS, "/whip", &[], "")?;
    ensure!(http::header(&answer, "accept-post")? == "application/sdp");

    let page = ("origin", "http://page.test");
    let answer = ask(&hosts, &server, Method::POST, "/whip", &[page], "")?;
    ensure!(http::header(&answer, ACCESS_CONTROL_ALLOW_ORIGIN)? == "*");
    let exposed = http::header(&answer, ACCESS_CONTROL_EXPOSE_HEADERS)?;
    for name in ["location", "etag", "link", "retry-after"] {
        ensure!(exposed.contains(name), "{name} is not in {exposed}");
    }
    Ok(())
}

fn ice_servers_are_advertised() -> Result<()> {
    // Nobody is there: the answer comes when its time is up, with the candidates of the host.
    let servers = vec![
        RTCIceServer {
            urls: vec!["stun:10.0.1.1:3478".to_owned()],
            ..RTCIceServer::default()
        },
        RTCIceServer {
            urls: vec!["turn:10.0.1.1:3478?transport=udp".to_owned()],
            username: "user".to_owned(),
            credential: r#"pass"word"#.to_owned(),
        },
    ];
    let (hosts, server) = start(Family::V4, Sockets::Own, |sessions| {
        sessions
            .ice_servers(servers)
            .gather_timeout(Duration::from_millis(100))
    })?;
    let mut client = Client::connect(&hosts.sides[0], &server, &Offer::messages())?;
    let links: Vec<_> = client.created.headers().get_all(LINK).iter().collect();
    let turn = concat!(
        "<turn:10.0.1.1:3478?transport=udp>; rel=\"ice-server\"; ",
        r#"username="user"; credential="pass\"word"; credential-type="password""#,
    );
    ensure!(
        links == ["<stun:10.0.1.1:3478>; rel=\"ice-server\"", turn],
        "{links:?}"
    );
    client.echo("hello")?;
    ensure!(client.delete()?.status() == StatusCode::OK);
    Ok(())
}

fn messages(family: Family, sockets: Sockets) -> Result<()> {
    let (hosts, server) = start(family, sockets, |sessions| sessions)?;
    let mut client = Client::connect(&hosts.sides[0], &server, &Offer::messages())?;
    let created = &client.created;
    ensure!(http::header(created, CONTENT_TYPE)? == "application/sdp");
    let location = http::header(created, LOCATION)?.to_owned();
    let id = location.strip_prefix("/whip/").context("another path")?;
    let random = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(random, "who could not guess {id}?");
    ensure!(http::header(created, ETAG)?.starts_with('"'), "{created:?}");
    // A mux on the unspecified address offers all that the host has.
    let address = match sockets {
        Sockets::Own => hosts.sides[1].address.to_string(),
        Sockets::Mux => String::new(),
    };
    for line in created
        .body()
        .lines()
        .filter(|l| l.starts_with("a=candidate"))
    {
        ensure!(line.contains(&format!(" {address}")), "{line}");
    }
    ensure!(created.body().contains("a=candidate"), "{created:?}");
    // Some clients fail at it.
    let says_so = created.body().contains("a=end-of-candidates");
    ensure!(!says_so, "{created:?}");

    for length in [1, 1_000, 1_200, 16_384, 65_535] {
        let text = "é".repeat(length / 2) + "!";
        client.echo(&text)?;
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        client.echo_bytes(&bytes)?;
    }
    let list = server.sessions.list();
    let [session] = &*list else {
        anyhow::bail!("{list:?}");
    };
    ensure!(session.id.as_str() == id, "{session:?}");
    ensure!(
        session.client == Some(hosts.sides[0].address),
        "{session:?}"
    );
    ensure!(
        session.state == RTCPeerConnectionState::Connected,
        "{session:?}"
    );
    let total = session.session.total();
    ensure!(total.class(PacketClass::Dtls).received > 20, "{total:?}");
    drop(list);

    ensure!(client.delete()?.status() == StatusCode::OK);
    server.is_empty(&hosts.sides[1])?;
    http::problem(&client.delete()?, StatusCode::NOT_FOUND, "no such session")
}

fn media(family: Family, sockets: Sockets) -> Result<()> {
    let (hosts, server) = start(family, sockets, |sessions| sessions)?;
    let mut client = Client::connect(&hosts.sides[0], &server, &Offer::everything())?;
    client.echo("hello")?;
    client.media_comes_back()?;
    client.key_frames_are_asked_for()?;
    ensure!(client.delete()?.status() == StatusCode::OK);
    server.is_empty(&hosts.sides[1])
}

fn who_does_not_read() -> Result<()> {
    // More than all buffers on the way and back hold: SCTP's for receiving have 1 MiB at each end.
    let messages: Vec<_> = (0..160_u8)
        .map(|number| Bytes::from(vec![number; 50_000]))
        .collect();
    let (hosts, server) = start(Family::V4, Sockets::Own, |sessions| sessions)?;
    let client = Client::connect(&hosts.sides[0], &server, &Offer::messages())?;
    let _unread = client.flood(&messages)?;
    ensure!(client.delete()?.status() == StatusCode::OK);
    server.is_empty(&hosts.sides[1])
}

fn peer_closes() -> Result<()> {
    let (hosts, server) = start(Family::V4, Sockets::Own, |sessions| {
        sessions.silence_timeout(Duration::from_secs(6))
    })?;
    let mut client = Client::connect(&hosts.sides[0], &server, &Offer::everything())?;
    client.echo("hello")?;
    client.close()?;
    server.is_empty(&hosts.sides[1])
}

fn never_connects() -> Result<()> {
    let (hosts, server) = start(Family::V4, Sockets::Own, |sessions| {
        sessions
            .connect_timeout(Duration::from_millis(500))
            .silence_timeout(Duration::from_mins(10))
    })?;
    let side = &hosts.sides[0];
    let offer = side
        .runtime
        .block_on(Client::offer(side, &Offer::everything()))?;
    let headers = [("content-type", "application/sdp; charset=utf-8")];
    let answer = ask(&hosts, &server, Method::POST, "/whip", &headers, &offer)?;
    ensure!(answer.status() == StatusCode::CREATED, "{answer:?}");
    ensure!(server.sessions.list().len() == 1);
    server.is_empty(&hosts.sides[1])
}

fn limit() -> Result<()> {
    let (hosts, server) = start(Family::V4, Sockets::Own, |sessions| sessions.limit(2))?;
    let offer = Offer::messages();
    let mut clients = [
        Client::connect(&hosts.sides[0], &server, &offer)?,
        Client::connect(&hosts.sides[0], &server, &offer)?,
    ];
    ensure!(clients[0].location()? != clients[1].location()?);
    let side = &hosts.sides[0];
    let third = side.runtime.block_on(Client::offer(side, &offer))?;
    let headers = [("content-type", "application/sdp")];
    let post = || ask(&hosts, &server, Method::POST, "/whip", &headers, &third);
    let answer = post()?;
    http::problem(&answer, StatusCode::SERVICE_UNAVAILABLE, "2 sessions")?;
    let seconds: u32 = http::header(&answer, RETRY_AFTER)?.parse()?;
    ensure!(seconds > 0);
    for client in &mut clients {
        client.echo("still here")?;
    }
    // There is room as soon as the answer to DELETE is there.
    ensure!(clients[0].delete()?.status() == StatusCode::OK);
    ensure!(post()?.status() == StatusCode::CREATED);
    clients[1].echo("still here")
}

fn limit_of_address() -> Result<()> {
    let (hosts, server) = start(Family::V4, Sockets::Own, |sessions| {
        sessions.limit_of_address(1)
    })?;
    let offer = Offer::messages();
    let client = Client::connect(&hosts.sides[0], &server, &offer)?;
    let from = |side: usize| {
        let side = &hosts.sides[side];
        let offer = side.runtime.block_on(Client::offer(side, &offer))?;
        let headers = [("content-type", "application/sdp")];
        let answer = http::request(server.address, Method::POST, "/whip", &headers, offer);
        side.runtime.block_on(answer)
    };
    http::problem(&from(0)?, StatusCode::SERVICE_UNAVAILABLE, "this address")?;
    // The server's own host has another.
    ensure!(from(1)?.status() == StatusCode::CREATED);
    ensure!(client.delete()?.status() == StatusCode::OK);
    ensure!(from(0)?.status() == StatusCode::CREATED);
    Ok(())
}

fn shutdown(sockets: Sockets) -> Result<()> {
    let (hosts, server) = start(Family::V6, sockets, |sessions| sessions)?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = Client::connect(&hosts.sides[0], &server, &Offer::everything())?;
        clients.push(client);
    }
    for client in &mut clients {
        client.echo("hello")?;
    }
    let addresses: HashSet<SocketAddr> = server.sockets();
    let expected = match sockets {
        Sockets::Own => 3,
        Sockets::Mux => 1,
    };
    ensure!(addresses.len() == expected, "{addresses:?}");
    let begun = Instant::now();
    let close = async { timeout(DEADLINE, server.sessions.close_all()).await };
    hosts.sides[1].runtime.block_on(close)?;
    println!(
        "{} sessions closed in {:.1?}",
        clients.len(),
        begun.elapsed()
    );
    ensure!(server.sessions.list().is_empty());
    server.is_empty(&hosts.sides[1])?;
    let side = &hosts.sides[0];
    let late = side
        .runtime
        .block_on(Client::offer(side, &Offer::messages()))?;
    let headers = [("content-type", "application/sdp")];
    let answer = ask(&hosts, &server, Method::POST, "/whip", &headers, &late)?;
    http::problem(&answer, StatusCode::SERVICE_UNAVAILABLE, "shutting down")?;
    until(
        DEADLINE,
        || "the clients to notice".to_owned(),
        || Ok(clients.iter().all(Client::has_lost_its_peer).then_some(())),
    )?;
    Ok(())
}
