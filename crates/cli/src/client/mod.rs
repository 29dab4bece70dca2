//! A session with somebody's server.

mod channel;
mod link;
mod lost;
mod mux;
mod peer;
mod signalling;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use perpacket_path::{TOS_REPORT_LABEL, TosReports};
use perpacket_webrtc::{CustomMux, CustomNet, Probe, Prober, Session};
use tokio::{sync::watch, time::timeout};
use url::Url;
use webrtc::peer_connection::{
    peer_connection_state::RTCPeerConnectionState, sdp::session_description::RTCSessionDescription,
};

pub(crate) use self::channel::{Channel, Load};
use self::{
    peer::Peer,
    signalling::{Created, Signalling},
};
use crate::{args::Join, interrupt::Interrupt, output::progress::Waiting};

/// How long an answer is waited for after Ctrl-C, because without it the session cannot be ended.
const GRACE: Duration = Duration::from_secs(2);

/// How long the closing of what is left may take.
const CLOSING: Duration = Duration::from_secs(2);

/// How long it may take until the server reports, and how long a report may take.
const REPORTS: Duration = Duration::from_secs(1);
const REPORT: Duration = Duration::from_millis(100);

const INTERRUPTED: &str = "interrupted before there was a session";

/// A session with a server that somebody else runs.
pub(crate) struct Client {
    /// Its options and counters.
    pub(crate) session: Session,
    /// How long it took, from the first word over HTTP.
    pub(crate) took: Duration,
    /// Where the session is at the server.
    pub(crate) resource: Option<Url>,
    /// What the server may send back on, unless none is wanted.
    pub(crate) channel: Option<Channel>,
    /// Whether the server has closed that.
    closed: Option<watch::Receiver<bool>>,
    mux: CustomMux,
    signalling: Signalling,
    peer: Peer,
}

impl Client {
    /// Joins. What has begun is ended where it fails, or is interrupted.
    pub(crate) async fn join(args: &Join, interrupt: &mut Interrupt) -> Result<Self> {
        let _waiting = Waiting::new(format!("joining {}", args.url));
        let begun = Instant::now();
        let signalling = Signalling::new(args)?;
        let endpoint = tokio::select! {
            endpoint = signalling.ask() => endpoint?,
            () = interrupt.asked() => bail!(INTERRUPTED),
        };
        let mux = tokio::select! {
            mux = mux::bind(args, &endpoint) => mux?,
            () = interrupt.asked() => bail!(INTERRUPTED),
        };
        let session = mux.net().session("perpacket");
        let mux = mux.for_session(&session);
        let mut client = Self {
            peer: Peer::new(&mux).await?,
            took: Duration::ZERO,
            resource: None,
            channel: None,
            closed: None,
            session,
            mux,
            signalling,
        };
        match client.connect(args, interrupt).await {
            Ok(()) => {
                client.took = begun.elapsed();
                Ok(client)
            }
            Err(error) => {
                client.leave().await;
                Err(error)
            }
        }
    }

    /// Asks on the media's 5-tuple.
    pub(crate) async fn prober(&self) -> Result<Arc<Prober>> {
        let prober = Prober::new(&self.session, &self.peer.connection).await?;
        Ok(Arc::new(prober))
    }

    /// What was joined.
    pub(crate) fn url(&self) -> &Url {
        self.signalling.url()
    }

    /// What its packets' options come from.
    pub(crate) fn net(&self) -> &CustomNet {
        self.mux.net()
    }

    /// The addresses, here and there, between which ICE has chosen to send.
    pub(crate) async fn pair(&self) -> (String, String) {
        let transport = self.peer.connection.sctp().transport();
        let pair = transport.ice_transport().get_selected_candidate_pair();
        let Some(pair) = pair.await else {
            return ("?".to_owned(), "?".to_owned());
        };
        let [local, remote] = [pair.local, pair.remote]
            .map(|candidate| endpoint(&candidate.address, &candidate.port.to_string()));
        (local, remote)
    }

    /// What the server says about the marks of what it receives: nothing, unless it runs perpacket too.
    pub(crate) async fn tos_reports(&self, prober: &Prober) -> Result<TosReports> {
        let reports = TosReports::new();
        if self.channel.is_none() {
            return Ok(reports);
        }
        let connection = &self.peer.connection;
        let channel = connection
            .create_data_channel(TOS_REPORT_LABEL, None)
            .await?;
        let to = reports.clone();
        channel.on_message(Box::new(move |message| {
            to.receive(&message.data);
            Box::pin(async {})
        }));
        // Only a first report tells that the server has the channel. Without any there is everything else.
        let begun = Instant::now();
        while begun.elapsed() < REPORTS {
            let probe = Probe::new().with_timeout(REPORTS);
            let id = prober.probe(probe).await?.transaction_id;
            tokio::time::sleep(REPORT).await;
            if reports.get(&id).is_some() {
                break;
            }
        }
        Ok(reports)
    }

    /// Returns once the connection is lost.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + use<> {
        let mut state = self.peer.state.clone();
        let closed = self.closed.clone();
        let (session, connection) = (self.session.clone(), Arc::clone(&self.peer.connection));
        async move {
            tokio::select! {
                // An error says that there is no connection any more.
                _ = state.wait_for(|state| has_ended(*state)) => {}
                () = lost::gone(closed, session, connection) => {}
            }
        }
    }

    /// Ends the session, here and at the server.
    pub(crate) async fn leave(self) {
        if let Some(resource) = &self.resource
            && let Err(error) = self.signalling.delete(resource).await
        {
            eprintln!("Warning: the server may still have the session: {error:#}");
        }
        let closing = async {
            self.peer.close().await;
            self.mux.close().await;
        };
        // The process ends next, and takes along what does not close.
        let _ = timeout(CLOSING, closing).await;
    }

    async fn connect(&mut self, args: &Join, interrupt: &mut Interrupt) -> Result<()> {
        if !args.media_only {
            let channel = Channel::new(&self.peer.connection).await?;
            self.closed = Some(channel.closed());
            self.channel = Some(channel);
        }
        if args.whep {
            self.peer.receive_media().await?;
        } else {
            self.peer.send_silence().await?;
        }
        let offer = self.mux.complete(&self.peer.offer().await?);
        if interrupt.is_asked() {
            bail!(INTERRUPTED);
        }
        let Created { answer, resource } = {
            let posted = self.signalling.post(offer);
            let interrupted = async {
                interrupt.asked().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! {
                created = posted => created?,
                () = interrupted => bail!(INTERRUPTED),
            }
        };
        self.resource = resource;
        if !takes_data(&answer) {
            (self.channel, self.closed) = (None, None);
        }
        let candidates = candidates(&answer);
        let answer = RTCSessionDescription::answer(answer).context("the answer is no SDP")?;
        let connection = &self.peer.connection;
        let mut state = self.peer.state.clone();
        let connected = async {
            connection
                .set_remote_description(answer)
                .await
                .context("the answer cannot be used")?;
            let is_decided =
                |state: &_| *state == RTCPeerConnectionState::Connected || has_ended(*state);
            anyhow::Ok(state.wait_for(is_decided).await.map(|state| *state))
        };
        let state = tokio::select! {
            state = timeout(args.timeout, connected) => state,
            () = interrupt.asked() => bail!(INTERRUPTED),
        };
        match state {
            Ok(Err(error)) => Err(error),
            Ok(Ok(Ok(RTCPeerConnectionState::Connected))) => Ok(()),
            Ok(_) => bail!(
                "the session was made, but cannot be connected: the server is at {candidates}, over UDP"
            ),
            Err(_) => bail!(
                "the session was made, but is not connected within {} s: the server is at {candidates}, \
                 over UDP; is that blocked on the way, or this the wrong family or address (--ipv4, --ipv6, --bind)?",
                args.timeout.as_secs_f64()
            ),
        }
    }
}

/// Whether a connection in this state never comes back.
fn has_ended(state: RTCPeerConnectionState) -> bool {
    matches!(
        state,
        RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed
    )
}

/// Whether an answer has data channels, which it refuses with port 0 (RFC 3264 §6).
fn takes_data(answer: &str) -> bool {
    let mut sections = answer
        .lines()
        .filter_map(|line| line.strip_prefix("m=application "));
    sections.any(|section| !section.starts_with("0 "))
}

/// The addresses in a description (RFC 8839 §5.1), for people.
fn candidates(description: &str) -> String {
    let mut found: Vec<String> = Vec::new();
    for line in description.lines() {
        let mut fields = line
            .strip_prefix("a=candidate:")
            .unwrap_or_default()
            .split_ascii_whitespace();
        if let (Some(address), Some(port)) = (fields.nth(4), fields.next()) {
            let candidate = endpoint(address, port);
            if !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    if found.is_empty() {
        "no address that its answer names".to_owned()
    } else {
        found.join(", ").replace(char::is_control, " ")
    }
}

fn endpoint(address: &str, port: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_channel_can_be_refused() {
        let section =
            |port: u16| format!("v=0\r\nm=application {port} UDP/DTLS/SCTP webrtc-datachannel\r\n");
        assert!(takes_data(&section(9)));
        assert!(!takes_data(&section(0)));
        assert!(!takes_data("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"));
    }
}
