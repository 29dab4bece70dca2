//! Errors as HTTP responses: RFC 9457.

use std::borrow::Cow;

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use perpacket_webrtc::udp::OptionsError;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{fields::FieldError, history::HistoryError, measurements::Refusal};

/// How many seconds a client is asked to wait where there is no room for it now (RFC 9725 §4.5).
const RETRY_IN: &str = "10";

/// How many seconds one is asked to wait who asks too often.
const SLOW_DOWN: &str = "1";

/// An error as an HTTP response.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    about: Option<Box<About>>,
}

/// Which part of the request is wrong.
#[derive(Debug)]
struct About {
    field: String,
    value: Value,
    allowed: Option<String>,
}

/// What a problem looks like as JSON.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemDetails {
    /// What kind of problem it is: no special one.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    kind: &'static str,
    /// What the status is called.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The status.
    #[schema(example = 422)]
    status: u16,
    /// What is wrong.
    #[schema(example = "ttl: 300 is out of range, allowed is 1..=255")]
    detail: String,
    /// With which field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, example = "ttl")]
    field: Option<String>,
    /// What its value is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Value, example = 300)]
    value: Option<Value>,
    /// What it could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, example = "1..=255")]
    allowed: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            about: None,
        }
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the fault is here")
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// A part of the request that makes no sense.
    pub(crate) fn about(field: &str, value: Value, allowed: &str) -> Self {
        FieldError::new(field, value, allowed).into()
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: error.to_string().into(),
            about: Some(Box::new(About {
                field: error.field,
                value: *error.value,
                allowed: Some(error.allowed),
            })),
        }
    }
}

impl From<OptionsError> for Problem {
    fn from(error: OptionsError) -> Self {
        let (field, value, allowed) = match &error {
            OptionsError::OutOfRange {
                field,
                value,
                range,
            } => (*field, Value::from(*value), Some((*range).to_owned())),
            OptionsError::Unknown {
                field,
                value,
                expected,
            } => (
                *field,
                Value::from(value.as_str()),
                Some((*expected).to_owned()),
            ),
            _ => ("body", Value::Null, None),
        };
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: error.to_string().into(),
            about: Some(Box::new(About {
                field: field.to_owned(),
                value,
                allowed,
            })),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::NotConnected | Refusal::NoProber(_) | Refusal::Running(_) => {
                StatusCode::CONFLICT
            }
            Refusal::TooMany => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.to_string())
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        tracing::warn!(%error, "history cannot be read");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (field, value, allowed) = match self.about {
            Some(about) => (Some(about.field), Some(about.value), about.allowed),
            None => (None, None, None),
        };
        let details = ProblemDetails {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: self.detail.into_owned(),
            field,
            value,
            allowed,
        };
        // It has text and numbers only.
        let body = serde_json::to_string(&details).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        let more = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, RETRY_IN)),
            StatusCode::TOO_MANY_REQUESTS => Some((RETRY_AFTER, SLOW_DOWN)),
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = more {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
