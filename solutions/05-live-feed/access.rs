//! Who may read and write.

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

/// Whether a request shows the token: in `authorization: Bearer TOKEN`, or in the address as
/// `?token=TOKEN` (`parameter`), because a browser's `EventSource` cannot set headers. One of them is
/// enough. The word `Bearer` may be in any case, the token may not.
///
/// How long it takes says nothing about how much of a wrong token was right.
pub(crate) fn authorized(token: &str, headers: &HeaderMap, parameter: Option<&str>) -> bool {
    // stub stage 8: compare what is shown with the token, by ct_eq
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, shown)| shown.trim());
    let is_right = |shown: &str| bool::from(shown.as_bytes().ct_eq(token.as_bytes()));
    bearer.is_some_and(is_right) || parameter.is_some_and(is_right)
    // end stub
}
