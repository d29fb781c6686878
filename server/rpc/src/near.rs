//! `near`: lists in the order of the round trip from a node.

use std::time::Duration;

use service::{Caller, Service};

use crate::page::RowKey;

/// How far a node is, by its name.
type Distance<'a> = Box<dyn Fn(&str) -> Duration + Send + Sync + 'a>;

/// The order of a list: by the distance from a node, if one is given and known, and then by `RowKey`.
pub(crate) struct Order<'a>(Option<Distance<'a>>);

/// The node that a list is to be sorted from: `_agent` and `_ip` are that of the agent which was asked.
pub(crate) fn node(service: &Service, caller: &Caller, near: &str) -> String {
    match near {
        "_agent" | "_ip" => caller.agent.as_deref().unwrap_or(&service.identity().node_name).to_owned(),
        near => near.to_owned(),
    }
}

impl<'a> Order<'a> {
    /// By the distance from `near`, as [`node`] tells it; empty is no node.
    pub(crate) fn from(service: &'a Service, near: &'a str) -> Self {
        let distance = Some(near).filter(|near| !near.is_empty()).and_then(|near| service.distances_from(near));
        Order(distance.map(|distance| Box::new(distance) as Distance<'a>))
    }

    /// What a row on the node `name` is ordered by, where without a distance it is `key`.
    pub(crate) fn key(&self, name: &str, key: RowKey) -> RowKey {
        match &self.0 {
            None => key,
            Some(distance) => (format!("{:026}", distance(name).as_micros()), format!("{}\0{}", key.0, key.1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::page;

    #[test]
    fn pages_go_on_where_the_last_one_ended_in_the_order_of_distances() {
        let far = |name: &str| if name == "unheard" { Duration::MAX } else { Duration::from_millis(name.len() as u64) };
        let order = Order(Some(Box::new(far)));
        let key = |name: &&str| order.key(name, ((*name).to_owned(), String::new()));
        let rows = || vec!["aaaa", "bb", "cc", "d", "unheard"];
        let (first, token) = page(rows(), key, 3, "", 9).unwrap();
        let (rest, last) = page(rows(), key, 3, &token, 9).unwrap();
        assert_eq!((first, rest, last.as_str()), (vec!["d", "bb", "cc"], vec!["aaaa", "unheard"], ""));
    }
}
