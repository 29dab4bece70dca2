use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use webrtc::peer_connection::peer_connection_state::RTCPeerConnectionState;

use super::{AppliedClasses, Asked, Guard, MeasurementInfo, Sample, Timestamp};

/// A client: one peer connection, from its offer to its end.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct Client {
    /// Its name, 32 hexadecimal digits.
    #[schema(example = "0123456789abcdef0123456789abcdef")]
    pub id: String,
    /// The server that it is connected to.
    pub server: String,
    /// What it is, by its User-Agent.
    #[schema(example = "chrome on linux")]
    pub name: Option<String>,
    /// What it calls itself.
    pub user_agent: Option<String>,
    /// When its offer came.
    pub since: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How far it has come.
    pub state: ClientState,
    /// Where its offer came from.
    #[schema(value_type = Option<String>, example = "198.51.100.7")]
    pub client: Option<IpAddr>,
    /// The pair of candidates that ICE has selected.
    pub pair: Option<Pair>,
    /// How good its path is, and why.
    pub verdict: Verdict,
    /// The newest sample.
    pub sample: Option<Sample>,
    /// The options that are set for it.
    pub asked: Asked,
    /// What really went out: the header of the newest datagram of each class.
    pub applied: AppliedClasses,
    /// How large a packet its path carries.
    pub path_mtu: Option<PathMtuView>,
    /// The last trace: what `perpacket trace --json` calls the report.
    #[schema(value_type = Option<Object>)]
    pub trace: Option<serde_json::Value>,
    /// When that was done.
    pub trace_at: Option<Timestamp>,
    /// The change of its options that was watched last.
    pub guard: Option<Guard>,
    /// Its measurements, the newest first.
    pub measurements: Vec<MeasurementInfo>,
}

/// How far a peer connection has come.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// The offer was answered.
    #[default]
    New,
    /// ICE or DTLS is under way.
    Connecting,
    /// Media and messages pass.
    Connected,
    /// Nothing was heard for a while.
    Disconnected,
    /// ICE or DTLS has failed.
    Failed,
    /// It has ended.
    Closed,
}

impl From<RTCPeerConnectionState> for ClientState {
    fn from(state: RTCPeerConnectionState) -> Self {
        match state {
            RTCPeerConnectionState::Unspecified | RTCPeerConnectionState::New => Self::New,
            RTCPeerConnectionState::Connecting => Self::Connecting,
            RTCPeerConnectionState::Connected => Self::Connected,
            RTCPeerConnectionState::Disconnected => Self::Disconnected,
            RTCPeerConnectionState::Failed => Self::Failed,
            RTCPeerConnectionState::Closed => Self::Closed,
        }
    }
}

/// The addresses that media goes between.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pair {
    /// Of this server.
    #[schema(example = "203.0.113.1:5000")]
    pub local: String,
    /// How the client knows that address.
    #[schema(example = "host")]
    pub local_type: String,
    /// Of the client.
    #[schema(example = "198.51.100.7:61000")]
    pub remote: String,
    /// How this server knows that address.
    #[schema(example = "prflx")]
    pub remote_type: String,
}

/// How good a path is for a call.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Too little is known.
    #[default]
    Unknown,
    /// Nothing to complain of.
    Good,
    /// A call works, and is not at its best.
    Fair,
    /// A call suffers.
    Bad,
}

/// A judgement, and its reasons.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct Verdict {
    /// How good.
    pub level: Level,
    /// Why it is not better, in words.
    #[schema(example = json!(["2.1% of packets lost", "round trip 210 ms"]))]
    pub reasons: Vec<String>,
}

/// How large a packet a path carries.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize, ToSchema)]
pub struct PathMtuView {
    /// Bytes of IP packet.
    pub mtu: u64,
    /// Whether one of four bytes more does not pass.
    pub exact: bool,
    /// When it was found.
    pub at: Timestamp,
}

/// Clients, those that live first, then the newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ClientList {
    /// The server that answers.
    pub server: String,
    /// Its time.
    pub now: Timestamp,
    /// The clients.
    pub clients: Vec<Client>,
}

/// What a client may see of itself.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct SelfView {
    /// How far it has come.
    pub state: ClientState,
    /// How good its path is, and why.
    pub verdict: Verdict,
    /// The mean round trip of the last second, milliseconds.
    pub rtt_ms: Option<f64>,
    /// The share of packets that were lost in the last second, 0 to 1.
    pub loss: Option<f64>,
    /// How large a packet its path carries, bytes of IP packet.
    pub path_mtu: Option<u64>,
    /// How many hops it is to the client, itself included.
    #[schema(minimum = 1, maximum = 255)]
    pub hops: Option<u8>,
    /// Where its result can be seen by others, if it wants that.
    #[schema(example = "/r/0123456789abcdef0123456789abcdef")]
    pub shared: Option<String>,
    /// When it was so.
    pub at: Timestamp,
    /// The server that has seen it.
    pub server: String,
}

/// What this server is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ServerView {
    /// Its name.
    pub name: String,
    /// Of perpacket.
    pub version: String,
    /// When it was started.
    pub started: Timestamp,
    /// The UDP addresses that media goes to.
    #[schema(value_type = Vec<String>)]
    pub udp: Vec<SocketAddr>,
    /// How many clients are connected, or about to be.
    pub clients: usize,
    /// Where history is kept: `sqlite`, `postgres` or `memory`.
    pub database: String,
    /// Whether it is kept at the moment.
    pub recording: bool,
    /// Why not.
    pub recording_error: Option<String>,
}
