//! Which control messages the kernel does not know.

use std::{
    io,
    sync::atomic::{AtomicU8, Ordering},
};

/// One field that a control message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Ttl,
    Tos,
    DontFragment,
    FlowLabel,
    Timestamp,
}

impl Field {
    pub(super) const ALL: [Self; 5] = [
        Self::Timestamp,
        Self::FlowLabel,
        Self::Tos,
        Self::Ttl,
        Self::DontFragment,
    ];

    #[inline]
    pub(super) const fn bit(self) -> u8 {
        match self {
            Self::Ttl => 1,
            Self::Tos => 2,
            Self::DontFragment => 4,
            Self::FlowLabel => 8,
            Self::Timestamp => 16,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Ttl => "TTL",
            Self::Tos => "TOS",
            Self::DontFragment => "don't-fragment",
            Self::FlowLabel => "flow label",
            Self::Timestamp => "timestamp",
        }
    }
}

/// The control messages that the kernel has refused.
#[derive(Debug, Default)]
pub(super) struct Refused(AtomicU8);

impl Refused {
    #[inline]
    pub(super) fn bits(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Remembers the refusal, and warns the first time.
    fn mark(&self, field: Field) {
        if self.0.fetch_or(field.bit(), Ordering::Relaxed) & field.bit() == 0 {
            tracing::warn!(
                "the kernel refuses the {} control message: datagrams go out without it from now on",
                field.name()
            );
        }
    }
}

/// What kernels say that do not know a control message: `EINVAL` mostly, `EIO` from some Androids.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO))
}

/// Sends the same datagram again without one of the fields that the kernel may refuse, then without
/// all of these, and remembers which one it was.
///
/// `suspects` is asked first, because an error of something else may be over just when a field is left
/// out. Alone it is no proof: a system may refuse the question.
pub(super) fn degrade(
    error: io::Error,
    refused: &Refused,
    present: impl Iterator<Item = Field>,
    mut attempt: impl FnMut(u8) -> io::Result<usize>,
    suspects: impl Fn(Field) -> bool,
) -> io::Result<usize> {
    let known = refused.bits();
    match attempt(known) {
        Err(again) if is_refusal(&again) => {}
        // It was about something else, and is over.
        result => return result,
    }
    let mut all = known;
    for field in present.filter(|field| suspects(*field)) {
        all |= field.bit();
        match attempt(known | field.bit()) {
            Err(again) if is_refusal(&again) => {}
            result => {
                if result.is_ok() {
                    refused.mark(field);
                }
                return result;
            }
        }
    }
    if all == known {
        return Err(error);
    }
    let sent = attempt(all)?;
    for field in Field::ALL
        .into_iter()
        .filter(|field| all & !known & field.bit() != 0)
    {
        refused.mark(field);
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that knows only some of the control messages, and counts what went out.
    fn kernel(known: &'static [Field], sent: &mut Vec<u8>) -> impl FnMut(u8) -> io::Result<usize> {
        move |without| {
            let unknown = Field::ALL
                .into_iter()
                .filter(|field| !known.contains(field));
            if unknown.clone().any(|field| without & field.bit() == 0) {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            sent.push(without);
            Ok(1)
        }
    }

    fn einval() -> io::Error {
        io::Error::from_raw_os_error(libc::EINVAL)
    }

    #[test]
    fn one_refused_field_is_found_and_the_datagram_goes_out_once() {
        let refused = Refused::default();
        let mut sent = Vec::new();
        let known = &[
            Field::Ttl,
            Field::DontFragment,
            Field::FlowLabel,
            Field::Timestamp,
        ];
        let attempt = kernel(known, &mut sent);
        let suspects = |field| !known.contains(&field);
        degrade(
            einval(),
            &refused,
            Field::ALL.into_iter(),
            attempt,
            suspects,
        )
        .expect("sent");
        assert_eq!(
            (refused.bits(), sent),
            (Field::Tos.bit(), vec![Field::Tos.bit()])
        );
    }

    #[test]
    fn where_several_are_refused_it_goes_out_without_any() {
        let refused = Refused::default();
        let mut sent = Vec::new();
        let known = &[Field::DontFragment, Field::FlowLabel, Field::Timestamp];
        let attempt = kernel(known, &mut sent);
        degrade(
            einval(),
            &refused,
            [Field::Ttl, Field::Tos].into_iter(),
            attempt,
            |field| !known.contains(&field),
        )
        .expect("sent");
        assert_eq!(
            (refused.bits(), sent.len()),
            (Field::Ttl.bit() | Field::Tos.bit(), 1)
        );
    }

    #[test]
    fn a_datagram_that_cannot_go_keeps_its_error_and_marks_nothing() {
        let refused = Refused::default();
        let all = |_| true;
        let result = degrade(
            einval(),
            &refused,
            [Field::Ttl].into_iter(),
            |_| Err(einval()),
            all,
        );
        assert_eq!(
            result.expect_err("refused").raw_os_error(),
            Some(libc::EINVAL)
        );
        let result = degrade(
            einval(),
            &refused,
            std::iter::empty(),
            |_| Err(einval()),
            all,
        );
        assert!(result.is_err(), "nothing to leave out");
        // An error of something else is over by the time of the next try.
        degrade(einval(), &refused, [Field::Ttl].into_iter(), |_| Ok(1), all).expect("sent");
        assert_eq!(refused.bits(), 0);
    }

    /// Whatever it was, it may be over by any of the tries.
    #[test]
    fn a_field_that_the_kernel_takes_is_never_left_out() {
        let refused = Refused::default();
        for fails in 0..4 {
            let mut sent = Vec::new();
            let mut tries = 0;
            let attempt = |without| {
                tries += 1;
                if tries <= fails {
                    return Err(einval());
                }
                sent.push(without);
                Ok(1)
            };
            let present = [Field::Tos, Field::Ttl].into_iter();
            let result = degrade(einval(), &refused, present, attempt, |_| false);
            assert_eq!(result.is_ok(), fails == 0);
            assert!(sent.iter().all(|without| *without == 0), "{sent:?}");
        }
        assert_eq!(refused.bits(), 0);
    }

    /// A system that knows all fields but one, and refuses to be asked.
    #[test]
    fn where_the_question_is_refused_the_tries_decide() {
        let refused = Refused::default();
        let mut sent = Vec::new();
        let known = &[
            Field::Tos,
            Field::DontFragment,
            Field::FlowLabel,
            Field::Timestamp,
        ];
        let attempt = kernel(known, &mut sent);
        degrade(einval(), &refused, Field::ALL.into_iter(), attempt, |_| {
            true
        })
        .expect("sent");
        assert_eq!(
            (refused.bits(), sent),
            (Field::Ttl.bit(), vec![Field::Ttl.bit()])
        );
    }
}
