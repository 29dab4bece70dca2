//! Whether a scenario says what a network can do.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::IpAddr;

use super::mark::Mark;
use super::network::{LEFT, RIGHT};
use super::scenario::{Bandwidth, Hop, MAX_HOPS, Scenario, WanLink};

/// All addresses of these hops that are given.
pub(super) fn addresses(hops: &[Hop]) -> impl Iterator<Item = IpAddr> {
    hops.iter().flat_map(|hop| {
        let v4 = hop.v4.map(IpAddr::from);
        v4.into_iter().chain(hop.v6.map(IpAddr::from))
    })
}

/// Names the first field that cannot be, with its value.
pub(super) fn validate(scenario: &Scenario) -> Result<(), String> {
    let hops = &scenario.hops;
    check(
        hops.len() < MAX_HOPS.into(),
        "the number of hops",
        hops.len(),
        "must be at most 254",
    )?;
    // Linux turns IPv6 off below it (RFC 8200 §5).
    check(
        scenario.mtu >= 1280,
        "mtu",
        scenario.mtu,
        "must be at least 1280",
    )?;
    validate_link(&scenario.last_link).map_err(|e| format!("last_link.{e}"))?;
    for (number, hop) in (1..).zip(hops) {
        validate_hop(hop).map_err(|e| format!("hop {number}: {e}"))?;
    }
    let mut seen = HashSet::from([LEFT.v4, LEFT.v6, RIGHT.v4, RIGHT.v6]);
    let outside = hops.iter().filter_map(|hop| hop.nat);
    let outside = outside.flat_map(|nat| [nat.v4.map(IpAddr::from), nat.v6.map(IpAddr::from)]);
    addresses(hops)
        .chain(outside.flatten())
        .try_for_each(|address| {
            check(
                seen.insert(address),
                "address",
                address,
                "belongs to another node too",
            )
        })
}

fn validate_hop(hop: &Hop) -> Result<(), String> {
    validate_link(&hop.link).map_err(|e| format!("link.{e}"))?;
    if let Some(mtu) = hop.mtu {
        // The smallest that an IPv4 packet can always be cut to (RFC 791 §3.2).
        check(mtu >= 68, "mtu", mtu, "must be at least 68")?;
    }
    if let Some(rate) = hop.icmp_rate {
        check(
            rate.per_second.is_finite() && rate.per_second >= 0.0,
            "icmp_rate.per_second",
            rate.per_second,
            "must not be negative",
        )?;
    }
    check(hop.icmp_ttl > 0, "icmp_ttl", hop.icmp_ttl, "must not be 0")?;
    if let Some(quote) = hop.quote {
        check(
            quote >= 8,
            "quote",
            quote,
            "must be at least 8 (RFC 792), bytes after the IP header",
        )?;
    }
    for entry in &hop.mpls {
        check(
            entry.label < 1 << 20,
            "mpls.label",
            entry.label,
            "must have at most 20 bits",
        )?;
        check(
            entry.class < 8,
            "mpls.class",
            entry.class,
            "must have at most 3 bits",
        )?;
    }
    if let Some(name) = &hop.interface_name {
        check(
            (1..=63).contains(&name.len()),
            "interface_name",
            name,
            "must have 1 to 63 bytes",
        )?;
    }
    for rule in hop.mark.iter().chain(&hop.mark_back) {
        validate_mark(*rule)?;
    }
    for dscp in &hop.dead_dscp {
        check_dscp("dead_dscp", *dscp)?;
    }
    for slow in &hop.slow_dscp {
        check_dscp("slow_dscp.dscp", slow.dscp)?;
    }
    hop.bandwidth.map_or(Ok(()), validate_bandwidth)
}

fn validate_link(link: &WanLink) -> Result<(), String> {
    let losses = [("loss", Some(link.loss)), ("loss_back", link.loss_back)];
    for (field, loss) in losses {
        if let Some(loss) = loss {
            check(
                (0.0..=1.0).contains(&loss),
                field,
                loss,
                "must be a probability, 0.0 to 1.0",
            )?;
        }
    }
    Ok(())
}

fn validate_mark(rule: Mark) -> Result<(), String> {
    match rule {
        Mark::RemarkTos(precedence) => check(
            (1..8).contains(&precedence),
            "mark.remark_tos",
            precedence,
            "must be 1 to 7",
        ),
        Mark::RemarkDscp(dscp) => check_dscp("mark.remark_dscp", dscp),
        Mark::Map { from, to } => {
            check_dscp("mark.map.from", from)?;
            check_dscp("mark.map.to", to)
        }
        _ => Ok(()),
    }
}

fn validate_bandwidth(bandwidth: Bandwidth) -> Result<(), String> {
    check(
        bandwidth.bits_per_second > 0,
        "bandwidth.bits_per_second",
        bandwidth.bits_per_second,
        "must not be 0",
    )?;
    bandwidth
        .priority
        .map_or(Ok(()), |dscp| check_dscp("bandwidth.priority", dscp))
}

fn check_dscp(field: &str, dscp: u8) -> Result<(), String> {
    check(dscp < 64, field, dscp, "must be a DSCP, 0 to 63")
}

fn check(good: bool, field: &str, value: impl Display, rule: &str) -> Result<(), String> {
    if good {
        Ok(())
    } else {
        Err(format!("{field} = {value}: {rule}"))
    }
}
