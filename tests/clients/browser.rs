//! A client that is a page in a browser, driven by `WebDriver`.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use perpacket_lab::{Node, NodeRuntime, Process, require_program, until};
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::{Capabilities, WebDriver};
use tokio::net::TcpListener;

use super::program::{INSTALL, installed};
use crate::support::connection::DEADLINE;

/// The port of a driver. It has a network of its own.
const PORT: u16 = 4444;

/// What the page does with a command, and the answer.
const COMMAND: &str = "const [line, done] = arguments; client.command(line).then(done);";

/// How to start a browser.
pub(crate) struct Kind {
    browser: &'static str,
    driver: &'static str,
    capabilities: fn(binary: &Path, files: &Path, camera: bool) -> Value,
}

pub(crate) const CHROMIUM: Kind = Kind {
    browser: "chromium",
    driver: "chromedriver",
    capabilities: chromium,
};

pub(crate) const FIREFOX: Kind = Kind {
    browser: "firefox-esr",
    driver: "geckodriver",
    capabilities: firefox,
};

pub(crate) struct Browser {
    driver: Option<WebDriver>,
    version: String,
    // In the order in which they go.
    _process: Process,
    runtime: NodeRuntime,
    _files: TempDir,
}

impl Browser {
    /// Starts a browser in a node and opens the page there, which asks for the camera or not.
    pub(crate) fn start(node: &Node, kind: &Kind, camera: bool) -> Result<Self> {
        let browser = require_program(kind.browser, INSTALL)?;
        let driver = installed(&format!("bin/{}", kind.driver))
            .or_else(|_| require_program(kind.driver, INSTALL))?;
        let files = tempfile::tempdir()?;
        let mut command = Command::new(&browser);
        let version = node.output(command.arg("--version").env("HOME", files.path()))?;
        let version = String::from_utf8(version.stdout)?.trim().to_owned();

        let mut command = Command::new(driver);
        command
            .arg(format!("--port={PORT}"))
            .env("HOME", files.path())
            .env("TMPDIR", files.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = node.spawn(&mut command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        until(
            DEADLINE,
            || format!("{} to listen", kind.driver),
            || Ok(node.run(|| TcpStream::connect(address)).ok()),
        )?;

        let capabilities: Capabilities =
            serde_json::from_value((kind.capabilities)(&browser, files.path(), camera))?;
        // Built together with the program, the HTTP client of the driver has no cryptography by itself, and
        // wants some where none is used. An error says that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = node.runtime()?;
        let driver = runtime.block_on(async {
            let page = serve().await?;
            let driver = WebDriver::new(format!("http://{address}"), capabilities).await?;
            anyhow::Ok((driver, page))
        });
        let (driver, page) = driver.with_context(|| version.clone())?;
        let this = Self {
            driver: Some(driver.clone()),
            version,
            _process: process,
            runtime,
            _files: files,
        };
        let query = if camera { "?media=camera" } else { "" };
        this.runtime.block_on(async {
            driver.set_script_timeout(DEADLINE).await?;
            driver.goto(format!("http://{page}/{query}")).await
        })?;
        Ok(this)
    }

    pub(crate) fn command(&mut self, line: &str) -> Result<Value> {
        if line == "versions" {
            return Ok(json!({"client": self.version, "on": "headless"}));
        }
        let driver = self.driver.clone().context("it has quit")?;
        let answer = self.runtime.block_on(async {
            let answer = driver.execute_async(COMMAND, vec![json!(line)]).await?;
            anyhow::Ok(answer.json().clone())
        });
        answer.with_context(|| line.to_owned())
    }

    /// Ends the browser.
    pub(crate) fn quit(mut self) -> Result<()> {
        let driver = self.driver.take().context("it has quit")?;
        Ok(self.runtime.block_on(driver.quit())?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(driver) = self.driver.take() {
            // What does not end so is ended with its node.
            let _ = self.runtime.block_on(driver.quit());
        }
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

fn chromium(binary: &Path, files: &Path, camera: bool) -> Value {
    let profile = format!("--user-data-dir={}", files.display());
    let mut args = vec![
        "--headless",
        // The user of a namespace of its own is root there, and root's Chromium wants no sandbox.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--autoplay-policy=no-user-gesture-required",
        &profile,
    ];
    if camera {
        // With permission to use it, also where a page does not ask, it no longer hides addresses.
        args.extend([
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
        ]);
    }
    json!({
        "browserName": "chrome",
        "goog:chromeOptions": {
            "binary": binary,
            "args": args,
            // Its own first page wants the internet, and what is to be opened waits for it.
            "prefs": {"session": {"restore_on_startup": 4, "startup_urls": ["about:blank"]}},
        },
    })
}

fn firefox(binary: &Path, _files: &Path, camera: bool) -> Value {
    json!({
        "browserName": "firefox",
        "moz:firefoxOptions": {
            "binary": binary,
            "args": ["-headless"],
            "prefs": {
                "media.autoplay.default": 0,
                "media.navigator.permission.disabled": camera,
                "media.navigator.streams.fake": camera,
                // Its fake devices do not count as ones that somebody has given permission for.
                "media.peerconnection.ice.obfuscate_host_addresses": !camera,
            },
        },
    })
}
