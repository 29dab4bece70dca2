//! Who may do what: operators with the token, from this server's own pages.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, Extension, FromRequestParts, Request, State},
    http::{
        Extensions, HeaderMap, StatusCode, Uri,
        header::{AUTHORIZATION, HOST, ORIGIN},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{App, rate};
use crate::{notes::By, problem::Problem};

/// What an attempt with a wrong token costs, in requests.
const WRONG_TOKEN: f64 = 20.0;

/// Where a request comes from.
pub(super) fn client(extensions: &Extensions) -> Option<IpAddr> {
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(address.ip().to_canonical())
}

/// Lets operators in, and nobody else.
pub(super) async fn operators_only(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    let from = client(request.extensions());
    match bearer(request.headers()) {
        Some(token) if app.token.is(token) => {
            request.extensions_mut().insert(By::Token {
                label: app.token.label().clone(),
                from,
            });
            next.run(request).await
        }
        None => unauthorized("an Authorization header with a bearer token is needed"),
        Some(_) => {
            // Whoever guesses has to wait; the answer is the same.
            let _ = rate::admit(&app.rate, from, WRONG_TOKEN);
            unauthorized("that is not the token")
        }
    }
}

fn unauthorized(detail: &'static str) -> Response {
    Problem::new(StatusCode::UNAUTHORIZED, detail).into_response()
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750 §2.1); the scheme is the same in any case (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// Turns away what another site's page asks for in the name of whoever looks at it.
pub(super) async fn same_origin_only(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let Some(origin) = request.headers().get(ORIGIN) else {
        return next.run(request).await;
    };
    let origin = origin.to_str().unwrap_or_default();
    let host = host(request.headers(), request.uri());
    if app.origins.iter().any(|allowed| allowed == origin) || is_at(origin, host) {
        next.run(request).await
    } else {
        Problem::new(
            StatusCode::FORBIDDEN,
            "pages of another origin may not ask this",
        )
        .into_response()
    }
}

fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> &'a str {
    uri.authority()
        .map(axum::http::uri::Authority::as_str)
        .or_else(|| headers.get(HOST)?.to_str().ok())
        .unwrap_or_default()
}

/// Whether a page of that origin comes from this host. The scheme does not count: a proxy may have taken off the TLS.
fn is_at(origin: &str, host: &str) -> bool {
    let (port, authority) = match origin.split_once("://") {
        Some(("http", authority)) => (":80", authority),
        Some(("https", authority)) => (":443", authority),
        _ => return false,
    };
    let plain = |authority: &str| {
        let lower = authority.to_ascii_lowercase();
        lower.strip_suffix(port).unwrap_or(&lower).to_owned()
    };
    !host.is_empty() && plain(authority) == plain(host)
}

/// Who asks, where only operators may.
#[derive(Clone, Debug)]
pub(super) struct Operator(pub(super) By);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Extension(by) = Extension::<By>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::internal())?;
        Ok(Self(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_the_host_or_another() {
        for (origin, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("https://Example.org", "example.org"),
            ("https://example.org", "example.org:443"),
            ("http://example.org:80", "example.org"),
            ("https://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_at(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "null"),
            ("", ""),
            ("http://", ""),
            ("http://evil.example", "127.0.0.1:8080"),
            ("http://127.0.0.1:8081", "127.0.0.1:8080"),
            ("http://127.0.0.1.evil.example:8080", "127.0.0.1:8080"),
            ("file://127.0.0.1:8080", "127.0.0.1:8080"),
        ] {
            assert!(!is_at(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn the_token_is_what_follows_the_scheme() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a header"));
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc"), Some("abc".to_owned()));
        assert_eq!(of("bearer  abc"), Some("abc".to_owned()));
        assert_eq!(of("Basic abc"), None);
        assert_eq!(of("Bearer"), None);
    }
}
