//! An operator: HTTP with the token.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use perpacket_lab::NodeRuntime;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::connection::DEADLINE;

pub(crate) struct Operator {
    /// Of the host that asks.
    pub(crate) runtime: Arc<NodeRuntime>,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
    /// `null` if the body is none.
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Result<&str> {
        let value = self.headers.get(name).with_context(|| name.to_owned())?;
        Ok(value.to_str()?)
    }

    pub(crate) fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.bytes)?)
    }

    /// Fails unless it has this status; returns its JSON.
    pub(crate) fn is(self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{self:#?}");
        Ok(self.json)
    }

    /// Fails unless it is a problem of this status whose explanation has this in it.
    pub(crate) fn problem(self, status: u16, words: &str) -> Result<Value> {
        ensure!(self.status == status, "{self:#?}");
        let kind = self.header("content-type")?;
        ensure!(kind == "application/problem+json", "{self:#?}");
        let problem = &self.json;
        ensure!(problem["status"] == status, "{problem}");
        ensure!(problem["type"] == "about:blank", "{problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        ensure!(detail.contains(words), "{words:?} is not in {detail:?}");
        Ok(self.json)
    }
}

impl Operator {
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        self.ask(Method::GET, path, None)
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Answer> {
        self.ask(Method::DELETE, path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.ask(Method::POST, path, Some(body))
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let bearer = format!("Bearer {}", self.token);
        let mut headers = vec![("authorization", bearer.as_str())];
        if body.is_some() {
            headers.push(("content-type", "application/json"));
        }
        let body = body.map(ToString::to_string).unwrap_or_default();
        self.send(method, path, &headers, body)
    }

    /// Exactly this, without a token of its own.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let address = self.address;
        self.runtime.block_on(async move {
            let answer = timeout(DEADLINE, exchange(address, request)).await;
            answer.context("no answer")?
        })
    }

    /// Follows server-sent events, until what is returned is dropped.
    pub(crate) fn follow(&self, path: &str, headers: &[(&str, &str)]) -> Result<Stream> {
        let mut request = Request::builder()
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new()))?;
        let address = self.address;
        let body = self.runtime.block_on(async move {
            let stream = TcpStream::connect(address).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let response = sender.send_request(request).await?;
            ensure!(response.status() == StatusCode::OK, "{response:?}");
            Ok(response.into_body())
        })?;
        Ok(Stream {
            body,
            text: String::new(),
            runtime: Arc::clone(&self.runtime),
        })
    }
}

async fn exchange(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<Answer> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let running = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let bytes = body.collect().await?.to_bytes();
    running.abort();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        json: serde_json::from_slice(&bytes).unwrap_or_default(),
        bytes,
    })
}

/// Server-sent events.
pub(crate) struct Stream {
    body: hyper::body::Incoming,
    text: String,
    runtime: Arc<NodeRuntime>,
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: Value,
}

impl Stream {
    /// The next event; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                match event? {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            let body = &mut self.body;
            let frame = self
                .runtime
                .block_on(async { timeout(DEADLINE, body.frame()).await });
            match frame.context("nothing is told")? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.text.push_str(std::str::from_utf8(&data)?);
                    }
                }
            }
        }
    }

    /// The next event that is so.
    pub(crate) fn until(&mut self, is_so: impl Fn(&Event) -> bool) -> Result<Event> {
        loop {
            let event = self.next()?.context("the stream has ended")?;
            if is_so(&event) {
                return Ok(event);
            }
        }
    }
}

fn parse(text: &str) -> Result<Option<Event>> {
    let (mut name, mut id, mut data) = (None, None, None);
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("event", value)) => name = Some(value.to_owned()),
            Some(("id", value)) => id = Some(value.parse()?),
            Some(("data", value)) => data = Some(serde_json::from_str(value)?),
            _ => ensure!(line.starts_with(':'), "{line}"),
        }
    }
    Ok(name.zip(data).map(|(name, data)| Event { name, id, data }))
}
