use serde_json::{Map, Number, Value};

use super::Sample;

/// What is a state and not an amount: there is no such thing as half of two TTLs.
const STATES: [&str; 2] = ["received_ttl", "received_tos"];

/// Makes at most `limit` samples of samples in the order of time, by averaging those that are near each other.
pub(super) fn thin(samples: Vec<Sample>, limit: usize) -> Vec<Sample> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return samples;
    };
    if samples.len() <= limit || limit == 0 {
        return samples;
    }
    let start = first.at;
    let span = i128::from(last.at) - i128::from(start);
    let width = span / limit as i128 + 1;
    samples
        .chunk_by(|a, b| part(a.at, start, width) == part(b.at, start, width))
        .map(average)
        .collect()
}

fn part(at: i64, start: i64, width: i128) -> i128 {
    (i128::from(at) - i128::from(start)) / width
}

/// One sample in the middle of others, of which there is at least one.
fn average(samples: &[Sample]) -> Sample {
    let times: i128 = samples.iter().map(|sample| i128::from(sample.at)).sum();
    let middle = times / samples.len() as i128;
    let data: Vec<_> = samples.iter().map(|sample| &sample.data).collect();
    Sample {
        client: samples[0].client.clone(),
        at: i64::try_from(middle).unwrap_or(samples[0].at),
        data: of("", &data),
    }
}

/// Numbers are averaged, those that are not there left out; of anything else the last is taken.
fn of(name: &str, values: &[&Value]) -> Value {
    let Some(last) = values.iter().rev().find(|value| !value.is_null()) else {
        return Value::Null;
    };
    match last {
        Value::Number(last) if !STATES.contains(&name) => {
            let numbers: Vec<_> = values.iter().filter_map(|value| value.as_f64()).collect();
            mean(&numbers, last.is_f64()).map_or(Value::Null, Value::Number)
        }
        Value::Object(last) => Value::Object(members(last, values)),
        last => (*last).clone(),
    }
}

fn members(last: &Map<String, Value>, values: &[&Value]) -> Map<String, Value> {
    let of_member = |name: &String| {
        let values: Vec<_> = values.iter().filter_map(|value| value.get(name)).collect();
        (name.clone(), of(name, &values))
    };
    last.keys().map(of_member).collect()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "rates and counts are far below 2^53"
)]
fn mean(numbers: &[f64], fraction: bool) -> Option<Number> {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    if fraction || numbers.iter().any(|number| number.fract() != 0.0) {
        Number::from_f64(mean)
    } else {
        Some((mean.round() as i64).into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn samples(count: i64, data: impl Fn(i64) -> Value) -> Vec<Sample> {
        (0..count)
            .map(|second| Sample {
                client: "a".into(),
                at: second * 1_000,
                data: data(second),
            })
            .collect()
    }

    #[test]
    fn few_stay_as_they_are() {
        let all = samples(10, |second| json!({"rtt_ms": second}));
        assert_eq!(thin(all.clone(), 10), all);
        assert_eq!(thin(Vec::new(), 10), []);
    }

    #[test]
    fn many_are_averaged() {
        let all = samples(10, |second| {
            json!({
                "rtt_ms": if second % 2 == 0 { Value::Null } else { json!(1.5) },
                "loss": null,
                "received_ttl": 50 + second,
                "received_dscp": if second < 9 { "CS0" } else { "EF" },
                "classes": {"srtp": {"sent_packets": second}},
            })
        });
        let thinned = thin(all, 2);
        assert_eq!(thinned.len(), 2);
        assert_eq!((thinned[0].at, thinned[1].at), (2_000, 7_000));
        let expected = json!({
            "rtt_ms": 1.5,
            "loss": null,
            "received_ttl": 59,
            "received_dscp": "EF",
            "classes": {"srtp": {"sent_packets": 7}},
        });
        assert_eq!(thinned[1].data, expected);
    }

    #[test]
    fn there_are_never_more_than_asked_for() {
        for limit in 1..20 {
            let all = samples(97, |second| json!({"rtt_ms": second}));
            assert!(thin(all, limit).len() <= limit);
        }
    }

    #[test]
    fn samples_of_one_moment_and_of_all_time() {
        let mut all = samples(4, |second| json!(second));
        for sample in &mut all {
            sample.at = 7;
        }
        assert_eq!(thin(all.clone(), 1).len(), 1);
        all[0].at = i64::MIN;
        all[3].at = i64::MAX;
        assert!(thin(all, 2).len() <= 2);
    }
}
