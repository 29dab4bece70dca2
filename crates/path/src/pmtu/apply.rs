use perpacket_webrtc::Session;

use super::PathMtuReport;
use crate::MeasureError;

impl PathMtuReport {
    /// Tells the session how large a packet its path carries (see [`Session::set_path_mtu`]): the application
    /// hears of what is larger, and on IPv4 routers may cut it. On IPv6 they never do (RFC 8200 §5), and
    /// Linux cuts nothing that its own interface carries, so there it has to send less at a time.
    ///
    /// # What it does for data channels
    ///
    /// webrtc-rs 0.17 has no setting for it, and needs none: its SCTP packets have at most 1,191 bytes, which
    /// are 1,256 bytes of IP packet with DTLS and UDP, or 1,276 on IPv6. `webrtc_sctp`'s `Config::mtu` is
    /// not within reach of a `SettingEngine`, and the one that is, `set_receive_mtu`, is the size of the
    /// buffers that RTP is read into. Who brings another stack finds what remains for it in
    /// [`Room::sctp`](crate::Room::sctp).
    ///
    /// # Errors
    /// [`MeasureError::Config`] where the search was stopped before its end: more may pass than it knows.
    pub fn apply(&self, session: &Session) -> Result<(), MeasureError> {
        if !self.complete {
            return Err(MeasureError::Config {
                field: "report",
                value: "incomplete".to_owned(),
                expected: "that of a search which has come to its end",
            });
        }
        set(session, self.mtu)
    }
}

/// From the next packet on.
pub(super) fn set(session: &Session, mtu: usize) -> Result<(), MeasureError> {
    let mtu = u32::try_from(mtu).unwrap_or(u32::MAX);
    session
        .set_path_mtu(Some(mtu))
        .map_err(|error| MeasureError::Config {
            field: "mtu",
            value: error.to_string(),
            expected: "what IP has to carry",
        })
}
