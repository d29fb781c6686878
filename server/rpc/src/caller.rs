//! Who asks, from the metadata of a call and its connection.

use service::{Caller, Error};
use tonic::Request;
use tonic::metadata::MetadataMap;

use crate::status::invalid;

/// Takes a request apart.
pub(crate) fn open<T>(request: Request<T>) -> Result<(Caller, T), Error> {
    let source = request.remote_addr().map(|address| address.ip());
    let token = token(request.metadata())?.map(Into::into);
    let agent = request.metadata().get(forward::AGENT.as_str()).and_then(|name| name.to_str().ok()).map(Into::into);
    Ok((Caller { token, source, agent }, request.into_inner()))
}

/// The token of a call: `authorization: Bearer …`, else `x-consul-token`.
fn token(metadata: &MetadataMap) -> Result<Option<&str>, Error> {
    if let Some(value) = metadata.get("authorization") {
        let text = value.to_str().map_err(|_| invalid("authorization", "it is not visible ASCII"))?;
        let Some((scheme, token)) = text.split_once(' ') else {
            return Err(invalid("authorization", "it has no scheme; write `Bearer` and the token"));
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(invalid("authorization", format_args!("the scheme `{scheme}` is not known; use `Bearer`")));
        }
        return Ok(Some(token.trim()).filter(|token| !token.is_empty()));
    }
    let Some(value) = metadata.get("x-consul-token") else { return Ok(None) };
    let token = value.to_str().map_err(|_| invalid("x-consul-token", "it is not visible ASCII"))?;
    Ok(Some(token).filter(|token| !token.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &'static str, value: &'static str) -> Request<()> {
        let mut request = Request::new(());
        request.metadata_mut().insert(name, value.parse().unwrap());
        request
    }

    #[test]
    fn a_token_is_found_in_either_place() {
        for (name, value, expected) in [
            ("authorization", "Bearer secret", Some("secret")),
            ("authorization", "bearer secret", Some("secret")),
            ("authorization", "Bearer ", None),
            ("x-consul-token", "secret", Some("secret")),
            ("x-consul-token", "", None),
            ("x-other", "secret", None),
        ] {
            let (caller, ()) = open(request(name, value)).unwrap();
            assert_eq!(caller.token.as_deref(), expected, "{name}: {value}");
        }
    }

    #[test]
    fn a_scheme_that_is_not_known_is_refused() {
        for value in ["Basic abc", "secret"] {
            let error = open(request("authorization", value)).unwrap_err();
            assert!(error.message.contains("Bearer"), "{error}");
        }
    }
}
