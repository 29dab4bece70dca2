//! The headers that routers quote, from a raw socket, and which probe they are about.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use perpacket_udp::{IcmpListener, QuotedError};

use super::{QuotedHeader, RawMode, RawStatus};
use crate::MeasureError;

/// How many quotes wait for the probe they are about, and the other way round. What is not about a
/// probe is somebody else's, or forged.
const WAITING: usize = 256;

/// Where the transaction id stands in a STUN message (RFC 8489 §5).
const TRANSACTION_ID: Range<usize> = 8..20;

/// What tells whose a quote is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The probe's transaction.
    Id([u8; 12]),
    /// The quote is too short for that: the router, while one probe was out.
    From(IpAddr),
}

impl Key {
    /// `None` where it is about somebody else's packet: this host may have other sessions behind the same router. All
    /// those of a mux have one source port, and a NAT before this host changes that; so it goes by whom the packet
    /// was for.
    fn of(
        from: IpAddr,
        destination: SocketAddr,
        payload: &[u8],
        remote: SocketAddr,
    ) -> Option<Self> {
        let id = payload.get(TRANSACTION_ID);
        if let Some(id) = id.and_then(|id| id.try_into().ok()) {
            return Some(Self::Id(id));
        }
        let ends = [destination, remote].map(|end| (end.ip().to_canonical(), end.port()));
        (ends[0] == ends[1]).then_some(Self::From(from))
    }
}

/// Quotes that have come, and probes that wait for theirs.
#[derive(Debug)]
pub(super) struct Quotes {
    listener: Option<IcmpListener>,
    status: RawStatus,
    come: VecDeque<(Key, QuotedError)>,
    awaited: VecDeque<(Key, u8)>,
}

impl Quotes {
    /// Listens, if it is wanted.
    pub(super) fn open(mode: RawMode, remote: SocketAddr) -> Result<Self, MeasureError> {
        let (listener, status) = match mode {
            RawMode::Off => (None, RawStatus::Off),
            RawMode::IfPermitted | RawMode::Required => match IcmpListener::open(remote.ip()) {
                Ok(listener) => (Some(listener), RawStatus::Read),
                Err(source) if mode == RawMode::Required => {
                    return Err(MeasureError::Unavailable {
                        what: "read the headers that routers quote (CAP_NET_RAW)",
                        source,
                    });
                }
                Err(error) => (None, RawStatus::unavailable(&error)),
            },
        };
        Ok(Self {
            listener,
            status,
            come: VecDeque::new(),
            awaited: VecDeque::new(),
        })
    }

    pub(super) fn status(&self) -> RawStatus {
        self.status.clone()
    }

    /// The next error that comes to this host. Cancel-safe; it does not end without a listener.
    pub(super) async fn next(listener: Option<&IcmpListener>) -> io::Result<QuotedError> {
        match listener {
            Some(listener) => listener.recv().await,
            None => pending().await,
        }
    }

    pub(super) fn listener(&self) -> Option<&IcmpListener> {
        self.listener.as_ref()
    }

    /// The listener is broken.
    pub(super) fn give_up(&mut self, error: &io::Error) {
        self.status = RawStatus::unavailable(error);
        self.listener = None;
        self.awaited.clear();
    }

    /// An error has come, while the session's packets go to `remote`. Returns the TTL of the probe that it is about,
    /// if that is known already.
    pub(super) fn come(
        &mut self,
        error: QuotedError,
        remote: SocketAddr,
    ) -> Option<(u8, QuotedHeader)> {
        let quote = &error.quote;
        let key = Key::of(error.from, quote.destination, &quote.payload, remote)?;
        if let Some(at) = self.awaited.iter().position(|(of, _)| *of == key) {
            let (_, ttl) = self.awaited.remove(at)?;
            return Some((ttl, QuotedHeader::new(&error.quote)));
        }
        if self.come.len() == WAITING {
            self.come.pop_front();
        }
        self.come.push_back((key, error));
        None
    }

    /// The quote of a probe of which the outcome is known, or else it is awaited.
    pub(super) fn expect(&mut self, key: Key, ttl: u8) -> Option<QuotedHeader> {
        self.listener.as_ref()?;
        let error = self.take(key);
        if error.is_none() {
            if self.awaited.len() == WAITING {
                self.awaited.pop_front();
            }
            self.awaited.push_back((key, ttl));
        }
        error.map(|error| QuotedHeader::new(&error.quote))
    }

    /// An error that has come and is about this probe.
    pub(super) fn take(&mut self, key: Key) -> Option<QuotedError> {
        let at = self.come.iter().rposition(|(of, _)| *of == key)?;
        Some(self.come.remove(at)?.1)
    }

    /// Before a probe goes out alone: what came earlier without saying whose it is was not about it.
    pub(super) fn forget_nameless(&mut self) {
        let named = |key: &Key| matches!(key, Key::Id(_));
        self.come.retain(|(key, _)| named(key));
        self.awaited.retain(|(key, _)| named(key));
    }

    /// Whether a probe waits for its quote.
    pub(super) fn is_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_too_short_is_told_by_whom_it_was_for() {
        let at = |address: &str| address.parse::<SocketAddr>().expect("an address");
        let router = IpAddr::from([192, 0, 2, 1]);
        let remote = at("198.51.100.1:5000");
        let key = |destination, payload| Key::of(router, at(destination), payload, remote);
        let short = Some(Key::From(router));
        for payload in [&[0; 0][..], &[7; 19]] {
            assert_eq!(key("198.51.100.1:5000", payload), short);
            assert_eq!(key("[::ffff:198.51.100.1]:5000", payload), short);
            assert_eq!(key("198.51.100.1:5001", payload), None);
            assert_eq!(key("198.51.100.2:5000", payload), None);
        }
        // An id is proof, wherever a NAT has sent it.
        assert_eq!(key("10.0.0.1:9", &[7; 20]), Some(Key::Id([7; 12])));
    }
}
