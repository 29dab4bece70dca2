//! What marks arrived with, told by the peer.
//!
//! ICMP shows a mark on its way only to a raw socket, and never the last link. A peer that runs
//! perpacket too can say what it received: the [`TosReporter`] there looks at the connectivity checks that
//! come in, the [`TosReports`] here takes what it says. In between is whatever carries
//! messages, in most cases a data channel labelled [`TOS_REPORT_LABEL`], which the application opens.
//!
//! A message is the byte 1, for this format, and up to 64 records: the transaction id of a STUN
//! Binding request (12 bytes), the TOS byte and the TTL that it arrived with (0 if unknown).
//!
//! Both sides hold a bounded number of records, whatever the other one does. The peer is believed, as it is
//! for its round trips, but only about requests that it has received: their transaction ids cannot be guessed.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perpacket_udp::{RecvMeta, Tos};
use perpacket_webrtc::{Session, Tap, TapGuard};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::config::MAX_PROBES;

/// The label of the data channel that carries the messages.
pub const TOS_REPORT_LABEL: &str = "perpacket-tos";

const FORMAT: u8 = 1;
const ID: usize = 12;
const RECORD: usize = ID + 2;
const RECORDS_A_MESSAGE: usize = 64;

/// How long after the last message there may come another one: SCTP sends again after 3 seconds what it knows no
/// round trip for (RFC 9260 §16).
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// Records that wait to be sent: twenty seconds of probes.
const WAITING: usize = 4096;

/// Records that wait to be asked for, which is when all probes of a run are done. With so many, 6 MB.
const KNOWN: usize = 1 << 17;

// The rest is for the checks of ICE meanwhile, which the peer reports as well.
const _: () = assert!(KNOWN > MAX_PROBES);

/// How a probe arrived at the peer, as the peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ArrivedWith {
    /// The TOS byte.
    pub tos: Tos,
    /// The TTL, or hop limit, that was left, if the peer could see it.
    pub ttl: Option<u8>,
}

type Record = ([u8; ID], ArrivedWith);

/// Tells the other side how its STUN requests arrive, as long as this lives.
#[derive(Debug)]
pub struct TosReporter {
    records: mpsc::Receiver<Record>,
    _tap: TapGuard,
}

struct Watcher(mpsc::Sender<Record>);

impl Tap for Watcher {
    fn claim(&self, datagram: &[u8], meta: &RecvMeta) -> bool {
        if let (Some(id), Some(tos)) = (request_id(datagram), meta.tos) {
            // One that has no place is one that the other side does not hear of.
            let _ = self.0.try_send((id, ArrivedWith { tos, ttl: meta.ttl }));
        }
        false
    }
}

/// The transaction id of a STUN Binding request (RFC 8489 §5).
fn request_id(datagram: &[u8]) -> Option<[u8; ID]> {
    let (header, id) = datagram.split_at_checked(8)?;
    let is_request = header[..2] == [0, 1] && header[4..] == [0x21, 0x12, 0xa4, 0x42];
    is_request.then(|| id.first_chunk().copied()).flatten()
}

impl TosReporter {
    /// Looks at what the session receives.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        let (sender, records) = mpsc::channel(WAITING);
        Self {
            records,
            _tap: session.tap(Arc::new(Watcher(sender))),
        }
    }

    /// The next message for the other side: all that has come in since the last one, as far as it fits.
    /// There is always a next one to wait for: drop the reporter together with the channel. Cancel-safe.
    pub async fn message(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        self.records
            .recv_many(&mut records, RECORDS_A_MESSAGE)
            .await;
        encode(&records)
    }
}

fn encode(records: &[Record]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + records.len() * RECORD);
    message.push(FORMAT);
    for (id, with) in records {
        message.extend_from_slice(id);
        message.extend_from_slice(&[with.tos.byte(), with.ttl.unwrap_or(0)]);
    }
    message
}

/// `None` for what no [`TosReporter`] has sent.
fn decode(message: &[u8]) -> Option<impl Iterator<Item = Record>> {
    let (FORMAT, records) = message
        .split_first()
        .map(|(format, rest)| (*format, rest))?
    else {
        return None;
    };
    let (records, rest) = records.as_chunks::<RECORD>();
    let whole = rest.is_empty() && records.len() <= RECORDS_A_MESSAGE;
    whole.then(|| {
        records.iter().map(|record| {
            let [id @ .., tos, ttl] = *record;
            let ttl = (ttl != 0).then_some(ttl);
            (
                id,
                ArrivedWith {
                    tos: tos.into(),
                    ttl,
                },
            )
        })
    })
}

/// What the other side says about probes: to be given to [`Qos::with_reports`](crate::Qos::with_reports), and every
/// message of the channel to [`receive`](Self::receive). Clones share what they know.
#[derive(Clone, Default)]
pub struct TosReports {
    known: Arc<Mutex<Known>>,
    /// Changes when something comes in.
    news: Arc<watch::Sender<()>>,
}

#[derive(Default)]
struct Known {
    records: HashMap<[u8; ID], ArrivedWith>,
    /// The ids in the order in which they came.
    order: VecDeque<[u8; ID]>,
}

impl TosReports {
    /// Nothing heard yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a message of the other side's [`TosReporter`]. Returns whether it was one.
    pub fn receive(&self, message: &[u8]) -> bool {
        let Some(records) = decode(message) else {
            return false;
        };
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, with) in records {
                known.add(id, with);
            }
        }
        self.news.send_replace(());
        true
    }

    /// How the probe with this transaction id arrived, if the other side has said so among the newest
    /// 131,072: a run has fewer probes.
    #[must_use]
    pub fn get(&self, transaction_id: &[u8; 12]) -> Option<ArrivedWith> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.records.get(transaction_id).copied()
    }

    /// Returns when all of these are known, or `false` when the next of them has not come in for so long.
    /// Other news do not count: the peer reports the checks of ICE, too, which never end.
    pub(super) async fn wait_for(
        &self,
        ids: impl Iterator<Item = [u8; ID]>,
        quiet: Duration,
    ) -> bool {
        let mut news = self.news.subscribe();
        for id in ids {
            let deadline = tokio::time::Instant::now() + quiet;
            while self.get(&id).is_none() {
                let heard = tokio::time::timeout_at(deadline, news.changed()).await;
                if !matches!(heard, Ok(Ok(()))) {
                    return false;
                }
            }
        }
        true
    }
}

impl Known {
    fn add(&mut self, id: [u8; ID], with: ArrivedWith) {
        if self.records.insert(id, with).is_some() {
            return;
        }
        if self.order.len() == KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
        self.order.push_back(id);
    }
}

impl fmt::Debug for TosReports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TosReports").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> [u8; ID] {
        let mut id = [0; ID];
        id[8..].copy_from_slice(&number.to_be_bytes());
        id
    }

    fn with(tos: u8, ttl: Option<u8>) -> ArrivedWith {
        ArrivedWith {
            tos: tos.into(),
            ttl,
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_heard(
            records in prop::collection::vec((any::<u32>(), any::<u8>(), prop::option::of(1..=255_u8)), 0..=64),
        ) {
            let records: Vec<Record> = records
                .into_iter()
                .map(|(number, tos, ttl)| (id(number), with(tos, ttl)))
                .collect();
            let message = encode(&records);
            prop_assert_eq!(decode(&message).expect("a message").collect::<Vec<_>>(), records.clone());
            let reports = TosReports::new();
            prop_assert!(reports.receive(&message));
            // Of two with one id the later one counts.
            if let Some((id, with)) = records.last() {
                prop_assert_eq!(reports.get(id), Some(*with));
            }
        }

        #[test]
        fn no_bytes_do_harm(message in prop::collection::vec(any::<u8>(), 0..2000)) {
            let reports = TosReports::new();
            let fits = message.first() == Some(&1) && message.len() % RECORD == 1 && message.len() <= 897;
            prop_assert_eq!(reports.receive(&message), fits);
            request_id(&message);
        }
    }

    /// Reports probes with the numbers below `end`.
    fn tell(reports: &TosReports, end: usize, with: ArrivedWith) {
        let numbers: Vec<_> = (0..u32::try_from(end).unwrap()).collect();
        for numbers in numbers.chunks(RECORDS_A_MESSAGE) {
            let records: Vec<_> = numbers.iter().map(|number| (id(*number), with)).collect();
            assert!(reports.receive(&encode(&records)));
        }
    }

    #[test]
    fn no_probe_of_the_longest_run_is_forgotten() {
        let reports = TosReports::new();
        tell(&reports, MAX_PROBES, with(8, None));
        let known = |number: usize| reports.get(&id(u32::try_from(number).unwrap()));
        assert!((0..MAX_PROBES).all(|number| known(number).is_some()));
    }

    #[test]
    fn memory_is_bounded() {
        let reports = TosReports::new();
        let last = id(u32::try_from(KNOWN).unwrap());
        tell(&reports, KNOWN, with(8, None));
        tell(&reports, KNOWN, with(9, Some(3)));
        assert_eq!(reports.get(&id(0)), Some(with(9, Some(3))));
        assert!(reports.receive(&encode(&[(last, with(7, None))])));
        let known = reports.known.lock().unwrap();
        assert_eq!((known.records.len(), known.order.len()), (KNOWN, KNOWN));
        drop(known);
        assert_eq!(reports.get(&id(0)), None);
        assert_eq!(reports.get(&id(1)), Some(with(9, Some(3))));
        assert_eq!(reports.get(&last), Some(with(7, None)));
    }

    #[test]
    fn requests_are_told_from_the_rest() {
        let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        request.extend(id(7));
        assert_eq!(request_id(&request), Some(id(7)));
        assert_eq!(request_id(&request[..19]), None);
        request[1] = 0x11;
        assert_eq!(request_id(&request), None, "an indication");
        request[1] = 1;
        request[4] = 0;
        assert_eq!(request_id(&request), None, "no cookie");
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_or_with_silence() {
        let reports = TosReports::new();
        let quiet = Duration::from_millis(20);
        assert!(!reports.wait_for([id(1)].into_iter(), quiet).await);

        let teller = reports.clone();
        let chatter = tokio::spawn(async move {
            for number in 0..=u8::MAX {
                teller.receive(&encode(&[(id(0x80 | u32::from(number)), with(0, None))]));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(!reports.wait_for([id(1)].into_iter(), quiet).await);
        assert!(!chatter.is_finished(), "news of others kept it waiting");

        let quiet = Duration::from_secs(20);
        let teller = reports.clone();
        tokio::spawn(async move {
            teller.receive(&encode(&[(id(1), with(0, None))]));
            tokio::task::yield_now().await;
            teller.receive(&encode(&[(id(2), with(0, None))]));
        });
        assert!(reports.wait_for([id(1), id(2)].into_iter(), quiet).await);
    }
}
