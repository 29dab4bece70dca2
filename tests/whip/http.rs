//! HTTP with a real client.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use hyper::header::{AsHeaderName, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::connection::DEADLINE;

/// Sends a request on a connection of its own, and returns the answer.
pub(crate) async fn request(
    server: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Response<String>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, server.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body)?;
    timeout(DEADLINE, send(server, request))
        .await
        .context("no answer")?
}

async fn send(server: SocketAddr, request: Request<String>) -> Result<Response<String>> {
    let stream = TcpStream::connect(server).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let running = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    running.abort();
    Ok(Response::from_parts(head, String::from_utf8(body.into())?))
}

/// The header of that name.
pub(crate) fn header(response: &Response<String>, name: impl AsHeaderName) -> Result<&str> {
    let value = response.headers().get(name).context("no such header")?;
    Ok(value.to_str()?)
}

/// Fails unless it is such an error whose explanation has this word in it.
pub(crate) fn problem(response: &Response<String>, status: StatusCode, word: &str) -> Result<()> {
    ensure!(response.status() == status, "{response:?}");
    ensure!(
        header(response, CONTENT_TYPE)? == "application/problem+json",
        "{response:?}"
    );
    let problem: serde_json::Value = serde_json::from_str(response.body())?;
    ensure!(problem["status"] == status.as_u16(), "{problem}");
    ensure!(
        problem["title"].as_str() == status.canonical_reason(),
        "{problem}"
    );
    let detail = problem["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains(word), "{detail}");
    Ok(())
}
