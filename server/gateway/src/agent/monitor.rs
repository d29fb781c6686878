//! What flows from the agent for as long as somebody reads it: its log, its metrics.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use service::monitor::{Level, Line, Lines, Told};
use tokio_util::sync::CancellationToken;

use crate::json::Json;
use crate::metrics as parse;
use crate::reply::{Content, Reply};
use crate::request::Ask;
use crate::status::{Fault, Outcome};
use crate::{Gateway, MetricsText};

/// Time between two pictures of the metrics.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);

/// `GET /v1/agent/monitor`
pub(crate) fn monitor(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let name = ask.params.get("loglevel").unwrap_or("info");
    let level = Level::parse(name).ok_or_else(|| Fault::bad(format!("Unknown log level: {name}")))?;
    let Some(feed) = &gateway.options.monitor else {
        return Err(Fault::unsupported("This agent does not hand out its log"));
    };
    let as_json = ask.params.has("logjson");
    let lines = gateway.service.monitor(&ask.caller, feed, level)?;
    let body = stream::unfold((lines, ask.stop.clone().unwrap_or_default()), move |(mut lines, stop)| async move {
        let piece = next_line(&mut lines, &stop, as_json).await?;
        Some((Ok::<Bytes, Infallible>(piece), (lines, stop)))
    });
    Ok(flowing(Body::from_stream(body), if as_json { "application/x-ndjson" } else { "text/plain; charset=utf-8" }))
}

async fn next_line(lines: &mut Lines, stop: &CancellationToken, as_json: bool) -> Option<Bytes> {
    let told = stop.run_until_cancelled(lines.next()).await??;
    let mut text = String::new();
    if let Some(lost) = lost(&told) {
        push(&mut text, &lost, as_json);
    }
    push(&mut text, &told.line, as_json);
    Some(text.into())
}

/// A line in the place of those that are missing.
fn lost(told: &Told) -> Option<Line> {
    (told.dropped > 0).then(|| Line {
        time: told.line.time,
        level: Level::Warn,
        target: "monitor".into(),
        message: "lines are missing here, because this reader was slow".into(),
        fields: vec![("dropped".into(), told.dropped.to_string())],
    })
}

fn push(text: &mut String, line: &Line, as_json: bool) {
    let time = humantime::format_rfc3339_millis(line.time);
    if as_json {
        let mut json = Json::new();
        json.object(|json| {
            json.name("@level").text(line.level.name());
            json.name("@message").text(&line.message);
            json.name("@module").text(&line.target);
            json.name("@timestamp").text(&time.to_string());
            for (name, value) in &line.fields {
                json.key(name).text(value);
            }
        });
        text.push_str(&String::from_utf8_lossy(&json.out));
    } else {
        let level = format!("[{}]", line.level.name().to_ascii_uppercase());
        text.push_str(&format!("{time} {level:<7} {}: {}", line.target, one_line(&line.message)));
        for (at, (name, value)) in line.fields.iter().enumerate() {
            let before = if at == 0 { ":" } else { "" };
            text.push_str(&format!("{before} {name}={}", one_line(value)));
        }
    }
    text.push('\n');
}

/// A line stays one, whatever a value holds.
fn one_line(text: &str) -> String {
    text.replace('\r', "\\r").replace('\n', "\\n")
}

/// `GET /v1/agent/metrics/stream`
pub(crate) fn metrics_stream(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let Some(metrics) = gateway.options.metrics.clone() else {
        return Err(Fault::unsupported("This agent does not collect metrics"));
    };
    let mut tick = tokio::time::interval(METRICS_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let pictures = (metrics, ask.stop.clone().unwrap_or_default(), tick);
    let body = stream::unfold(pictures, |(metrics, stop, mut tick)| async move {
        stop.run_until_cancelled(tick.tick()).await?;
        Some((Ok::<Bytes, Infallible>(picture(&metrics)), (metrics, stop, tick)))
    });
    Ok(flowing(Body::from_stream(body), "application/json"))
}

fn picture(metrics: &MetricsText) -> Bytes {
    let mut json = parse::json(&metrics(), SystemTime::now());
    json.out.push(b'\n');
    json.out.into()
}

fn flowing(body: Body, kind: &'static str) -> Reply {
    Reply { content: Content::Stream(body), ..Reply::empty() }.with(CONTENT_TYPE, HeaderValue::from_static(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        let fields = vec![("check".into(), "web".into()), ("output".into(), "a\nb".into())];
        Line { time: SystemTime::UNIX_EPOCH, level: Level::Info, target: "lictor_checks".into(), message: "said".into(), fields }
    }

    #[test]
    fn a_line_is_one_line_in_both_forms() {
        let mut text = String::new();
        push(&mut text, &line(), false);
        assert_eq!(text, "1970-01-01T00:00:00.000Z [INFO]  lictor_checks: said: check=web output=a\\nb\n");
        let mut json = String::new();
        push(&mut json, &line(), true);
        assert_eq!(json.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["@level"], "info");
        assert_eq!(value["@message"], "said");
        assert_eq!(value["output"], "a\nb");
    }

    #[test]
    fn a_gap_is_told_in_its_place() {
        let told = Told { line: line().into(), dropped: 7 };
        assert_eq!(lost(&told).unwrap().fields, [("dropped".to_owned(), "7".to_owned())]);
        assert!(lost(&Told { dropped: 0, ..told }).is_none());
    }
}
