//! What a STUN server sees the mux's sockets as, and how a session description says it.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use stun::{
    agent::TransactionId,
    fingerprint::FINGERPRINT,
    message::{BINDING_REQUEST, Message},
};
use tokio::{sync::oneshot, task::JoinSet};

use super::{AddressFamily, MuxError, Shared, check, routes::Asker};
use crate::{StunClass, StunHeader, policy::key, port::Addressed};

/// RFC 8489 §6.2.1: the first wait for an answer, how many requests there are, and how long the
/// last one waits, in first waits.
const RTO: Duration = Duration::from_millis(500);
const REQUESTS: u32 = 7;
const LAST_WAIT: u32 = 16;

/// RFC 8445 §11: how often a mapping is used at least so that the NAT keeps it.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// RFC 8445 §5.1.2.1: a server-reflexive candidate, and the first of several.
const TYPE_PREFERENCE: u32 = 100;
const LOCAL_PREFERENCE: u32 = 65535;

/// How a socket of a mux looks from outside its NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Reflexive {
    /// The address that the socket is bound to.
    pub local: SocketAddr,
    /// The address that the server saw.
    pub mapped: SocketAddr,
    /// The STUN server that said so.
    pub server: SocketAddr,
}

impl Reflexive {
    /// The candidate attribute (RFC 8839 §5.1), with a priority of its own (RFC 8445 §5.1.2).
    fn candidate(&self, number: u32) -> String {
        let local_preference = LOCAL_PREFERENCE.saturating_sub(number);
        let priority = TYPE_PREFERENCE << 24 | local_preference << 8 | 255;
        let foundation = self.foundation();
        let Self { local, mapped, .. } = self;
        let (ip, port) = (mapped.ip(), mapped.port());
        let (base, base_port) = (local.ip(), local.port());
        format!(
            "candidate:{foundation} 1 udp {priority} {ip} {port} typ srflx raddr {base} rport {base_port}"
        )
    }

    /// One for each type, base and server (RFC 8445 §5.1.1.3), by FNV-1a.
    fn foundation(&self) -> u32 {
        let mut hash = 0x811c_9dc5_u32;
        for byte in format!("srflx {} {}", self.local.ip(), self.server.ip()).bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        hash
    }
}

/// The candidate attribute of each.
pub(super) fn candidates(reflexive: &[Reflexive]) -> Vec<String> {
    (0..)
        .zip(reflexive)
        .map(|(number, reflexive)| reflexive.candidate(number))
        .collect()
}

/// The sockets of the server's family, by their places.
pub(super) fn sockets_towards(shared: &Shared, server: SocketAddr) -> Vec<usize> {
    let family = AddressFamily::of(server);
    (0..shared.locals.len())
        .filter(|socket| family.is_of(shared.locals[*socket].ip()))
        .collect()
}

/// Asks the server, and keeps the mapping of a socket alive and up to date until the mux is closed.
pub(super) async fn keep(shared: Arc<Shared>, socket: usize, server: SocketAddr) {
    let mut closed = shared.closed.subscribe();
    let kept = async {
        loop {
            if let Err(error) = shared.find(socket, server).await
                // Which is why there is no answer any more.
                && !*shared.closed.borrow()
            {
                tracing::warn!(%error, "no server-reflexive address");
            }
            tokio::time::sleep(KEEPALIVE).await;
        }
    };
    tokio::select! {
        biased;
        _ = closed.wait_for(|closed| *closed) => {}
        () = kept => {}
    }
}

/// Asks a STUN server how it sees each socket of its family, all at once.
pub(super) async fn discover(
    shared: &Arc<Shared>,
    server: SocketAddr,
) -> Result<Vec<Reflexive>, MuxError> {
    let mut asking = JoinSet::new();
    for socket in sockets_towards(shared, server) {
        let shared = Arc::clone(shared);
        asking.spawn(async move { shared.find(socket, server).await });
    }
    let mut result = Err(MuxError::NoSocketTowards { server });
    let mut found = Vec::new();
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok(Ok(reflexive)) => found.push(reflexive),
            Ok(Err(error)) => result = Err(error),
            // The runtime is going down.
            Err(_) => {}
        }
    }
    if found.is_empty() { result } else { Ok(found) }
}

/// A request that waits for its answer, until this is dropped.
struct Asking<'a> {
    shared: &'a Shared,
    id: [u8; 12],
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.shared.routes.forget_asked(&self.id);
    }
}

impl Shared {
    /// Asks a STUN server how it sees a socket, and remembers what it says, or that it says nothing.
    async fn find(&self, socket: usize, server: SocketAddr) -> Result<Reflexive, MuxError> {
        let local = self.locals[socket];
        let found = self.ask(socket, server).await.map(|mapped| Reflexive {
            local,
            mapped,
            server,
        });
        self.reflexive.rcu(|known| {
            let mut known = Vec::clone(known);
            known.retain(|known| (known.local, known.server) != (local, server));
            known.extend(found.as_ref().ok());
            known
        });
        found
    }

    async fn ask(&self, socket: usize, server: SocketAddr) -> Result<SocketAddr, MuxError> {
        let failed = |reason: String| MuxError::Discovery {
            server,
            local: self.locals[socket],
            reason,
        };
        let mut request = Message::new();
        request
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId::new()),
                Box::new(FINGERPRINT),
            ])
            .map_err(|error| failed(error.to_string()))?;
        let id = request.transaction_id.0;

        let (sender, receiver) = oneshot::channel();
        self.routes.asked(id, key(server), Asker::Discovery(sender));
        let asking = Asking { shared: self, id };
        let answer = self.transact(socket, server, &request.raw, receiver).await;
        drop(asking);
        let answer = answer.ok_or_else(|| failed("no answer".to_owned()))?;
        let success = StunHeader::parse(&answer)
            .is_some_and(|header| header.class == StunClass::SuccessResponse);
        if !success {
            return Err(failed("the server refused the request".to_owned()));
        }
        check::mapped_address(&answer)
            .ok_or_else(|| failed("the answer names no address".to_owned()))
    }

    /// Sends a request until it is answered (RFC 8489 §6.2.1).
    async fn transact(
        &self,
        socket: usize,
        server: SocketAddr,
        request: &[u8],
        mut answer: oneshot::Receiver<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        for wait in waits() {
            let outgoing = self.port.outgoing(request, &server);
            let request = Addressed::to(&server, request);
            let sockets = self.sockets.cloned()?;
            self.port.send(&sockets[socket], request, &outgoing).await;
            drop(sockets);
            if let Ok(answer) = tokio::time::timeout(wait, &mut answer).await {
                return answer.ok();
            }
        }
        None
    }
}

/// How long to wait after each request.
fn waits() -> impl Iterator<Item = Duration> {
    (1..=REQUESTS).map(|n| {
        if n == REQUESTS {
            LAST_WAIT * RTO
        } else {
            RTO * 2_u32.pow(n - 1)
        }
    })
}

/// Adds candidates to each media section that has ICE of its own.
pub(super) fn add_candidates(description: &str, candidates: &[String]) -> String {
    let mut completed = String::with_capacity(description.len() + 128 * candidates.len());
    let lines: Vec<_> = description.split_inclusive('\n').collect();
    let is_media = |line: &str| line.starts_with("m=");
    let first_media = lines.iter().position(|line| is_media(line));
    let (head, media) = lines.split_at(first_media.unwrap_or(lines.len()));
    completed.extend(head.iter().copied());
    for section in media.chunk_by(|_, next| !is_media(next)) {
        let last = section
            .iter()
            .rposition(|line| line.starts_with("a=candidate:"));
        let end = section
            .iter()
            .position(|line| line.starts_with("a=end-of-candidates"));
        let has_ice = section.iter().any(|line| line.starts_with("a=ice-ufrag:"));
        let at = match (last, end) {
            (Some(last), _) => Some(last + 1),
            (None, Some(end)) => Some(end),
            (None, None) => has_ice.then_some(section.len()),
        };
        for (n, line) in section.iter().enumerate() {
            if at == Some(n) {
                write_candidates(&mut completed, candidates, section);
            }
            completed.push_str(line);
        }
        if at == Some(section.len()) {
            write_candidates(&mut completed, candidates, section);
        }
    }
    completed
}

fn write_candidates(completed: &mut String, candidates: &[String], section: &[&str]) {
    for candidate in candidates {
        let known = |line: &&str| line.trim_end().strip_prefix("a=") == Some(candidate);
        if !section.iter().any(known) {
            if !completed.ends_with('\n') {
                completed.push_str("\r\n");
            }
            // Writing to a string cannot fail.
            let _ = write!(completed, "a={candidate}\r\n");
        }
    }
}

/// Each pair of username fragment and password in a session description (RFC 8839 §5.4).
pub(crate) fn credentials(description: &str) -> Vec<(&str, &str)> {
    let values = |attribute: &'static str| {
        description
            .lines()
            .filter_map(move |line| line.trim_end().strip_prefix(attribute))
    };
    values("a=ice-ufrag:").zip(values("a=ice-pwd:")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reflexive() -> Reflexive {
        Reflexive {
            local: ([10, 0, 0, 2], 5000).into(),
            mapped: ([203, 0, 113, 7], 61234).into(),
            server: ([198, 51, 100, 1], 3478).into(),
        }
    }

    const LINE: &str = "a=candidate:3057316345 1 udp 1694498815 203.0.113.7 61234 typ srflx raddr 10.0.0.2 rport 5000\r\n";

    /// RFC 8489 §6.2.1: requests at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms, the end at 39500.
    #[test]
    fn requests_follow_the_rfc() {
        let times: Vec<_> = waits()
            .scan(Duration::ZERO, |at, wait| {
                *at += wait;
                Some(at.as_millis())
            })
            .collect();
        assert_eq!(times, [500, 1500, 3500, 7500, 15_500, 31_500, 39_500]);
    }

    #[test]
    fn candidates_go_where_candidates_are() {
        let description = "v=0\r\na=group:BUNDLE 0 1\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\n\
            a=candidate:1 1 udp 1 10.0.0.2 5000 typ host\r\na=end-of-candidates\r\na=sendrecv\r\n\
            m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\n";
        let completed = add_candidates(description, &candidates(&[reflexive()]));
        let line = format!("a={}\r\n", reflexive().candidate(0));
        assert_eq!(
            line.split_once(' ').map(|(_, rest)| rest),
            LINE.split_once(' ').map(|(_, rest)| rest)
        );
        let expected = description
            .replace("a=end-of-candidates", &format!("{line}a=end-of-candidates"))
            + &line;
        assert_eq!(completed, expected);
        let again = add_candidates(&completed, &candidates(&[reflexive()]));
        assert_eq!(again, completed);
    }

    #[test]
    fn a_last_line_without_an_end_is_kept_whole() {
        let completed = add_candidates("m=x\na=ice-ufrag:abcd", &["candidate:1".to_owned()]);
        assert_eq!(completed, "m=x\na=ice-ufrag:abcd\r\na=candidate:1\r\n");
    }

    #[test]
    fn each_has_a_priority_of_its_own() {
        let priority = |line: &String| line.split(' ').nth(3).map(str::to_owned);
        let lines = candidates(&[reflexive(), reflexive()]);
        assert_eq!(priority(&lines[0]).as_deref(), Some("1694498815"));
        assert_eq!(priority(&lines[1]).as_deref(), Some("1694498559"));
    }

    #[test]
    fn what_has_no_ice_is_left_alone() {
        for description in [
            "",
            "v=0\r\n",
            "v=0\r\nm=audio 0 RTP/AVP 0\r\na=inactive\r\n",
            "m=",
        ] {
            assert_eq!(
                add_candidates(description, &candidates(&[reflexive()])),
                description
            );
        }
    }

    #[test]
    fn credentials_come_in_pairs() {
        let description =
            "a=ice-ufrag:one\r\na=ice-pwd:first\r\nm=x\r\na=ice-ufrag:two\na=ice-pwd:second\n";
        assert_eq!(
            credentials(description),
            [("one", "first"), ("two", "second")]
        );
        assert_eq!(credentials("a=ice-ufrag:one"), []);
    }
}
