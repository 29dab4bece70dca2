use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use super::lock;
use crate::{ids, model::SelfView};

/// How many results are kept for others to see, in all and of one client.
const SHARES: usize = 1_000;
const OF_ONE: usize = 10;

/// Results that clients have shared: what they were when they were shared, by a name that nobody can guess.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    results: HashMap<String, SelfView>,
    /// The names of results and of their clients, the oldest first.
    order: VecDeque<(String, String)>,
}

impl Shares {
    /// Keeps a result of a client, in place of its oldest if it has too many, or of the oldest of all. Returns the
    /// result's name.
    pub(crate) fn add(&self, client: &str, result: SelfView) -> String {
        let id = ids::random();
        let mut kept = lock(&self.0);
        let mut own = kept
            .order
            .iter()
            .enumerate()
            .filter(|(_, (_, of))| of == client);
        let oldest_own = own.next().map(|(at, _)| at);
        // With that one.
        let one_too_many = own.count() + 1 >= OF_ONE;
        let goes = match oldest_own {
            Some(at) if one_too_many => Some(at),
            _ => (kept.order.len() == SHARES).then_some(0),
        };
        if let Some((oldest, _)) = goes.and_then(|at| kept.order.remove(at)) {
            kept.results.remove(&oldest);
        }
        kept.order.push_back((id.clone(), client.to_owned()));
        kept.results.insert(id.clone(), result);
        id
    }

    pub(crate) fn get(&self, id: &str) -> Option<SelfView> {
        lock(&self.0).results.get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientState, Timestamp, Verdict};

    fn result() -> SelfView {
        SelfView {
            state: ClientState::Connected,
            verdict: Verdict::default(),
            rtt_ms: None,
            loss: None,
            path_mtu: None,
            hops: None,
            shared: None,
            at: Timestamp::now(),
            server: "server".to_owned(),
        }
    }

    #[test]
    fn memory_is_bounded() {
        let shares = Shares::default();
        let first = shares.add("first", result());
        assert!(shares.get(&first).is_some());
        for client in 0..SHARES {
            shares.add(&client.to_string(), result());
        }
        assert!(shares.get(&first).is_none());
        let kept = lock(&shares.0);
        assert_eq!((kept.results.len(), kept.order.len()), (SHARES, SHARES));
    }

    #[test]
    fn nobody_pushes_out_what_others_have_shared() {
        let shares = Shares::default();
        let of_other = shares.add("other", result());
        let of_busy: Vec<_> = (0..SHARES).map(|_| shares.add("busy", result())).collect();
        assert!(shares.get(&of_other).is_some());
        let kept = of_busy.iter().filter(|id| shares.get(id).is_some());
        assert_eq!(kept.count(), OF_ONE);
        assert!(
            shares.get(&of_busy[SHARES - OF_ONE]).is_some(),
            "the newest are kept"
        );
    }
}
