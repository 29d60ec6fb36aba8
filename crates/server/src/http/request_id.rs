//! `x-request-id` on every answer, so that a line of a client's log can be found in ours.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

use crate::random::random_hex;

const NAME: HeaderName = HeaderName::from_static("x-request-id");

/// How long an id of a client may be.
const LENGTHS: std::ops::RangeInclusive<usize> = 10..=200;

/// Answers with the id of the request: the one it brings, in the W3C's `baggage` under `request-id` or
/// in `x-request-id`, else a new one.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = brought(request.headers()).or_else(|| {
        let id = random_hex(16).ok()?;
        HeaderValue::from_str(&id).ok()
    });
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(NAME, id);
    }
    response
}

fn brought(headers: &HeaderMap) -> Option<HeaderValue> {
    let baggage = headers.get("baggage").and_then(|value| value.to_str().ok());
    let members = baggage.into_iter().flat_map(|baggage| baggage.split(','));
    let from_baggage = members
        .filter_map(|member| member.split(';').next()?.split_once('='))
        .find_map(|(key, value)| (key.trim() == "request-id").then(|| value.trim()))
        .filter(|id| is_usable(id));
    let own = headers.get(NAME).and_then(|value| value.to_str().ok()).filter(|id| is_usable(id));
    HeaderValue::from_str(from_baggage.or(own)?).ok()
}

/// Printable ASCII of a sensible length.
fn is_usable(id: &str) -> bool {
    LENGTHS.contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brought_by(headers: &[(&'static str, &str)]) -> Option<String> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect();
        brought(&headers).map(|id| id.to_str().unwrap().to_owned())
    }

    #[test]
    fn ids_of_clients_are_kept_when_they_are_usable() {
        let long = "x".repeat(201);
        assert_eq!(brought_by(&[("x-request-id", "0123456789")]).as_deref(), Some("0123456789"));
        assert_eq!(brought_by(&[("x-request-id", "short")]), None);
        assert_eq!(brought_by(&[("x-request-id", &long)]), None);
        let baggage = ("baggage", "user=1, request-id=abcdefghij;ttl=5");
        let own = ("x-request-id", "0123456789");
        assert_eq!(brought_by(&[own, baggage]).as_deref(), Some("abcdefghij"));
        assert_eq!(brought_by(&[own, ("baggage", "request-id=x")]).as_deref(), Some("0123456789"));
        assert_eq!(brought_by(&[]), None);
    }
}
