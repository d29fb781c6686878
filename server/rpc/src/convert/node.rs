//! Nodes.

use proto::v1;
use state::{Node, NodeInput};

use super::common::{pairs, wire_pairs};

/// A node for the wire.
pub(crate) fn node(node: &Node) -> v1::Node {
    let Node { id, name, address, datacenter, tagged_addresses, meta, create_index, modify_index } = node;
    v1::Node {
        id: id.to_string(),
        name: name.to_string(),
        address: address.to_string(),
        datacenter: datacenter.to_string(),
        tagged_addresses: wire_pairs(tagged_addresses),
        meta: wire_pairs(meta),
        create_index: create_index.0,
        modify_index: modify_index.0,
    }
}

/// A node as it is registered. What is only told, never set, is left out.
pub(crate) fn input(node: v1::Node) -> NodeInput {
    let v1::Node { id, name, address, datacenter: _, tagged_addresses, meta, create_index: _, modify_index: _ } = node;
    NodeInput {
        id: id.into(),
        name: name.into(),
        address: address.into(),
        datacenter: "".into(),
        tagged_addresses: pairs(tagged_addresses),
        meta: pairs(meta),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_node_is_registered_as_it_was_told() {
        let told = v1::Node {
            id: "3f0c0f5e-0000-4000-8000-000000000001".into(),
            name: "n1".into(),
            address: "10.0.0.1".into(),
            datacenter: "dc1".into(),
            tagged_addresses: HashMap::from([("wan".into(), "1.2.3.4".into())]),
            meta: HashMap::from([("rack".into(), "a".into())]),
            create_index: 3,
            modify_index: 4,
        };
        let NodeInput { id, name, address, datacenter: _, tagged_addresses, meta } = input(told.clone());
        let row = Node {
            id,
            name,
            address,
            datacenter: "dc1".into(),
            tagged_addresses,
            meta,
            create_index: state::LogIndex(3),
            modify_index: state::LogIndex(4),
        };
        assert_eq!(node(&row), told);
    }
}
