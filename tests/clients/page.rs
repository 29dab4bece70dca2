//! A client that is a page in a browser.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use perpacket_lab::Node;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::browser::{Browser, Kind};

/// What the page does with a command, and the answer.
const COMMAND: &str = "const [line, done] = arguments; client.command(line).then(done);";

pub(crate) struct Page(Browser);

impl Page {
    /// Starts a browser in a node and opens the page there, which asks for the camera or not.
    pub(crate) fn start(node: &Node, kind: &Kind, camera: bool) -> Result<Self> {
        let browser = Browser::start(node, kind, camera)?;
        let query = if camera { "?media=camera" } else { "" };
        browser.drive(|driver| async move {
            let page = serve().await?;
            driver.goto(format!("http://{page}/{query}")).await?;
            anyhow::Ok(())
        })?;
        Ok(Self(browser))
    }

    pub(crate) fn command(&mut self, line: &str) -> Result<Value> {
        if line == "versions" {
            return Ok(json!({"client": self.0.version(), "on": "headless"}));
        }
        let answer = self.0.drive(|driver| async move {
            let answer = driver.execute_async(COMMAND, vec![json!(line)]).await?;
            anyhow::Ok(answer.json().clone())
        });
        answer.with_context(|| line.to_owned())
    }

    /// Ends the browser.
    pub(crate) fn quit(self) -> Result<()> {
        self.0.quit()
    }
}

/// Serves the page where a browser trusts it, so that it may ask for the camera. To the WHIP server it is a stranger.
async fn serve() -> Result<SocketAddr> {
    macro_rules! script {
        ($name:literal) => {
            get(async || {
                (
                    [(CONTENT_TYPE, "text/javascript")],
                    include_str!(concat!("js/", $name)),
                )
            })
        };
    }
    let app = Router::new()
        .route("/", get(async || Html(include_str!("js/index.html"))))
        .route("/browser.js", script!("browser.js"))
        .route("/client.js", script!("client.js"))
        .route("/echo.js", script!("echo.js"))
        .route("/w3c.js", script!("w3c.js"))
        .route("/whip.js", script!("whip.js"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, app).await });
    Ok(address)
}
