//! A STUN and TURN server in the lab: coturn, from Debian's package of that name.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use perpacket_lab::{Node, Process, require_program, until};
use webrtc::ice_transport::ice_server::RTCIceServer;

use super::connection::DEADLINE;

/// The registered port of STUN and TURN over UDP.
const PORT: u16 = 3478;

const USER: &str = "lab";
const PASSWORD: &str = "secret";

/// A server that runs until this is dropped.
///
/// What version 4.6.1, Debian 12's, does with the IPv4 header of what it relays, either way, by indication or by channel
/// (`tests/relay.rs` checks it):
///
/// - TOS: DSCP and ECN are copied.
/// - TTL: 64, the system's own, whatever it was.
/// - DF: set, as Linux does by itself, whatever it was. A DONT-FRAGMENT attribute sets it where Linux does not.
pub(crate) struct Coturn {
    /// Before the folder that it writes to.
    _process: Process,
    _folder: Folder,
    pub(crate) address: SocketAddr,
}

impl Coturn {
    /// Starts one at an address of a node, and waits until it answers.
    pub(crate) fn start(node: &Node, address: IpAddr) -> Result<Self> {
        let program = require_program(
            "turnserver",
            "sh tests/install.sh, or apt-get install coturn",
        )?;
        let folder = Folder::new()?;
        let log = folder.0.join("log");
        let output = fs::File::create(&log)?;
        let mut command = Command::new(program);
        command
            .current_dir(&folder.0)
            .args(["-n", "--log-file", "stdout", "--simple-log", "--no-cli"])
            .args([
                "--no-tls",
                "--no-dtls",
                "--no-tcp",
                "--no-tcp-relay",
                "--no-rfc5780",
            ])
            .args([
                "--lt-cred-mech",
                "--realm",
                "lab",
                "--user",
                &format!("{USER}:{PASSWORD}"),
            ])
            .args([
                "--relay-threads",
                "1",
                "--listening-port",
                &PORT.to_string(),
            ])
            .args([
                "--listening-ip",
                &address.to_string(),
                "--relay-ip",
                &address.to_string(),
            ])
            .arg("--pidfile")
            .arg(folder.0.join("pid"))
            .arg("--db")
            .arg(folder.0.join("db"))
            .stdout(output.try_clone()?)
            .stderr(output);
        let server = Self {
            _process: node.spawn(&mut command)?,
            _folder: folder,
            address: (address, PORT).into(),
        };
        let answers = node.run(|| server.wait_until_it_answers(address));
        answers.with_context(|| fs::read_to_string(log).unwrap_or_default())?;
        Ok(server)
    }

    fn wait_until_it_answers(&self, from: IpAddr) -> Result<()> {
        // A Binding request (RFC 8489 §5) without attributes.
        const REQUEST: &[u8; 20] = b"\x00\x01\x00\x00\x21\x12\xa4\x42is it there?";
        let socket = UdpSocket::bind((from, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.connect(self.address)?;
        let asked = || {
            // Refused while nobody listens.
            let _ = socket.send(REQUEST);
            let mut answer = [0; 500];
            let length = socket.recv(&mut answer).unwrap_or(0);
            let is_answer =
                answer[..length].starts_with(b"\x01\x01") && answer[8..20] == REQUEST[8..];
            Ok(is_answer.then_some(()))
        };
        Ok(until(DEADLINE, || "coturn's answer".to_owned(), asked)?)
    }

    /// As a TURN server, with credentials. webrtc-rs asks it for server-reflexive addresses too.
    pub(crate) fn turn(&self) -> RTCIceServer {
        RTCIceServer {
            urls: vec![format!("turn:{}?transport=udp", self.address)],
            username: USER.to_owned(),
            credential: PASSWORD.to_owned(),
        }
    }

    /// As a STUN server.
    pub(crate) fn stun(&self) -> RTCIceServer {
        RTCIceServer {
            urls: vec![format!("stun:{}", self.address)],
            ..RTCIceServer::default()
        }
    }
}

/// A folder that only its owner may enter, and that goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("perpacket-coturn-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's folder for what is left.
        let _ = fs::remove_dir_all(&self.0);
    }
}
