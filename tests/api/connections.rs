//! How many connections there may be, and for how long one may say nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Node, until};

use super::scene::Scene;
use crate::support::connection::DEADLINE;
use crate::support::hosts::Family;

pub(crate) fn bounded() -> Result<()> {
    let scene = Scene::with(Family::V4, |server| server.connections(5, 3))?;
    let [near, far] = [0, 1].map(|side| scene.hosts.sides[side].node.clone());
    let connect = |node: &Node| node.run(|| TcpStream::connect(scene.address));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(answered(connect(&near)?)?);
    }
    ensure!(is_refused(connect(&near)?), "a fourth of one address");
    // The server's own host has another address.
    for _ in 0..2 {
        open.push(answered(connect(&far)?)?);
    }
    ensure!(is_refused(connect(&far)?), "a sixth in all");
    drop(open);
    until(
        DEADLINE,
        || "room again".to_owned(),
        || Ok(connect(&near).ok().and_then(|stream| answered(stream).ok())),
    )?;
    Ok(())
}

/// A connection that is open, and stays so.
fn answered(mut stream: TcpStream) -> Result<TcpStream> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: lab\r\n\r\n")?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut part = [0; 1_024];
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "it is closed");
        answer.extend(&part[..length]);
    }
    Ok(stream)
}

fn is_refused(stream: TcpStream) -> bool {
    answered(stream).is_err()
}

/// Whoever says nothing, or begins a request that does not end, is not waited for.
pub(crate) fn silent() -> Result<()> {
    const BEGUN: [(&str, &str); 5] = [
        ("", ""),
        ("GET / HT", ""),
        // What HTTP/2 begins with.
        ("PRI * HTTP/2.0\r\n", ""),
        (
            "POST /whip HTTP/1.1\r\nhost: lab\r\ncontent-type: application/sdp\r\ncontent-length: 100\r\n\r\nv=0",
            "408 Request Timeout",
        ),
        (
            "POST /whip HTTP/1.1\r\nhost: lab\r\ncontent-type: application/sdp\r\ntransfer-encoding: chunked\r\n\r\n3\r\nv=0\r\n",
            "408 Request Timeout",
        ),
    ];
    let scene = Scene::new(Family::V4)?;
    let (node, address) = (&scene.hosts.sides[0].node, scene.address);
    thread::scope(|scope| {
        let waiting = BEGUN.map(|(begun, expected)| {
            scope.spawn(move || {
                let answer = all_of(node, address, begun)?;
                ensure!(answer.contains(expected), "{begun:?}: {answer}");
                Ok(())
            })
        });
        for waiting in waiting {
            waiting.join().expect("it does not panic")?;
        }
        Ok(())
    })
}

/// What is answered until the connection is closed.
fn all_of(node: &Node, address: SocketAddr, begun: &str) -> Result<String> {
    let mut stream = node.run(|| TcpStream::connect(address))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(begun.as_bytes())?;
    let mut answer = String::new();
    let closed = stream.read_to_string(&mut answer);
    closed.with_context(|| format!("{begun:?} is waited for"))?;
    Ok(answer)
}
