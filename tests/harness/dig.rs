//! The real `dig`, and what it prints, taken apart.

use std::net::SocketAddr;
use std::process::Command;

use crate::tool::tool;

/// One answer, as `dig` shows it.
#[derive(Clone, Debug, Default)]
pub struct Dig {
    /// Everything printed.
    pub text: String,
    /// `NOERROR`, `NXDOMAIN`, …; empty when there was no answer.
    pub status: String,
    /// `qr`, `aa`, `tc`, `rd`, `ra` as far as set.
    pub flags: Vec<String>,
    /// Records of the answer section, split at blanks: name, TTL, class, type, data.
    pub answer: Vec<Vec<String>>,
    /// Records of the authority section.
    pub authority: Vec<Vec<String>>,
    /// Records of the additional section, without OPT.
    pub additional: Vec<Vec<String>>,
}

impl Dig {
    /// Asks the server at `address`; one try, and a patient one.
    pub fn ask(address: SocketAddr, arguments: &[&str]) -> Self {
        let (server, port) = (format!("@{}", address.ip()), address.port().to_string());
        let mut command = Command::new(tool("dig"));
        command.args([&server, "-p", &port, "+tries=1", "+time=15", "+nocookie"]).args(arguments);
        let ran = command.output().expect("dig can be started");
        Dig::read(&String::from_utf8_lossy(&ran.stdout))
    }

    /// Takes apart what `dig` printed.
    pub fn read(text: &str) -> Self {
        let mut dig = Dig { text: text.to_owned(), ..Dig::default() };
        let mut section = "";
        for line in text.lines() {
            if let Some((_, rest)) = line.split_once("status: ") {
                dig.status = rest.split(',').next().unwrap_or_default().to_owned();
            } else if let Some(rest) = line.strip_prefix(";; flags: ") {
                dig.flags = rest.split(';').next().unwrap_or_default().split_whitespace().map(Into::into).collect();
            } else if let Some(rest) = line.strip_prefix(";; ") {
                section = rest.strip_suffix(" SECTION:").unwrap_or("");
            } else if !line.is_empty() && !line.starts_with(';') {
                let record = line.split_whitespace().map(Into::into).collect();
                match section {
                    "ANSWER" => dig.answer.push(record),
                    "AUTHORITY" => dig.authority.push(record),
                    "ADDITIONAL" => dig.additional.push(record),
                    _ => {}
                }
            }
        }
        dig
    }

    /// The data of the answer's records of one type, sorted.
    pub fn data(&self, kind: &str) -> Vec<String> {
        Self::data_of(&self.answer, kind)
    }

    /// The data of those records among `records` that have this type, sorted.
    pub fn data_of(records: &[Vec<String>], kind: &str) -> Vec<String> {
        let mut data: Vec<String> = records.iter().filter(|record| record[3] == kind).map(|record| record[4..].join(" ")).collect();
        data.sort();
        data
    }

    /// Whether a flag of the header is set.
    pub fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }
}
