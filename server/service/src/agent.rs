//! Services and checks of this machine.

/// placeholder
pub struct Agent;
