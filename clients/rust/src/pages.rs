//! Lists that come in pages, gathered.

use std::future::Future;

use proto::v1::ResponseMeta;

use crate::error::Error;
use crate::read::Answer;

/// One page: rows, where the answer stands, and the token of the next page.
pub(crate) type Page<T> = (Vec<T>, Option<ResponseMeta>, String);

/// Asks for page after page until there is none, and tells where the first one stands: whatever
/// happens later is after it.
pub(crate) async fn gather<T, F>(fetch: impl Fn(String) -> F) -> Result<Answer<Vec<T>>, Error>
where
    F: Future<Output = Result<Page<T>, Error>>,
{
    let (mut rows, meta, mut token) = fetch(String::new()).await?;
    while !token.is_empty() {
        let (more, _, next) = fetch(token.clone()).await?;
        if next == token {
            return Err(Error::Contract(format!("the page after `{token}` is itself")));
        }
        rows.extend(more);
        token = next;
    }
    Answer::new(rows, meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Option<ResponseMeta> {
        Some(ResponseMeta { revision: 1, ..ResponseMeta::default() })
    }

    #[tokio::test]
    async fn pages_are_gathered_in_order() {
        let fetch = |token: String| async move {
            let at: u32 = token.parse().unwrap_or(0);
            Ok((vec![at], meta(), if at < 3 { (at + 1).to_string() } else { String::new() }))
        };
        assert_eq!(gather(fetch).await.unwrap().value, [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn a_server_that_repeats_a_page_for_ever_is_found_out() {
        let fetch = |_| async move { Ok((vec![0], meta(), "same".to_owned())) };
        assert!(matches!(gather(fetch).await, Err(Error::Contract(_))));
    }
}
