use std::{fmt, mem, ops::Range};

use crate::{RecvMeta, imp};

/// How many messages one system call brings at most, and at first: a new batch takes little time and memory, and who
/// has much to receive soon has room for it.
const MESSAGES: usize = 16;
const FEW: usize = 2;

/// Bytes of the largest message: any datagram, and any run of datagrams that the kernel has put together.
const MESSAGE: usize = 65_536;

/// Datagrams that were received together, in storage that is used again: for
/// [`UdpSocket::recv_batch`](crate::UdpSocket::recv_batch).
///
/// It has room for two messages of 64 KiB at first, and for more, up to 16, once there were as many as it has room
/// for. One will do for every socket that one task reads.
pub struct RecvBatch {
    bytes: Vec<u8>,
    /// There were as many messages as there is room for.
    full: bool,
    state: imp::BatchState,
    datagrams: Vec<(Range<usize>, RecvMeta)>,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RecvBatch {
    /// One that is empty.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; FEW * MESSAGE],
            full: false,
            state: imp::BatchState::new(MESSAGES),
            datagrams: Vec::new(),
        }
    }

    /// How many datagrams the last receive has brought.
    #[must_use]
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// The datagrams of the last receive, in the order in which they came.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &RecvMeta)> {
        self.datagrams
            .iter()
            .map(|(range, meta)| (&self.bytes[range.clone()], meta))
    }

    /// One of the datagrams of the last receive, by its place among them.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<(&[u8], &RecvMeta)> {
        let (range, meta) = self.datagrams.get(index)?;
        Some((&self.bytes[range.clone()], meta))
    }

    /// Where messages go: the bytes, how many of them are for each, what else the platform keeps, and the
    /// datagrams that were there.
    pub(crate) fn refill(&mut self) -> Refill<'_> {
        self.datagrams.clear();
        if mem::take(&mut self.full) && self.bytes.len() < MESSAGES * MESSAGE {
            self.make_room(2 * self.bytes.len());
        }
        Refill {
            bytes: &mut self.bytes,
            slot: MESSAGE,
            full: &mut self.full,
            state: &mut self.state,
            datagrams: &mut self.datagrams,
        }
    }

    /// Has room for so many bytes. What was received before is gone.
    pub(crate) fn make_room(&mut self, bytes: usize) {
        self.datagrams.clear();
        if self.bytes.len() < bytes {
            // First, so that there are not both.
            self.bytes = Vec::new();
            self.bytes = vec![0; bytes.next_multiple_of(MESSAGE)];
        }
    }
}

/// A batch that is being filled.
pub(crate) struct Refill<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) slot: usize,
    /// To be told whether there were as many messages as there is room for.
    pub(crate) full: &'a mut bool,
    pub(crate) state: &'a mut imp::BatchState,
    pub(crate) datagrams: &'a mut Vec<(Range<usize>, RecvMeta)>,
}

impl Refill<'_> {
    /// Adds what a message has brought whose bytes begin at `start`: datagrams of `segment` bytes, of which
    /// the last may be shorter, or one of any length.
    pub(crate) fn add(
        datagrams: &mut Vec<(Range<usize>, RecvMeta)>,
        start: usize,
        meta: &RecvMeta,
        segment: Option<usize>,
    ) {
        let end = start + meta.len;
        let step = segment.filter(|step| *step > 0).unwrap_or(meta.len.max(1));
        let mut at = start;
        loop {
            let next = end.min(at + step);
            let truncated = meta.truncated && next == end;
            let meta = RecvMeta {
                len: next - at,
                truncated,
                ..*meta
            };
            datagrams.push((at..next, meta));
            at = next;
            if at == end {
                return;
            }
        }
    }
}

impl fmt::Debug for RecvBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBatch")
            .field("datagrams", &self.datagrams)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(len: usize, segment: Option<usize>, truncated: bool) -> Vec<(Range<usize>, bool)> {
        let meta = RecvMeta {
            len,
            truncated,
            source: ([192, 0, 2, 1], 5).into(),
            destination: None,
            interface: None,
            ttl: Some(9),
            tos: None,
            timestamp: None,
        };
        let mut datagrams = Vec::new();
        Refill::add(&mut datagrams, 100, &meta, segment);
        assert!(
            datagrams
                .iter()
                .all(|(range, meta)| range.len() == meta.len && meta.ttl == Some(9))
        );
        datagrams
            .into_iter()
            .map(|(range, meta)| (range, meta.truncated))
            .collect()
    }

    #[test]
    fn a_message_is_taken_apart() {
        assert_eq!(lengths(0, None, false), [(100..100, false)]);
        assert_eq!(lengths(7, None, false), [(100..107, false)]);
        assert_eq!(lengths(0, Some(5), false), [(100..100, false)]);
        assert_eq!(lengths(5, Some(0), false), [(100..105, false)]);
        assert_eq!(lengths(4, Some(5), false), [(100..104, false)]);
        assert_eq!(
            lengths(12, Some(5), true),
            [(100..105, false), (105..110, false), (110..112, true)]
        );
        assert_eq!(
            lengths(10, Some(5), false),
            [(100..105, false), (105..110, false)]
        );
    }
}
