use super::*;
use crate::pmtu::{Whose, search::STEP};

const OVERHEAD: usize = OVERHEAD_V4;
const SMALLEST: usize = 120;

/// A path, and the peer behind it.
#[derive(Clone, Copy)]
struct Path {
    mtu: usize,
    /// The largest STUN message that the peer takes.
    stun: usize,
    drops_fragments: bool,
    /// Probes of this number on get no answer, so many of them.
    outage: (usize, usize),
}

const WIDE: Path = Path {
    mtu: 65_535,
    stun: 65_535,
    drops_fragments: false,
    outage: (0, 0),
};

impl Path {
    fn result(&self, number: usize, question: &Question) -> PathMtuResult {
        let (from, length) = self.outage;
        let is_out = (from..from + length).contains(&number);
        let passes = question.size <= self.mtu || (!question.df && !self.drops_fragments);
        if !is_out && passes && question.size - OVERHEAD <= self.stun {
            PathMtuResult::Answered {
                rtt: Duration::from_millis(20),
                error_code: None,
            }
        } else {
            PathMtuResult::Lost
        }
    }

    fn small(&self, number: usize, question: &Question) -> Option<PathMtuResult> {
        let size = question.small?;
        Some(self.result(number, &Question { size, ..*question }))
    }

    fn measure(&self, config: &PathMtuConfig) -> Result<PathMtuReport, NoAnswer> {
        let mut plan = Plan::new(config, OVERHEAD, SMALLEST);
        let mut number = 0;
        while let Some(question) = plan.next() {
            assert_eq!(question.options.df_bit, Some(question.df));
            assert!(number < 100, "no end: {plan:?}");
            let result = self.result(number, &question);
            plan.heard(&question, result, self.small(number, &question))?;
            number += 1;
        }
        Ok(plan.report(0))
    }
}

fn jumbo() -> PathMtuConfig {
    PathMtuConfig {
        cap: Some(9000),
        ..PathMtuConfig::default()
    }
}

#[test]
fn a_path_that_carries_the_cap() {
    let report = WIDE.measure(&jumbo()).expect("a report");
    assert_eq!((report.mtu, report.exact, report.upper), (9000, true, None));
    assert_eq!(report.how.len(), 2);
    assert_eq!(report.peer_limit, None);
    assert_eq!(report.room.udp_payload, 8972);
}

#[test]
fn a_path_that_carries_less_is_told_from_a_peer_that_takes_less() {
    let path = Path { mtu: 1500, ..WIDE };
    let report = path.measure(&jumbo()).expect("a report");
    assert_eq!((report.mtu, report.peer_limit), (1500, None));
    let fragmentable = |probe: &&PathMtuProbe| probe.purpose == PathMtuPurpose::Fragmentable;
    let asked: Vec<_> = report.how.iter().filter(fragmentable).collect();
    assert!(matches!(asked[..], [probe] if probe.size == 4000 && probe.result.is_answered()));
}

#[test]
fn limits_of_peers_are_found_to_the_byte() {
    for (stun, refine) in KNOWN
        .into_iter()
        .flat_map(|stun| [(stun, false), (stun, true)])
    {
        let path = Path { stun, ..WIDE };
        let config = PathMtuConfig { refine, ..jumbo() };
        let report = path.measure(&config).expect("a report");
        assert_eq!(report.mtu, stun + OVERHEAD, "{report:?}");
        assert_eq!(report.upper, Some(stun + OVERHEAD + STEP));
        let limit = report.peer_limit.expect("a limit");
        assert_eq!((limit.stun, limit.whose), (stun, Whose::Peer));
        assert!(!report.exact, "the path may carry more");
    }
}

#[test]
fn a_path_that_drops_fragments_may_be_the_peer() {
    let path = Path {
        mtu: 1500,
        drops_fragments: true,
        ..WIDE
    };
    let report = path.measure(&jumbo()).expect("a report");
    assert_eq!(report.mtu, 1500);
    let limit = report.peer_limit.expect("suspected");
    assert_eq!(limit.whose, Whose::PeerOrPath);
}

#[test]
fn where_nobody_is_there_is_no_result() {
    let path = Path {
        mtu: 0,
        drops_fragments: true,
        ..WIDE
    };
    let nobody = path.measure(&jumbo()).expect_err("nobody");
    assert_eq!(nobody.probes, REACH_PROBES);
}

#[test]
fn an_outage_is_not_taken_for_a_narrow_path() {
    // It begins at any probe and lasts for some.
    let config = PathMtuConfig {
        cap: Some(1500),
        ..PathMtuConfig::default()
    };
    for mtu in [1500, 1492, 1400] {
        for outage in (0..9).flat_map(|begin| (1..9).map(move |length| (begin, length))) {
            let path = Path {
                mtu,
                outage,
                ..WIDE
            };
            match path.measure(&config) {
                Ok(report) => assert_eq!(report.mtu, mtu, "{outage:?}: {report:?}"),
                Err(nobody) => assert!(outage.1 >= 5 && nobody.probes == REACH_PROBES),
            }
        }
    }
}

#[test]
fn an_outage_is_given_time_to_end() {
    let mut plan = Plan::new(&PathMtuConfig::default(), OVERHEAD, SMALLEST);
    let mut timeouts = Vec::new();
    let nobody = loop {
        let question = plan.next().expect("a question");
        timeouts.push(question.timeout);
        // All but the first are lost.
        let answer = WIDE.result(0, &question);
        let lost = PathMtuResult::Lost;
        let (large, small) = match timeouts.len() {
            1 => (answer, None),
            _ => (lost, question.small.map(|_| lost)),
        };
        if let Err(nobody) = plan.heard(&question, large, small) {
            break nobody;
        }
    };
    assert_eq!(nobody.probes, REACH_PROBES);
    let patient = timeouts.iter().rev().take(4);
    assert!(patient.copied().all(|timeout| timeout == UNKNOWN_RTT));
    assert_eq!(timeouts[1], SHORTEST_TIMEOUT);
}

#[test]
fn the_first_timeout_is_a_second_and_then_it_is_by_the_round_trip() {
    let mut plan = Plan::new(&PathMtuConfig::default(), OVERHEAD, SMALLEST);
    let first = plan.next().expect("a question");
    assert_eq!(
        (first.purpose, first.timeout),
        (PathMtuPurpose::Reach, UNKNOWN_RTT)
    );
    let answer = |rtt| PathMtuResult::Answered {
        rtt: Duration::from_millis(rtt),
        error_code: None,
    };
    plan.heard(&first, answer(20), None).expect("somebody");
    let second = plan.next().expect("a question");
    assert_eq!(second.timeout, SHORTEST_TIMEOUT);
    plan.heard(&second, answer(300), None).expect("somebody");
    assert_eq!(
        timeout(&PathMtuConfig::default(), plan.rtt),
        Duration::from_millis(900)
    );
    let config = PathMtuConfig {
        timeout: Some(Duration::from_millis(7)),
        ..PathMtuConfig::default()
    };
    assert_eq!(timeout(&config, plan.rtt), Duration::from_millis(7));
}

#[test]
fn what_routers_say_is_kept() {
    let mut plan = Plan::new(&jumbo(), OVERHEAD, SMALLEST);
    let from = Some([192, 0, 2, 1].into());
    for mtu in [None, Some(1400), None] {
        let question = plan.next().expect("a question");
        let result = match mtu {
            Some(mtu) => PathMtuResult::TooBig {
                from,
                mtu: Some(mtu),
                proved: true,
            },
            None => WIDE.result(0, &question),
        };
        plan.heard(&question, result, None).expect("somebody");
    }
    assert_eq!(plan.next(), None);
    let report = plan.report(3);
    assert_eq!(
        (report.mtu, report.exact, report.upper),
        (1400, true, Some(1401))
    );
    assert!(matches!(
        report.hints[..],
        [PathMtuHint {
            outcome: HintUse::Tried,
            size: 9000,
            ..
        }]
    ));
    assert_eq!(report.hints[0].from, from);
    assert_eq!(report.stray_icmp, 3);
    let json = serde_json::to_value(&report).expect("serialises");
    assert_eq!(json["how"][1]["result"], "too_big");
    assert_eq!(json["how"][0]["rtt_us"], 20_000.0);
    assert_eq!(json["ip_header"], 20);
    assert_eq!(json["rtt_us"], 20_000.0);
}
