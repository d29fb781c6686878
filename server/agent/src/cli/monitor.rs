//! `lictor monitor`: the log of the agent as it is written, until the agent or the reader ends.

use std::process::ExitCode;
use std::time::SystemTime;

use lictor_client::v1::{self, LogLevel};
use serde_json::{Map, Value};

use crate::cli::connect::Connection;
use crate::cli::output::print_line;

/// Show the log of the agent as it is written
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Monitor {
    /// The least grave lines to show: trace, debug, info, warn or err
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level)]
    log_level: LogLevel,
    /// One JSON object a line
    #[arg(long)]
    log_json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Monitor {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.connection.client_of_this_agent("monitor").await?;
        let mut lines = client.agent().monitor(self.log_level).await?;
        while let Some(line) = lines.next().await? {
            if line.dropped > 0 {
                complain!("{} lines are missing here, because they came faster than they were read", line.dropped);
            }
            print_line(if self.log_json { json(&line) } else { text(&line) })?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn level(name: &str) -> Result<LogLevel, String> {
    Ok(match name.parse::<crate::config::LogLevel>()? {
        crate::config::LogLevel::Trace => LogLevel::Trace,
        crate::config::LogLevel::Debug => LogLevel::Debug,
        crate::config::LogLevel::Info => LogLevel::Info,
        crate::config::LogLevel::Warn => LogLevel::Warn,
        crate::config::LogLevel::Error => LogLevel::Error,
    })
}

fn time(line: &v1::MonitorResponse) -> String {
    let time = line.time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_millis(time).to_string()
}

fn level_name(line: &v1::MonitorResponse) -> String {
    line.level().as_str_name().trim_start_matches("LOG_LEVEL_").to_owned()
}

fn text(line: &v1::MonitorResponse) -> String {
    let one_line = |text: &str| text.replace('\r', "\\r").replace('\n', "\\n");
    let mut fields: Vec<_> = line.fields.iter().collect();
    fields.sort();
    let fields: String = fields.into_iter().map(|(name, value)| format!(" {name}={}", one_line(value))).collect();
    let colon = if fields.is_empty() { "" } else { ":" };
    format!("{} {:<7} {}: {}{colon}{fields}", time(line), format!("[{}]", level_name(line)), line.target, one_line(&line.message))
}

/// A line as one JSON object.
pub(super) fn json(line: &v1::MonitorResponse) -> String {
    let own = [
        ("@level", level_name(line).to_ascii_lowercase()),
        ("@message", line.message.clone()),
        ("@module", line.target.clone()),
        ("@timestamp", time(line)),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let all = line.fields.iter().map(|(name, value)| (name.clone(), value.clone())).chain(own);
    Value::Object(all.map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_in_both_forms() {
        let fields = [("b".to_owned(), "2\n3".to_owned()), ("a".to_owned(), "1".to_owned())].into();
        let line = v1::MonitorResponse {
            time: Some(SystemTime::UNIX_EPOCH.into()),
            level: LogLevel::Warn.into(),
            target: "lictor_agent".into(),
            message: "said".into(),
            fields,
            dropped: 0,
        };
        assert_eq!(text(&line), "1970-01-01T00:00:00.000Z [WARN]  lictor_agent: said: a=1 b=2\\n3");
        let value: Value = serde_json::from_str(&json(&line)).unwrap();
        assert_eq!(value["@level"], "warn");
        assert_eq!(value["b"], "2\n3");
    }

    #[test]
    fn an_unknown_level_names_those_that_there_are() {
        assert!(level("loud").unwrap_err().contains("`trace`, `debug`, `info`, `warn` or `err`"));
    }
}
