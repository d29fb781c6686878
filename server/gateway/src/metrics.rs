//! Metrics as JSON, made from Prometheus' text.
//!
//! Gauges and counters keep their names, labels and values. Of a summary or histogram the sum, the
//! count and their quotient are told; what the text does not hold (least, largest, rate) is left
//! out rather than invented.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::json::Json;

/// Names and values.
type Labels = [(String, String)];

/// One line of values.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Sums and counts of one series.
#[derive(Default)]
struct Spread {
    sum: f64,
    count: f64,
}

/// The document for the metrics in `text`, taken at `now`.
pub(crate) fn json(text: &str, now: SystemTime) -> Json {
    let kinds = kinds(text);
    let kind = |name: &str| kinds.get(name).copied().unwrap_or("gauge");
    let samples: Vec<Sample<'_>> = text.lines().filter_map(sample).collect();
    let (mut gauges, mut counters) = (Vec::new(), Vec::new());
    let mut spreads: BTreeMap<(&str, &Labels), Spread> = BTreeMap::new();
    for sample in &samples {
        let spread = |suffix| sample.name.strip_suffix(suffix).filter(|base| matches!(kind(base), "summary" | "histogram"));
        if let Some(base) = spread("_sum") {
            spreads.entry((base, &sample.labels)).or_default().sum = sample.value;
        } else if let Some(base) = spread("_count") {
            spreads.entry((base, &sample.labels)).or_default().count = sample.value;
        } else if spread("_bucket").is_none() {
            match kind(sample.name) {
                "counter" => counters.push(sample),
                "gauge" | "untyped" => gauges.push(sample),
                _ => {}
            }
        }
    }
    let mut json = Json::new();
    json.object(|json| {
        json.name("Timestamp").text(&timestamp(now));
        json.name("Gauges").array(|json| {
            for gauge in gauges {
                json.object(|json| {
                    json.name("Name").text(gauge.name).name("Value").float(gauge.value);
                    labels(json, &gauge.labels);
                });
            }
        });
        json.name("Points").array(|_| ());
        json.name("Counters").array(|json| {
            for counter in counters {
                json.object(|json| {
                    json.name("Name").text(counter.name).name("Count").float(counter.value).name("Sum").float(counter.value);
                    labels(json, &counter.labels);
                });
            }
        });
        json.name("Samples").array(|json| {
            for ((name, series), spread) in spreads {
                json.object(|json| {
                    json.name("Name").text(name).name("Count").float(spread.count).name("Sum").float(spread.sum);
                    json.name("Mean").float(if spread.count > 0.0 { spread.sum / spread.count } else { 0.0 });
                    labels(json, series);
                });
            }
        });
    });
    json
}

fn labels(json: &mut Json, labels: &Labels) {
    json.name("Labels").object(|json| {
        for (name, value) in labels {
            json.key(name).text(value);
        }
    });
}

fn kinds(text: &str) -> BTreeMap<&str, &str> {
    let declared = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    declared.filter_map(|line| line.trim().split_once(' ')).collect()
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = match line.rfind('}') {
        Some(end) => (&line[..=end], line[end + 1..].trim_start()),
        None => line.split_once(' ')?,
    };
    let value = value.split(' ').next()?.parse().ok()?;
    match series.split_once('{') {
        None => Some(Sample { name: series, labels: Vec::new(), value }),
        Some((name, rest)) => Some(Sample { name, labels: read_labels(rest.strip_suffix('}')?), value }),
    }
}

fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c)) => value.push(c),
                    None => {}
                },
                c => value.push(c),
            }
        }
        labels.push((name.trim_start_matches(',').trim().to_owned(), value));
        rest = &after[end..];
    }
    labels
}

/// `2025-01-02 15:04:05 +0000 UTC`
fn timestamp(now: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(now).to_string();
    text.replace('T', " ").replace('Z', " +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_counters_and_summaries_become_json() {
        let text = "# TYPE up gauge\nup 1\n# TYPE hits counter\nhits{path=\"/a\\\"b\",code=\"200\"} 7\n\
            # TYPE took summary\ntook{quantile=\"0.5\"} 1\ntook_sum 6\ntook_count 3\n# HELP x y\nbroken\n";
        let json = String::from_utf8(json(text, SystemTime::UNIX_EPOCH).out).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["Timestamp"], "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(value["Gauges"], serde_json::json!([{"Name": "up", "Value": 1, "Labels": {}}]));
        assert_eq!(value["Counters"][0]["Labels"], serde_json::json!({"path": "/a\"b", "code": "200"}));
        assert_eq!(value["Counters"][0]["Count"], 7);
        assert_eq!(value["Samples"], serde_json::json!([{"Name": "took", "Count": 3, "Sum": 6, "Mean": 2, "Labels": {}}]));
    }
}
