//! What a request says: names in its path, parameters, a JSON body. What is wrong with it is said.

use std::str::FromStr;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded;

use crate::{fields::FieldError, model::Timestamp, problem::Problem};

/// The longest body, bytes.
pub(super) const LONGEST_BODY: usize = 16 << 10;

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body(pub(super) Value);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body has to be of the content type application/json",
            ));
        }
        let body = Bytes::from_request(request, state).await.map_err(|error| {
            let detail = match error.status() {
                StatusCode::PAYLOAD_TOO_LARGE => format!("a body has at most {LONGEST_BODY} bytes"),
                _ => error.body_text(),
            };
            Problem::new(error.status(), detail)
        })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                format!("the body is not JSON: {error}"),
            )
        })
    }
}

/// Parameters of the content type do not matter.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"))
}

/// Names in the path.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // What is not UTF-8 names nothing.
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(names)| Self(names))
            .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "there is nothing of that name"))
    }
}

/// The parameters of the query.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::of(parts.uri.query()))
    }
}

impl Parameters {
    fn of(query: Option<&str>) -> Self {
        let query = query.unwrap_or_default();
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// # Errors
    /// A parameter that has another name than these, or is there twice.
    pub(super) fn known(self, known: &[&str]) -> Result<Self, Problem> {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let value = || Value::from(value.as_str());
            if !known.contains(&name.as_str()) {
                return Err(FieldError::unknown(name, value(), known).into());
            }
            if self.0[..index].iter().any(|(other, _)| other == name) {
                return Err(Problem::about(name, value(), "once"));
            }
        }
        Ok(self)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(of, _)| of == name);
        found.map(|(_, value)| value.as_str())
    }

    /// # Errors
    /// What cannot be read as that.
    pub(super) fn read<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Option<T>, Problem> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| FieldError::new(name, text.into(), allowed).into())
            })
            .transpose()
    }

    /// # Errors
    /// What is no time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.read(name, "a time as RFC 3339 has it, 2026-11-22T08:00:00Z")
    }

    /// # Errors
    /// What is no number in this range.
    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, Problem> {
        let allowed = format!("{}..={}", range.start(), range.end());
        match self.read::<u32>(name, &allowed)? {
            Some(number) if !range.contains(&number) => {
                Err(Problem::about(name, number.into(), &allowed))
            }
            number => Ok(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_and_read() {
        let of = |query| Parameters::of(Some(query));
        let known = ["limit", "before", "state"];
        let good = of("limit=10&before=2026-11-22T08%3A00%3A00Z&state=all");
        let good = good.known(&known).expect("known");
        assert_eq!(good.number("limit", 1..=100).expect("read"), Some(10));
        assert!(good.time("before").expect("read").is_some());
        assert_eq!(good.text("state"), Some("all"));
        assert_eq!(Parameters::of(None).text("state"), None);
        for query in ["limits=1", "limit=1&limit=2", "%ff=1"] {
            assert!(of(query).known(&known).is_err(), "{query}");
        }
        for query in ["limit=0", "limit=101", "limit=-1", "limit=a", "limit="] {
            assert!(of(query).number("limit", 1..=100).is_err(), "{query}");
        }
        assert!(of("before=yesterday").time("before").is_err());
    }
}
