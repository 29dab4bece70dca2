//! What a socket may receive, by what it is for.
//!
//! ICE asks for all its sockets in the same way, so what one is for shows only in what is sent through
//! it first: an Allocate request makes it the socket of a relayed candidate, a Binding request without
//! credentials that of a server-reflexive one, and anything else an ordinary one, which receives
//! everything. The other two wait for one server's words, and webrtc-rs does not look whose words it
//! gets: it takes the first datagram that comes for the STUN server's answer, and ends the relay when
//! it cannot read one.

mod query;
mod relay;

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use tokio::{
    sync::SetOnce,
    time::{Instant, timeout_at},
};

use crate::{DropCause, StunClass, StunHeader, StunMethod, policy::key};

pub(crate) use query::Query;
use relay::Relay;

/// For how long nothing is received while nothing was sent. A TURN client reads before it sends, and
/// must not read what somebody sent to its port before the first request says whose port it is. ICE
/// sends first, or at the same time.
const GRACE: Duration = Duration::from_millis(50);

/// RFC 8489 §5.
pub(crate) const HEADER_LEN: usize = 20;

/// RFC 8489 §14.3.
const ATTR_USERNAME: u16 = 0x0006;

/// Decides what reaches the stack from one socket.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    role: SetOnce<Role>,
    reading_since: OnceLock<Instant>,
}

#[derive(Debug)]
enum Role {
    Ordinary,
    Query(Box<Query>),
    Relay(Box<Relay>),
}

impl Role {
    /// By the first datagram that is sent.
    fn of(datagram: &[u8], target: SocketAddr) -> Self {
        match StunHeader::parse(datagram) {
            Some(header) if header.class != StunClass::Request => Self::Ordinary,
            Some(header) if header.method == StunMethod::ALLOCATE => {
                Self::Relay(Box::new(Relay::new(target)))
            }
            Some(header) if header.method == StunMethod::BINDING && is_anonymous(datagram) => {
                let query = Query::new(datagram, target, header.transaction_id);
                Self::Query(Box::new(query))
            }
            _ => Self::Ordinary,
        }
    }
}

impl Guard {
    /// To be told of a datagram before it is sent.
    #[inline]
    pub(crate) fn sending(&self, datagram: &[u8], target: &SocketAddr) {
        match self.role.get() {
            Some(Role::Ordinary) => {}
            Some(Role::Query(query)) => query.sending(datagram),
            Some(Role::Relay(relay)) => relay.sending(datagram),
            // Of two that are sent first at the same time, either may say what the socket is for.
            None => drop(self.role.set(Role::of(datagram, *target))),
        }
    }

    /// Whether the stack must not see what came from `source`, and why.
    #[inline]
    pub(crate) fn refuses(&self, datagram: &[u8], source: SocketAddr) -> Option<DropCause> {
        match self.role.get()? {
            Role::Ordinary => None,
            Role::Query(query) => query.refuses(datagram, source),
            Role::Relay(relay) => relay.refuses(datagram, source),
        }
    }

    /// Whether the socket belongs to a relayed candidate.
    #[inline]
    pub(crate) fn is_relay(&self) -> bool {
        matches!(self.role.get(), Some(Role::Relay(_)))
    }

    /// The request whose answer is awaited.
    #[inline]
    pub(crate) fn query(&self) -> Option<&Query> {
        match self.role.get()? {
            Role::Query(query) if query.is_waiting() => Some(query),
            _ => None,
        }
    }

    /// Whether it shows what the socket is for, and no answer is awaited.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.role.get().is_some() && self.query().is_none()
    }

    /// Waits until it shows what the socket is for, but not for long.
    #[inline]
    pub(crate) async fn settled(&self) {
        if self.role.get().is_none() {
            let end = *self.reading_since.get_or_init(Instant::now) + GRACE;
            if Instant::now() < end {
                // Out of time: the socket of one who listens first.
                let _ = timeout_at(end, self.role.wait()).await;
            }
        }
    }
}

/// Whether a request names no user: a connectivity check always does (RFC 8445 §7.2.2).
fn is_anonymous(request: &[u8]) -> bool {
    let mut anonymous = true;
    walk(request, |attribute, _| {
        anonymous &= attribute != ATTR_USERNAME;
    });
    anonymous
}

/// Shows every attribute of a STUN message, those after MESSAGE-INTEGRITY too, and says whether all of
/// them fit in it (RFC 8489 §14). webrtc-rs reads a message whole or not at all.
pub(crate) fn walk<'a>(message: &'a [u8], mut visit: impl FnMut(u16, &'a [u8])) -> bool {
    let mut rest = message.get(HEADER_LEN..).unwrap_or_default();
    while !rest.is_empty() {
        let Some((&[t0, t1, l0, l1], after)) = rest.split_first_chunk() else {
            return false;
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let (Some(value), Some(next)) =
            (after.get(..length), after.get(length.next_multiple_of(4)..))
        else {
            return false;
        };
        visit(u16::from_be_bytes([t0, t1]), value);
        rest = next;
    }
    true
}

/// Whether two addresses are the same, however they are written.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    key(one) == key(other)
}

#[cfg(test)]
mod tests;
