//! What a client reports of the media that it gets back: RTCP receiver reports (RFC 3550 §6.4).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use webrtc::rtcp::{
    packet::Packet, receiver_report::ReceiverReport, reception_report::ReceptionReport,
    sender_report::SenderReport,
};

/// How long a report is news. Browsers send one about every second for video, and every five for audio.
const FRESH: Duration = Duration::from_secs(5);

/// How many streams are told apart: the client chooses which it reports on.
const STREAMS: usize = 64;

/// The loss of what is sent to one client, as it says.
#[derive(Debug, Default)]
pub(crate) struct Reception(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    streams: HashMap<u32, Counted>,
    /// Since it was last asked for: packets that were due, and those of them that were lost.
    due: u64,
    lost: u64,
    /// What was last found, and when.
    loss: Option<(Instant, f64)>,
}

/// What a report said in all.
#[derive(Clone, Copy, Debug)]
struct Counted {
    highest: u32,
    lost: u32,
}

impl Reception {
    /// Takes what came in, and leaves alone what is no report.
    pub(crate) fn heard(&self, packets: &[Box<dyn Packet + Send + Sync>]) {
        for packet in packets {
            let packet = packet.as_any();
            let reports = match (
                packet.downcast_ref::<ReceiverReport>(),
                packet.downcast_ref::<SenderReport>(),
            ) {
                (Some(report), _) => &report.reports,
                (_, Some(report)) => &report.reports,
                _ => continue,
            };
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for report in reports {
                known.report(report);
            }
        }
    }

    /// The share that was lost, 0 to 1, by what was reported since the last call, or else by what was found last, as
    /// long as it is news.
    pub(crate) fn loss(&self) -> Option<f64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.loss(Instant::now())
    }
}

impl Known {
    fn report(&mut self, report: &ReceptionReport) {
        let now = Counted {
            highest: report.last_sequence_number,
            lost: report.total_lost,
        };
        if self.streams.len() >= STREAMS && !self.streams.contains_key(&report.ssrc) {
            return;
        }
        let Some(before) = self.streams.insert(report.ssrc, now) else {
            return;
        };
        // Both wrap. What goes back is an older report that came late, or a stream that has begun again.
        let due = now.highest.wrapping_sub(before.highest);
        if due == 0 || due > u32::MAX / 2 {
            return;
        }
        self.due += u64::from(due);
        self.lost += u64::from(newly_lost(before.lost, now.lost).min(due));
    }

    #[expect(clippy::cast_precision_loss, reason = "a second has few packets")]
    fn loss(&mut self, now: Instant) -> Option<f64> {
        if self.due > 0 {
            self.loss = Some((now, self.lost as f64 / self.due as f64));
            (self.due, self.lost) = (0, 0);
        }
        self.loss
            .filter(|(at, _)| now.duration_since(*at) <= FRESH)
            .map(|(_, loss)| loss)
    }
}

/// How many were lost between two reports. The number has 24 bits and a sign: it falls when packets come twice.
fn newly_lost(before: u32, now: u32) -> u32 {
    let difference = now.wrapping_sub(before) & 0xff_ffff;
    if difference >= 0x80_0000 {
        0
    } else {
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ssrc: u32, highest: u32, lost: u32) -> ReceptionReport {
        ReceptionReport {
            ssrc,
            last_sequence_number: highest,
            total_lost: lost,
            ..ReceptionReport::default()
        }
    }

    fn heard(known: &mut Known, reports: &[ReceptionReport]) -> Option<f64> {
        for report in reports {
            known.report(report);
        }
        known.loss(Instant::now())
    }

    #[test]
    fn loss_is_what_is_new_of_all_streams() {
        let mut known = Known::default();
        assert_eq!(
            heard(&mut known, &[report(1, 1_000, 50), report(2, 7, 0)]),
            None
        );
        let loss = heard(&mut known, &[report(1, 1_090, 59), report(2, 17, 1)]);
        assert_eq!(loss, Some(0.1));
        // The same report again, by another reader.
        assert_eq!(heard(&mut known, &[report(1, 1_090, 59)]), Some(0.1));
        assert_eq!(heard(&mut known, &[report(1, 1_190, 59)]), Some(0.0));
    }

    #[test]
    fn counts_wrap_and_go_back() {
        let mut known = Known::default();
        heard(&mut known, &[report(1, u32::MAX - 4, 0xff_fffe)]);
        assert_eq!(heard(&mut known, &[report(1, 5, 0)]), Some(0.2));
        assert_eq!(heard(&mut known, &[report(1, 15, 0xff_ffff)]), Some(0.0));
        // From before: nothing is due.
        assert_eq!(heard(&mut known, &[report(1, 3, 9)]), Some(0.0));
    }

    #[test]
    fn an_old_report_is_no_news() {
        let mut known = Known::default();
        heard(&mut known, &[report(1, 0, 0)]);
        assert_eq!(heard(&mut known, &[report(1, 4, 1)]), Some(0.25));
        let later = Instant::now() + FRESH + Duration::from_secs(1);
        assert_eq!(known.loss(later), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut known = Known::default();
        for ssrc in 0..10_000 {
            known.report(&report(ssrc, 1, 0));
        }
        assert_eq!(known.streams.len(), STREAMS);
    }
}
