use std::{num::NonZeroU64, task::Waker};

/// Who waits for a datagram. webrtc-ice reads with one loop for each of its candidates, and mostly there is one.
#[derive(Debug, Default)]
pub(super) struct Readers {
    first: Option<Waiting>,
    more: Option<Box<More>>,
    tickets: u64,
}

/// It is rarely there, and so far away.
#[derive(Debug, Default)]
struct More(Vec<Waiting>);

/// The name of one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(NonZeroU64);

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    /// `None` once it was woken.
    waker: Option<Waker>,
}

impl Readers {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.as_ref().is_none_or(|more| more.0.is_empty())
    }

    /// Lets a reader wait, who may have done so before, until it is [woken](Self::wake). A waker that it had then is
    /// returned: to drop it can call what is not ours, so that must not be done with a lock.
    #[inline]
    pub(super) fn wait(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) -> Option<Waker> {
        if let Some(ticket) = *ticket
            && let Some(waiting) = self.all().find(|waiting| waiting.ticket == ticket)
        {
            return match &waiting.waker {
                Some(known) if known.will_wake(waker) => None,
                _ => waiting.waker.replace(waker.clone()),
            };
        }
        self.tickets = self.tickets.wrapping_add(1);
        let new = Ticket(NonZeroU64::new(self.tickets).unwrap_or(NonZeroU64::MAX));
        *ticket = Some(new);
        let waiting = Waiting {
            ticket: new,
            waker: Some(waker.clone()),
        };
        // Whoever came first is woken first.
        if self.is_empty() {
            self.first = Some(waiting);
        } else {
            self.more.get_or_insert_default().0.push(waiting);
        }
        None
    }

    /// A reader waits no longer. Its waker is returned, unless it was woken.
    #[inline]
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let of = |waiting: &Waiting| waiting.ticket == ticket;
        let left = if self.first.as_ref().is_some_and(of) {
            self.first.take()
        } else if let Some(More(more)) = self.more.as_deref_mut() {
            more.iter().position(of).map(|at| more.remove(at))
        } else {
            None
        };
        left.and_then(|waiting| waiting.waker)
    }

    /// The next who is to be woken; it counts as woken from now on.
    #[inline]
    pub(super) fn wake(&mut self) -> Option<Waker> {
        self.all().find_map(|waiting| waiting.waker.take())
    }

    /// All of them.
    pub(super) fn wake_all(&mut self) -> Vec<Waker> {
        self.all()
            .filter_map(|waiting| waiting.waker.take())
            .collect()
    }

    #[inline]
    fn all(&mut self) -> impl Iterator<Item = &mut Waiting> {
        let more = self.more.iter_mut().flat_map(|more| &mut more.0);
        self.first.iter_mut().chain(more)
    }
}
