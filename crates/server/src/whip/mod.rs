//! WHIP, RFC 9725: sessions are made and ended over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `POST /whip`, an SDP offer as `application/sdp` | 201, the SDP answer; `Location` names the session |
//! | `DELETE` on that | 200, the session is gone |
//! | `PATCH` on that | 405: neither Trickle ICE nor ICE restarts, all candidates are in the answer (§4.3) |
//! | `OPTIONS /whip` | 200, `Accept-Post` says what can be posted (§4.2) |
//!
//! Beyond RFC 9725, whose clients send media only, an offer may have a data channel, and may ask for its
//! media back. Errors have a body of `application/problem+json` (RFC 9457). Any web page may call
//! (CORS).

mod ice_servers;

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{
        Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH, LINK, LOCATION, RETRY_AFTER, USER_AGENT,
        },
    },
    response::{IntoResponse, Response},
    routing::{delete, post},
};
use perpacket_webrtc::SessionId;
use tower_http::{
    cors::{Any, CorsLayer},
    set_header::SetResponseHeaderLayer,
};

use crate::{CreateError, Hints, Sessions, problem::Problem};

/// What can be posted (RFC 9725 §4.2).
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

const SDP: &str = "application/sdp";

/// A page of HTML with which a browser joins. Served beside the [`router`], it posts its offer to `/whip`, sends
/// a picture and messages, and shows what comes back.
pub const PAGE: &str = include_str!("page.html");

/// The longest offer, in bytes. Those of browsers with every codec have some 10,000.
const LONGEST_OFFER: usize = 1 << 16;

/// What is read of a longer one, in bytes: a client that still writes may not see the answer.
const LONGEST_BODY: usize = 1 << 20;

/// What is kept of the name that a client gives itself, characters.
const LONGEST_NAME: usize = 256;

/// The service. Serve it with
/// [`into_make_service_with_connect_info::<SocketAddr>`](Router::into_make_service_with_connect_info),
/// so that sessions know where their clients are.
pub fn router(sessions: Sessions) -> Router {
    let exposed: [HeaderName; 5] = [LOCATION, ETAG, LINK, ACCEPT_POST, RETRY_AFTER];
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::DELETE, Method::PATCH])
        .allow_headers([CONTENT_TYPE, AUTHORIZATION, IF_MATCH])
        .expose_headers(exposed);
    Router::new()
        .route("/whip", post(create).fallback(not_allowed))
        .route("/whip/{id}", delete(end).fallback(not_allowed))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(cors)
        .layer(SetResponseHeaderLayer::if_not_present(
            ACCEPT_POST,
            HeaderValue::from_static(SDP),
        ))
        .with_state(sessions)
}

async fn create(
    State(sessions): State<Sessions>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    if !is_sdp(&headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the offer has to be of the content type {SDP}"),
        ));
    }
    let body = body.map_err(|error| Problem::new(error.status(), error.body_text()))?;
    if body.len() > LONGEST_OFFER {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("an offer has at most {LONGEST_OFFER} bytes"),
        ));
    }
    let offer = std::str::from_utf8(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the offer is not UTF-8: {error}"),
        )
    })?;
    let hints = Hints {
        client: extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(address)| address.ip().to_canonical()),
        user_agent: headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok())
            .map(|name| name.chars().take(LONGEST_NAME).collect()),
        ..Hints::default()
    };
    let answered = sessions.create(offer, hints).await?;

    let mut response = (StatusCode::CREATED, answered.answer).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(SDP));
    let id = &answered.id;
    for (name, value) in [
        (LOCATION, format!("/whip/{id}")),
        (ETAG, format!("\"{id}\"")),
    ] {
        headers.insert(
            name,
            HeaderValue::try_from(value).map_err(|_| Problem::internal())?,
        );
    }
    for link in ice_servers::links(sessions.ice_servers()) {
        headers.append(LINK, link);
    }
    Ok(response)
}

async fn end(
    State(sessions): State<Sessions>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if sessions.close(&SessionId::from(id)).await {
        Ok(StatusCode::OK)
    } else {
        Err(Problem::new(
            StatusCode::NOT_FOUND,
            "there is no such session",
        ))
    }
}

async fn not_allowed(method: Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{method} means nothing here"),
    )
}

/// Parameters of the content type do not matter.
fn is_sdp(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case(SDP))
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        let status = match error {
            CreateError::Malformed(_) | CreateError::TooMany { .. } => StatusCode::BAD_REQUEST,
            CreateError::NothingOffered => StatusCode::UNPROCESSABLE_ENTITY,
            CreateError::TooManySessions { .. }
            | CreateError::TooManyOfAddress { .. }
            | CreateError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            CreateError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() {
            tracing::warn!(%error, "an offer was not answered");
        }
        Self::new(status, error.to_string())
    }
}
