//! Which media type a response has: what the client accepts of what an endpoint can write.

use axum::http::{HeaderMap, header};

use crate::wire::error::{ErrorBody, NOT_ACCEPTABLE};

/// The first of `offered` that `Accept` names, in the client's order; the first one for `*/*` or without the header.
///
/// # Errors
/// None of them is accepted.
pub(super) fn media_type(headers: &HeaderMap, offered: &[&'static str]) -> Result<&'static str, ErrorBody> {
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')).collect();
    if accepted.is_empty() {
        return Ok(offered[0]);
    }
    let bare = |range: &str| range.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let refused = |range: &str| range.split(';').skip(1).any(|p| matches!(p.trim(), "q=0" | "q=0.0"));
    for range in accepted.iter().filter(|range| !refused(range)) {
        match bare(range).as_str() {
            "*/*" | "application/*" => return Ok(offered[0]),
            exact => {
                if let Some(found) = offered.iter().find(|o| **o == exact) {
                    return Ok(found);
                }
            }
        }
    }
    Err(ErrorBody::new(
        NOT_ACCEPTABLE,
        format!("None of the accepted media types is offered; use {}", offered.join(", ")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        media_type(&headers, &["application/a", "application/b"]).ok()
    }

    #[test]
    fn the_clients_order_decides() {
        assert_eq!(media_type(&HeaderMap::new(), &["application/a"]).unwrap(), "application/a");
        assert_eq!(chosen("*/*"), Some("application/a"));
        assert_eq!(chosen("Application/B; q=0.5, */*"), Some("application/b"));
        assert_eq!(chosen("text/html"), None);
        assert_eq!(chosen("application/a;q=0, application/b"), Some("application/b"));
    }
}
