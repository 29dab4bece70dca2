use serde_json::Value;

use super::Key;

/// Which event of a kind replaces which: for a trace one per hop, for a path MTU per size, for `QoS` per mark.
pub(super) fn key(event: &Value) -> Key {
    let number = |value: &Value| value.as_u64().and_then(|it| u32::try_from(it).ok());
    let name = event["event"].as_str().unwrap_or("probe");
    if let Some(size) = number(&event["probe"]["size"]) {
        let purpose = event["probe"]["purpose"].as_str().unwrap_or_default();
        return (size, format!("{size} {purpose}"));
    }
    if let Some(mark) = mark(&event["mark"]) {
        return (0, format!("{name} {mark}"));
    }
    if let Some(ttl) = number(&event["ttl"]) {
        return (ttl, format!("{name} {ttl}"));
    }
    if let Some(from) = number(&event["from_hop"]) {
        return (from, format!("{name} {from} {}", event["dscp"]));
    }
    (u32::MAX, name.to_owned())
}

/// Both halves of a mark.
fn mark(value: &Value) -> Option<String> {
    let half = |name: &str| value[name].as_str().map(str::to_owned);
    Some(format!("{} {}", half("dscp")?, half("ecn")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_of_each_replaces_the_one_before() {
        let hop = |ttl: u8, sent: u8| json!({"event": "hop", "ttl": ttl, "rtt": {"sent": sent}});
        assert_eq!(key(&hop(3, 1)), key(&hop(3, 2)));
        assert!(key(&hop(3, 1)) < key(&hop(12, 1)));
        assert_ne!(key(&hop(3, 1)), key(&json!({"event": "changed", "ttl": 3})));
        let probe = |size: u32| json!({"probe": {"size": size, "purpose": "search"}, "mtu": 1400});
        assert!(key(&probe(1_400)) < key(&probe(9_000)));
        let probed =
            |dscp: &str| json!({"event": "probed", "mark": {"dscp": dscp, "ecn": "not-ect"}});
        assert_ne!(key(&probed("EF")), key(&probed("CS0")));
        assert_eq!(key(&json!({"event": "round", "number": 3})).1, "round");
        assert_eq!(key(&json!(null)).1, "probe");
    }
}
