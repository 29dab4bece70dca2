//! What it means that a packet which used to pass did not.

use super::PathMtuResult;

/// What has become of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was chance.
    Passes,
    /// Large packets do not pass any more, small ones do.
    BlackHole,
    /// Nothing passes.
    Gone,
}

/// By what became of one packet of `mtu` bytes, and then of more of them and of small ones.
pub(super) fn judge(
    mtu: usize,
    first: PathMtuResult,
    large: &[PathMtuResult],
    small: &[PathMtuResult],
) -> Verdict {
    let mut answers = large.iter().filter(|result| result.is_answered());
    let all_large = || large.iter().chain([&first]);
    // Who knows the probe is on the path, or is this host: one word is enough to go and look.
    let is_refused = all_large().any(|result| match *result {
        PathMtuResult::TooBigHere { .. } => true,
        PathMtuResult::TooBig {
            mtu: said, proved, ..
        } => proved && said.is_none_or(|said| usize::try_from(said).is_ok_and(|said| said < mtu)),
        _ => false,
    });
    if answers.next().is_some() {
        Verdict::Passes
    } else if is_refused || small.iter().any(PathMtuResult::is_answered) {
        Verdict::BlackHole
    } else {
        Verdict::Gone
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LOST: PathMtuResult = PathMtuResult::Lost;
    const ANSWER: PathMtuResult = PathMtuResult::Answered {
        rtt: Duration::ZERO,
        error_code: None,
    };

    const fn too_big(mtu: Option<u32>, proved: bool) -> PathMtuResult {
        PathMtuResult::TooBig {
            from: None,
            mtu,
            proved,
        }
    }

    #[test]
    fn only_large_ones_are_lost_in_a_black_hole() {
        let judge = |large, small| judge(1500, LOST, large, small);
        assert_eq!(judge(&[LOST, LOST], &[ANSWER, LOST]), Verdict::BlackHole);
        assert_eq!(judge(&[LOST, ANSWER], &[ANSWER, ANSWER]), Verdict::Passes);
        assert_eq!(judge(&[LOST, LOST], &[LOST, LOST]), Verdict::Gone);
        assert_eq!(judge(&[ANSWER, LOST], &[LOST, LOST]), Verdict::Passes);
    }

    #[test]
    fn a_word_counts_if_it_is_proved_and_can_be() {
        let judge = |word| judge(1500, word, &[LOST], &[LOST]);
        assert_eq!(judge(too_big(Some(1400), true)), Verdict::BlackHole);
        assert_eq!(judge(too_big(None, true)), Verdict::BlackHole);
        assert_eq!(judge(too_big(Some(1400), false)), Verdict::Gone);
        assert_eq!(judge(too_big(Some(1500), true)), Verdict::Gone);
        let here = PathMtuResult::TooBigHere { mtu: None };
        assert_eq!(judge(here), Verdict::BlackHole);
    }
}
