//! What a request brings, and what it takes for an answer.

use axum::http::{HeaderMap, header};

/// What the body of a request is said to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ContentType {
    /// `application/json`, with any parameters.
    Json,
    /// `application/octet-stream`.
    Bytes,
    /// Not said.
    Absent,
    /// Something else.
    Other,
}

impl ContentType {
    /// Reads the header `Content-Type`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Self::Absent };
        let value = value.to_str().unwrap_or_default();
        let media_type = value.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else if media_type.eq_ignore_ascii_case("application/octet-stream") {
            Self::Bytes
        } else {
            Self::Other
        }
    }
}

/// Whether the header `Accept` allows one of these types; without it everything is allowed.
pub(super) fn accepts(headers: &HeaderMap, media_types: &[&str]) -> bool {
    let mut is_absent = true;
    for value in headers.get_all(header::ACCEPT) {
        is_absent = false;
        let ranges = value.to_str().unwrap_or_default().split(',');
        for range in ranges.map(|range| range.split(';').next().unwrap_or_default().trim()) {
            let is_within = |media_type: &&str| {
                range == "*/*"
                    || range.eq_ignore_ascii_case("application/*")
                    || range.eq_ignore_ascii_case(media_type)
            };
            if media_types.iter().any(is_within) {
                return true;
            }
        }
    }
    is_absent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn content_types_are_known_in_any_case_and_with_parameters() {
        let check = |value: &str, expected| {
            assert_eq!(ContentType::of(&headers(&header::CONTENT_TYPE, &[value])), expected);
        };
        check("application/json", ContentType::Json);
        check("Application/JSON; charset=utf-8", ContentType::Json);
        check("application/octet-stream", ContentType::Bytes);
        check("application/jsonp", ContentType::Other);
        check("text/plain", ContentType::Other);
        check("", ContentType::Other);
        assert_eq!(ContentType::of(&HeaderMap::new()), ContentType::Absent);
    }

    #[test]
    fn an_answer_must_be_acceptable() {
        let check = |values: &[&str], expected| {
            let headers = headers(&header::ACCEPT, values);
            assert_eq!(accepts(&headers, &["application/json"]), expected, "{values:?}");
        };
        check(&[], true);
        check(&["*/*"], true);
        check(&["text/html, application/*;q=0.5"], true);
        check(&["text/html", "application/json"], true);
        check(&["text/html"], false);
        check(&["text/*"], false);
        check(&[""], false);
    }
}
