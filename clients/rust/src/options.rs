//! How a client behaves.

use std::time::Duration;

use crate::dial::Dial;

/// How a client behaves; the defaults suit most programs.
///
/// ```
/// use lictor_client::Options;
/// use std::time::Duration;
///
/// let options = Options { token: Some("secret".into()), request_timeout: Duration::from_secs(5), ..Options::default() };
/// assert_eq!(options.connections, 2);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Sent as `authorization: Bearer …` with each call.
    pub token: Option<String>,
    /// Connections for calls to one server. Watches have one of their own beside them.
    pub connections: usize,
    /// Longest time to open a connection.
    pub connect_timeout: Duration,
    /// Longest time until a call is answered; for streams, until they begin.
    pub request_timeout: Duration,
    /// After this long without traffic the server is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to say so.
    pub keepalive_timeout: Duration,
    /// Largest message that is accepted, in bytes.
    pub message_bytes_max: usize,
    /// Put before the version of this library in the `user-agent` of each call.
    pub user_agent: Option<String>,
    /// Opens connections, when it is not left to the system.
    pub dial: Option<Dial>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            token: None,
            connections: 2,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            message_bytes_max: 32 * 1024 * 1024,
            user_agent: None,
            dial: None,
        }
    }
}
