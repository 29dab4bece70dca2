//! WHIP and WHEP: a session is made and ended over HTTP.

use std::{
    error::Error as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow, bail};
use perpacket_webrtc::AddressFamily;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, LINK, LOCATION},
};
use tokio::{net::lookup_host, time::timeout};
use url::{Host, Url};

use super::link;
use crate::args::Join;

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 18;

/// How many characters of an error's explanation are shown.
const EXPLANATION: usize = 300;

/// How long the end of a session may take.
const FAREWELL: Duration = Duration::from_secs(3);

const SDP: &str = "application/sdp";

/// The HTTP side of a session.
#[derive(Debug)]
pub(super) struct Signalling {
    http: reqwest::Client,
    url: Url,
    token: Option<String>,
    timeout: Duration,
    whep: bool,
}

/// What an endpoint says before there is a session.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Where it is.
    pub(super) address: Option<IpAddr>,
    /// Its STUN servers, as URLs.
    pub(super) stun_servers: Vec<String>,
}

/// A session that has begun.
#[derive(Debug)]
pub(super) struct Created {
    /// The SDP answer.
    pub(super) answer: String,
    /// What is to be deleted in the end.
    pub(super) resource: Option<Url>,
}

impl Signalling {
    pub(super) fn new(args: &Join) -> Result<Self> {
        // There is one already where this is not the first session of the process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let from = args.bind.or(args.family().map(|family| match family {
            AddressFamily::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            AddressFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }));
        let http = reqwest::Client::builder()
            .user_agent(concat!("perpacket/", env!("CARGO_PKG_VERSION")))
            .timeout(args.timeout)
            // The system's choice among the families of the host, unless one is asked for.
            .local_address(from)
            .tls_danger_accept_invalid_certs(args.insecure)
            .build()
            .context("cannot set up HTTP")?;
        Ok(Self {
            http,
            url: args.url.clone(),
            token: args.token.clone(),
            timeout: args.timeout,
            whep: args.whep,
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks what the endpoint is and where (RFC 9725 §4.2). Whatever it answers will do.
    pub(super) async fn ask(&self) -> Result<Endpoint> {
        let request = self.request(Method::OPTIONS, self.url.clone());
        let response = self.send(request).await?;
        let stun_servers = response
            .headers()
            .get_all(LINK)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(link::stun_servers)
            .collect();
        let connected = response.remote_addr();
        let address = timeout(self.timeout, locate(response.url(), connected));
        Ok(Endpoint {
            address: address.await.unwrap_or_default(),
            stun_servers,
        })
    }

    /// Posts an offer (RFC 9725 §4.2).
    pub(super) async fn post(&self, offer: String) -> Result<Created> {
        let request = self
            .request(Method::POST, self.url.clone())
            .header(CONTENT_TYPE, SDP)
            .header(ACCEPT, SDP)
            .body(offer);
        let mut response = self.send(request).await?;
        if response.status() != StatusCode::CREATED {
            return Err(self.refused(response).await);
        }
        let location = response.headers().get(LOCATION);
        let resource = location
            .and_then(|location| location.to_str().ok())
            .and_then(|location| response.url().join(location).ok());
        if resource.is_none() {
            eprintln!(
                "Warning: {} does not say where the session is (no Location), so it cannot be told when it ends.",
                self.url
            );
        }
        let answer = read(&mut response, LONGEST_ANSWER)
            .await
            .with_context(|| format!("the answer of {} does not arrive", self.url))?;
        Ok(Created { answer, resource })
    }

    /// Ends a session (RFC 9725 §4.2). A server that has forgotten it is as good.
    pub(super) async fn delete(&self, resource: &Url) -> Result<()> {
        let request = self.request(Method::DELETE, resource.clone());
        let response = self.send(request.timeout(FAREWELL)).await?;
        let status = response.status();
        if status.is_success() || matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(());
        }
        bail!("{resource} answers DELETE with {status}")
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| {
            let url = error.url().unwrap_or(&self.url).clone();
            if error.is_timeout() {
                let seconds = self.timeout.as_secs_f64();
                return anyhow!("{url} does not answer within {seconds} s; --timeout waits longer");
            }
            let mut cause: &dyn std::error::Error = &error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            // Whole, the chain says the same thing five times, and names types.
            let why = if error.source().is_some() {
                cause.to_string()
            } else {
                error.without_url().to_string()
            };
            anyhow!("cannot reach {url}: {why}")
        })
    }

    /// Why there is no session, in the server's words, and what may help.
    async fn refused(&self, mut response: Response) -> Error {
        let status = response.status();
        let explanation = read(&mut response, 1 << 14).await.unwrap_or_default();
        let explanation = explain(&explanation);
        let advice = match status.as_u16() {
            401 | 403 => "; --token gives it a bearer token",
            404 => "; is this the URL of its WHIP or WHEP endpoint?",
            200..300 => "; what answers there is no WHIP or WHEP endpoint",
            405 | 406 | 415 | 422 | 400 if self.whep => "; a WHIP endpoint wants no --whep",
            405 | 406 | 415 | 422 | 400 => "; a WHEP endpoint wants --whep",
            _ => "",
        };
        anyhow!("{} answers {status}{explanation}{advice}", response.url())
    }
}

/// Where the host of a URL is. The other end of the connection may be a proxy.
async fn locate(url: &Url, connected: Option<SocketAddr>) -> Option<IpAddr> {
    let found = match url.host()? {
        Host::Ipv4(address) => vec![address.into()],
        Host::Ipv6(address) => vec![address.into()],
        Host::Domain(name) => lookup_host((name, 0))
            .await
            .map(|found| found.map(|address| address.ip()).collect())
            .unwrap_or_default(),
    };
    choose(&found, connected.map(|address| address.ip()))
}

/// The address that is connected, if it is one of the host's.
fn choose(found: &[IpAddr], connected: Option<IpAddr>) -> Option<IpAddr> {
    let found = || found.iter().map(IpAddr::to_canonical);
    let connected = connected.map(|address| address.to_canonical());
    found()
        .find(|address| Some(*address) == connected)
        .or_else(|| found().next())
}

/// A body as text, cut where it is longer.
async fn read(response: &mut Response, limit: usize) -> Result<String> {
    let mut body = Vec::new();
    while body.len() < limit
        && let Some(chunk) = response
            .chunk()
            .await
            .map_err(reqwest::Error::without_url)?
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(limit);
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// What the body of an error says: the detail of a problem (RFC 9457 §3.1.4), or a text. It is the
/// server's, so nothing of it reaches the terminal that a terminal would obey.
fn explain(body: &str) -> String {
    let detail = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()));
    let text: String = detail
        .as_deref()
        .unwrap_or(body)
        .replace(char::is_control, " ")
        .trim()
        .chars()
        .take(EXPLANATION)
        .collect();
    if text.is_empty() || text.starts_with('<') {
        // Nobody wants to read HTML here.
        return String::new();
    }
    format!(": {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_not_the_server() {
        let [proxy, first, second]: [IpAddr; 3] = [
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
            Ipv4Addr::new(192, 0, 2, 1).into(),
        ];
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().into();
        let found = [first, second];
        assert_eq!(choose(&found, Some(proxy)), Some(first));
        assert_eq!(choose(&found, Some(mapped)), Some(second));
        assert_eq!(choose(&found, None), Some(first));
        assert_eq!(choose(&[], Some(proxy)), None);
    }

    #[test]
    fn explanations_are_for_people() {
        assert_eq!(
            explain(r#"{"detail": "no room", "status": 503}"#),
            ": no room"
        );
        assert_eq!(explain(" plain\n"), ": plain");
        assert_eq!(explain("\u{1b}[2Jgone\u{7}"), ": [2Jgone");
        assert_eq!(explain("<html>"), "");
        assert_eq!(explain(""), "");
        assert_eq!(explain(&"x".repeat(1000)).len(), EXPLANATION + 2);
    }
}
