//! Anti-entropy: what must be written so that the catalog shows what a node's own agent says.
