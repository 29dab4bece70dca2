//! What the routers did.

/// What a simulated network did with the packets so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Each router's, from left to right.
    pub hops: Vec<HopCounters>,
    /// Packets lost on the link between the last router and the right host.
    pub lost_on_last_link: u64,
    /// Packets handed to the left host, ICMP errors included.
    pub delivered_left: u64,
    /// Packets handed to the right host.
    pub delivered_right: u64,
    /// Packets that a host did not take, because its device had no room.
    pub refused: u64,
}

/// What one router did, and the link on its left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HopCounters {
    /// Packets sent on towards the right; each fragment is one.
    pub forwarded_out: u64,
    /// Packets sent on towards the left.
    pub forwarded_back: u64,
    /// Packets lost on the link on its left.
    pub lost: u64,
    /// Packets whose TTL or hop limit ran out.
    pub expired: u64,
    /// Packets too big for the next link that were refused, said or unsaid.
    pub too_big: u64,
    /// Packets that were cut.
    pub fragmented: u64,
    /// Packets whose DSCP is dead here.
    pub dead_dscp: u64,
    /// Packets for which the queue had no room.
    pub queue_full: u64,
    /// Packets that the NAT had no mapping for.
    pub no_mapping: u64,
    /// Packets addressed to the router itself, which has nothing to say.
    pub for_itself: u64,
    /// ICMP errors sent.
    pub icmp_sent: u64,
    /// ICMP errors kept back by the limit on their rate.
    pub icmp_limited: u64,
    /// ICMP errors kept back because the router is silent.
    pub icmp_silent: u64,
}
