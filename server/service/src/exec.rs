//! Programs run on many machines: who is meant, and how they are told.

use regex::Regex;
use state::Tables;

use crate::cluster::{Member, PoolKind, Status};
use crate::error::{Error, Reason};
use crate::event::{Event, NewEvent};
use crate::{Caller, Right, Service};

/// The event by which agents learn of a run. Nobody else may fire it, and nobody is shown it.
pub const EVENT: &str = "_rexec";

/// Most machines of one run.
pub const NODES_MAX: usize = 512;

/// Largest program with its arguments, in bytes.
pub const ARGS_BYTES_MAX: usize = 64 * 1024;

/// Which machines are meant: regular expressions, empty for all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Over names of nodes.
    pub node: String,
    /// Over names of services on them.
    pub service: String,
    /// Over tags of these services.
    pub tag: String,
}

/// What an event says about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The run.
    pub id: [u8; 16],
    /// The server that was asked for it.
    pub server: String,
}

impl Call {
    /// The call that an event is, if it is one.
    pub fn read(event: &Event) -> Option<Call> {
        if event.name != EVENT {
            return None;
        }
        let (id, server) = event.payload.split_first_chunk::<16>()?;
        Some(Call { id: *id, server: std::str::from_utf8(server).ok()?.to_owned() })
    }
}

impl Service {
    /// The living members that are meant, sorted. Refusals: `INVALID_FILTER`, `INVALID_ARGUMENT`,
    /// `VALUE_TOO_LARGE`, `UNKNOWN_NODE` when there are none, `OVERLOADED` when there are too many.
    pub fn exec_nodes(&self, caller: &Caller, args: &[String], selection: &Selection) -> Result<Vec<String>, Error> {
        self.authorize(caller, Right::AgentWrite)?;
        let size: usize = args.iter().map(String::len).sum();
        if args.iter().all(|arg| arg.is_empty()) {
            return Err(Error::invalid("there is no program to run").with("field", "args"));
        }
        if size > ARGS_BYTES_MAX {
            let message =
                format!("the program and its arguments have {size} bytes, the limit is {ARGS_BYTES_MAX}; put a script on the machines");
            return Err(Error::new(Reason::ValueTooLarge, message).with("size", size).with("limit", ARGS_BYTES_MAX));
        }
        if selection.service.is_empty() && !selection.tag.is_empty() {
            return Err(Error::invalid("a tag filter needs a service filter; give the service whose tags are meant"));
        }
        let [node, service, tag] =
            [("node", &selection.node), ("service", &selection.service), ("tag", &selection.tag)].map(|(what, text)| {
                Regex::new(text).map_err(|error| {
                    Error::new(Reason::InvalidFilter, format!("the {what} filter is no regular expression: {error}")).with("filter", text)
                })
            });
        let (node, service, tag) = (node?, service?, tag?);
        let tables = self.consensus().tables();
        let runs =
            |member: &Member| selection.service.is_empty() || has_service(&tables, &member.name, &service, &tag, selection.tag.is_empty());
        let members = self.members(caller, PoolKind::Lan)?;
        let meant = members.iter().filter(|member| member.status == Status::Alive && node.is_match(&member.name) && runs(member));
        let mut nodes: Vec<String> = meant.map(|member| member.name.clone()).collect();
        nodes.sort();
        match nodes.len() {
            0 => Err(Error::new(Reason::UnknownNode, "no living member is chosen by the filters")),
            1..=NODES_MAX => Ok(nodes),
            count => {
                let message = format!("the filters choose {count} machines, the limit is {NODES_MAX}; run it on a part of them at a time");
                Err(Error::new(Reason::Overloaded, message).with("limit", NODES_MAX))
            }
        }
    }

    /// Tells the members of a run.
    pub fn exec_call(&self, id: [u8; 16], selection: &Selection) -> Result<(), Error> {
        let payload = [&id[..], self.identity().node_name.as_bytes()].concat();
        let Selection { node, service, tag } = selection.clone();
        self.fire_any(NewEvent { name: EVENT.into(), payload, node_filter: node, service_filter: service, tag_filter: tag })?;
        Ok(())
    }

    /// Where the servers' port of the member `name` is; `None` unless it is a living server of this
    /// pool.
    pub fn exec_server(&self, name: &str) -> Option<String> {
        let members = self.members(&Caller::default(), PoolKind::Lan).ok()?;
        let server = members.iter().find(|member| member.name == name && member.status == Status::Alive)?;
        let port: u16 = server.tags.get("port")?.parse().ok()?;
        (server.tags.get("role").map(String::as_str) == Some("consul")).then(|| std::net::SocketAddr::new(server.address, port).to_string())
    }
}

fn has_service(tables: &Tables, node: &str, service: &Regex, tag: &Regex, any_tag: bool) -> bool {
    let Some(view) = tables.find_node(node) else { return false };
    view.services.values().any(|row| service.is_match(&row.name) && (any_tag || row.tags.iter().any(|found| tag.is_match(found))))
}
