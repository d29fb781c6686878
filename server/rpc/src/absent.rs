//! What the contract has and this version does not serve: each call says so by its name.

use tonic::{Response, Status};

use crate::status::{not_implemented, status};

/// Refuses a call that is still to come.
pub(crate) fn refuse<T>(call: &str) -> Result<Response<T>, Status> {
    Err(status(not_implemented(call)))
}
