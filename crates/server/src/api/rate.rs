//! How often an address may ask: a bucket of tokens for each.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::time::Instant;

use super::{App, auth};
use crate::problem::Problem;

/// How many addresses are told apart. What more there are share one bucket.
const ADDRESSES: usize = 10_000;

/// The buckets.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    burst: f64,
    buckets: Mutex<HashMap<Option<IpAddr>, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: per_second.into(),
            burst: burst.into(),
            buckets: Mutex::default(),
        }
    }

    /// Whether there is that much for this address, which is taken then.
    fn take(&self, address: Option<IpAddr>, cost: f64, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket {
            tokens: self.burst,
            at: now,
        };
        let mut key = address.map(network);
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&key) {
            // What is full again is as good as new.
            buckets.retain(|_, bucket| bucket.now(now, self).tokens < self.burst);
            if buckets.len() >= ADDRESSES {
                key = None;
            }
        }
        let bucket = buckets.entry(key).or_insert(full);
        *bucket = bucket.now(now, self);
        let admitted = bucket.tokens >= cost;
        // What was refused is not paid for, but for an attempt that costs more than there is.
        if admitted || cost > 1.0 {
            bucket.tokens = (bucket.tokens - cost).max(-self.burst);
        }
        admitted
    }
}

impl Bucket {
    fn now(self, now: Instant, rate: &Rate) -> Self {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        Self {
            tokens: (self.tokens + since * rate.per_second).min(rate.burst),
            at: now,
        }
    }
}

/// A host of IPv6 has all addresses of its network (RFC 6177).
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Takes that much for this address.
pub(super) fn admit(rate: &Rate, address: Option<IpAddr>, cost: f64) -> bool {
    rate.take(address, cost, Instant::now())
}

/// Turns away those who ask too often.
pub(super) async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    if admit(&app.rate, auth::client(request.extensions()), 1.0) {
        next.run(request).await
    } else {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many requests from this address",
        )
        .into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn each_address_has_its_own_bucket_that_fills_again() {
        let (rate, now) = (Rate::new(2, 3), Instant::now());
        for _ in 0..3 {
            assert!(rate.take(Some(address(1)), 1.0, now));
        }
        assert!(!rate.take(Some(address(1)), 1.0, now));
        assert!(rate.take(Some(address(2)), 1.0, now));
        let later = now + Duration::from_secs(1);
        assert!(rate.take(Some(address(1)), 1.0, later));
        assert!(rate.take(Some(address(1)), 1.0, later));
        assert!(!rate.take(Some(address(1)), 1.0, later));
    }

    #[test]
    fn what_costs_more_empties_the_bucket() {
        let (rate, now) = (Rate::new(1, 30), Instant::now());
        assert!(rate.take(Some(address(1)), 20.0, now));
        assert!(!rate.take(Some(address(1)), 20.0, now));
        assert!(!rate.take(Some(address(1)), 1.0, now));
        // It is paid for, with what comes later.
        let later = now + Duration::from_secs(10);
        assert!(!rate.take(Some(address(1)), 1.0, later));
        assert!(rate.take(Some(address(1)), 1.0, later + Duration::from_secs(2)));
    }

    #[test]
    fn memory_is_bounded_and_a_network_counts_once() {
        let (rate, now) = (Rate::new(1, 2), Instant::now());
        let of = |n: u128| {
            Some(IpAddr::from(Ipv6Addr::from_bits(
                (0x2001 << 112) | (n << 64) | n,
            )))
        };
        for n in 0..2 * ADDRESSES as u128 {
            rate.take(of(n), 1.0, now);
        }
        let buckets = rate.buckets.lock().unwrap();
        assert!(buckets.len() <= ADDRESSES + 1);
        drop(buckets);
        let neighbours = [1, 2].map(|host| Some(IpAddr::from(Ipv6Addr::from_bits(host))));
        let rate = Rate::new(1, 1);
        assert!(rate.take(neighbours[0], 1.0, now));
        assert!(!rate.take(neighbours[1], 1.0, now));
    }
}
