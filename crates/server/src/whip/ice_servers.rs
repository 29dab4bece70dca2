use axum::http::HeaderValue;
use webrtc::ice_transport::ice_server::RTCIceServer;

/// One `Link` header for each URL of STUN and TURN servers (RFC 9725 §4.6).
pub(super) fn links(servers: &[RTCIceServer]) -> impl Iterator<Item = HeaderValue> {
    servers.iter().flat_map(|server| {
        let account = account(server);
        server.urls.iter().filter_map(move |url| {
            let link = format!("<{url}>; rel=\"ice-server\"{account}");
            HeaderValue::try_from(link).ok()
        })
    })
}

fn account(server: &RTCIceServer) -> String {
    if server.username.is_empty() {
        return String::new();
    }
    let (username, credential) = (quoted(&server.username), quoted(&server.credential));
    format!("; username={username}; credential={credential}; credential-type=\"password\"")
}

/// A quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
