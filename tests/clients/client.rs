//! What a client does, and what it says of itself.

use std::fmt;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use perpacket_lab::{Node, until};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::browser::{CHROMIUM, FIREFOX};
use super::home::Home;
use super::page::Page;
use super::program::Program;
use crate::support::connection::DEADLINE;

/// The clients that are tried. A browser hides its addresses from a page that has not asked for the camera.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Chromium,
    ChromiumWithCamera,
    Firefox,
    FirefoxWithCamera,
    Aiortc,
    NodeDatachannel,
    Werift,
    Wrtc,
}

impl Kind {
    /// Whether it puts names of mDNS into its offer, not addresses.
    pub(crate) fn hides(self) -> bool {
        matches!(self, Self::Chromium | Self::Firefox)
    }

    /// How large a STUN message it answers, bytes. `None`: whatever the path here carries.
    pub(crate) fn reads(self) -> Option<usize> {
        match self {
            Self::Firefox | Self::FirefoxWithCamera => Some(2048),
            Self::NodeDatachannel => Some(4096),
            Self::Chromium
            | Self::ChromiumWithCamera
            | Self::Aiortc
            | Self::Werift
            | Self::Wrtc => None,
        }
    }
}

/// A client, in a node that it has for itself.
pub(crate) struct Client {
    inner: Inner,
    // Dropped last: what is still there then goes with it.
    home: Home,
}

enum Inner {
    Page(Page),
    Program(Program),
}

/// What a client is.
#[derive(Deserialize)]
struct Versions {
    client: String,
    on: String,
}

/// How a client is.
#[derive(Clone, Deserialize)]
pub(crate) struct Status {
    /// How many messages have come back.
    pub(crate) echoed: u64,
    /// The longest that one of them took, or has been taking.
    pub(crate) slowest_ms: u64,
    /// All states of ICE so far.
    pub(crate) ice: Vec<String>,
    /// Whether names stood in its offer for its addresses.
    #[serde(default)]
    pub(crate) hides: bool,
    pub(crate) pair: Pair,
    media: Media,
}

/// The selected pair of candidates.
#[derive(Clone, Deserialize)]
pub(crate) struct Pair {
    pub(crate) local: Candidate,
    pub(crate) remote: Candidate,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Candidate {
    #[serde(rename = "type")]
    kind: String,
    /// Not there where the client hides it.
    #[serde(default)]
    address: Option<String>,
}

impl Candidate {
    /// Whether it has this address, or none that it shows.
    pub(crate) fn may_be(&self, address: IpAddr) -> bool {
        let shown = self.address.as_deref().unwrap_or_default();
        shown.is_empty() || shown.trim_matches(['[', ']']).parse() == Ok(address)
    }
}

/// How much has come back, in packets or frames.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct Media {
    audio: u64,
    video: u64,
}

impl Client {
    pub(crate) fn start(kind: Kind, node: &Node) -> Result<Self> {
        let home = Home::of(node);
        let inner = match kind {
            Kind::Chromium => Inner::Page(Page::start(node, &CHROMIUM, false)?),
            Kind::ChromiumWithCamera => Inner::Page(Page::start(node, &CHROMIUM, true)?),
            Kind::Firefox => Inner::Page(Page::start(node, &FIREFOX, false)?),
            Kind::FirefoxWithCamera => Inner::Page(Page::start(node, &FIREFOX, true)?),
            Kind::Aiortc => Inner::Program(Program::python(node, "aiortc_client")?),
            Kind::NodeDatachannel => Inner::Program(Program::node(node, "node_datachannel")?),
            Kind::Werift => Inner::Program(Program::node(node, "werift")?),
            Kind::Wrtc => Inner::Program(Program::node(node, "wrtc")?),
        };
        Ok(Self { inner, home })
    }

    /// What it is, with versions.
    pub(crate) fn versions(&mut self) -> Result<String> {
        let Versions { client, on } = self.command("versions")?;
        Ok(format!("{client} ({on})"))
    }

    /// Connects by WHIP, and returns when messages can be sent.
    pub(crate) fn connect(&mut self, url: &str) -> Result<Status> {
        self.command(&format!("connect {url}"))
    }

    /// Sends this many messages and compares what comes back.
    pub(crate) fn messages(&mut self, count: u32) -> Result<()> {
        let done: Value = self.command(&format!("messages {count}"))?;
        ensure!(done["messages"] == count, "{done}");
        Ok(())
    }

    /// Waits until messages, audio and video have come back since an earlier status.
    pub(crate) fn status_beyond(&mut self, earlier: &Status) -> Result<Status> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status: Status = self.command("status")?;
            if status.echoed > earlier.echoed
                && status.media.audio > earlier.media.audio
                && status.media.video > earlier.media.video
            {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "{status} is as {earlier}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the session and the client, and fails unless everything that belongs to it ends.
    pub(crate) fn close(mut self) -> Result<()> {
        let done: Value = self.command("close")?;
        ensure!(done["closed"] == true, "{done}");
        let Self { inner, home } = self;
        match inner {
            Inner::Page(page) => page.quit()?,
            Inner::Program(program) => program.ended()?,
        }
        until(
            DEADLINE,
            || format!("the end of {:?}", home.inhabitants()),
            || Ok(home.inhabitants().is_empty().then_some(())),
        )?;
        Ok(())
    }

    fn command<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        let answer = match &mut self.inner {
            Inner::Page(page) => page.command(line)?,
            Inner::Program(program) => program.command(line)?,
        };
        if let Some(error) = answer.get("error") {
            bail!("{error:#}");
        }
        T::deserialize(&answer).with_context(|| format!("{line}: {answer}"))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            echoed,
            slowest_ms,
            ice,
            hides,
            pair,
            media: Media { audio, video },
        } = self;
        let hidden = if *hides { ", addresses hidden" } else { "" };
        write!(
            f,
            "{} to {}{hidden}, ICE {}, {echoed} messages back, the slowest after {slowest_ms} ms, \
             {audio} audio, {video} video",
            pair.local,
            pair.remote,
            ice.join(" ")
        )
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.as_deref().filter(|shown| !shown.is_empty());
        write!(f, "{} {}", self.kind, address.unwrap_or("(unknown)"))
    }
}
